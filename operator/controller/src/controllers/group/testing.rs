//! Objects for the tests of this controller.

use std::collections::BTreeMap;
use std::sync::Arc;

use dask_operator_api::{DaskCluster, DaskWorkerGroup, DrainIntent, Reason};
use jiff::Timestamp;
use serde_json::json;

use crate::cluster_cache::records::{
    DeploymentRecord, PodProblem, PodRecord, PodState, RunnerPhase, RunnerRecord, Startup,
};
use crate::cluster_cache::snapshot::{GroupMembers, GroupSnapshot, LegacyWorker};
use crate::controllers::job::testing::runner;
pub(crate) use crate::scheduler_link::testing::heard;
use crate::scheduler_link::{LinkFailure, LinkView, Member, Members, Sample, testing};

/// A fixed time plus some seconds.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn cluster() -> DaskCluster {
    serde_json::from_value(json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster",
        "metadata": {"name": "simple", "namespace": "ns", "uid": "cluster-uid", "generation": 1},
        "spec": {
            "scheduler": {"spec": {"containers": [{"name": "scheduler"}]}, "service": {}},
            "worker": {"replicas": 3, "spec": {"containers": [{"name": "worker"}]}},
        },
    }))
    .unwrap()
}

pub(crate) fn group(replicas: i32) -> DaskWorkerGroup {
    serde_json::from_value(json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup",
        "metadata": {
            "name": "simple-default", "namespace": "ns", "uid": "group-uid", "generation": 1,
            "ownerReferences": [{
                "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "name": "simple",
                "uid": "cluster-uid", "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {"cluster": "simple", "worker": {"replicas": replicas, "spec": {"containers": [{
            "name": "worker", "image": "dask", "args": ["dask-worker", "--name", "$(DASK_WORKER_NAME)"],
            "env": [{"name": "WORKER_ENV", "value": "x"}],
        }]}}},
    }))
    .unwrap()
}

pub(crate) fn worker(ordinal: i64, state: PodState) -> Arc<PodRecord> {
    Arc::new(record(ordinal, state))
}

pub(crate) fn failed(ordinal: i64, reason: Reason, created: Timestamp) -> Arc<PodRecord> {
    let message = format!("pod \"w-{ordinal}\" failed");
    Arc::new(PodRecord {
        created,
        problem: Some(Box::new(PodProblem { reason, message })),
        ..record(ordinal, PodState::Failed)
    })
}

pub(crate) fn record(ordinal: i64, state: PodState) -> PodRecord {
    PodRecord {
        name: format!("w-{ordinal}").into(),
        uid: format!("uid-{ordinal}").into(),
        resource_version: 1,
        owner_uid: Some("group-uid".into()),
        ordinal: Some(ordinal),
        template_hash: None,
        metadata_hash: None,
        drain: None,
        node: None,
        ip: None,
        other_ips: Box::default(),
        running: state == PodState::Ready,
        created: at(0),
        state,
        ready_since: (state == PodState::Ready).then(|| at(1)),
        problem: None,
        restarts: 0,
        last_termination: None,
        startup: Startup::default(),
        worker_ended: None,
    }
}

/// A running worker with an address.
pub(crate) fn running(ordinal: i64) -> PodRecord {
    PodRecord { ip: Some(host(ordinal)), ..record(ordinal, PodState::Ready) }
}

/// The same, marked at this second.
pub(crate) fn marked(ordinal: i64, since: i64) -> PodRecord {
    let intent = DrainIntent { reason: Reason::ScaledDown, since: at(since) };
    PodRecord { drain: Some(Box::new(intent)), ..running(ordinal) }
}

fn host(ordinal: i64) -> Box<str> {
    format!("10.0.0.{ordinal}").into()
}

/// The Dask worker of the pod with this ordinal.
pub(crate) fn member(ordinal: i64, rank: Option<u32>) -> Member {
    let address = format!("tcp://{}:1", host(ordinal)).into();
    Member { address, name: format!("w-{ordinal}").into(), rank, ..Member::default() }
}

/// Dask workers by the ordinal of their pod.
pub(crate) fn members(of: impl IntoIterator<Item = (i64, Member)>) -> Members {
    let mut pods = BTreeMap::<i64, Vec<Member>>::new();
    for (ordinal, member) in of {
        pods.entry(ordinal).or_default().push(member);
    }
    let mut members = Members::default();
    for (ordinal, workers) in pods {
        members.insert(&format!("uid-{ordinal}"), workers);
    }
    members
}

/// A list in which the pods with these ordinals have no workers.
pub(crate) fn without_workers(ordinals: &[i64]) -> Members {
    let mut members = Members::default();
    for ordinal in ordinals {
        members.insert(&format!("uid-{ordinal}"), vec![]);
    }
    members
}

/// A link that hears nothing, for this reason.
pub(crate) fn failing(reason: Reason) -> LinkView {
    let failure = LinkFailure { reason, message: "no answer from 10.0.0.1:8786".to_owned(), since: at(0) };
    LinkView { asked: true, sample: None, failure: Some(failure) }
}

/// A sample that says nothing, taken at this second.
pub(crate) fn sample(seconds: i64) -> Sample {
    Sample { taken: at(seconds), ..testing::sample("scheduler-1") }
}

/// A link that heard the ranks of these workers, at this second.
pub(crate) fn ranked(seconds: i64, ranks: &[(i64, Option<u32>)]) -> LinkView {
    let members = members(ranks.iter().map(|&(ordinal, rank)| (ordinal, member(ordinal, rank))));
    heard(Sample { members: Some(Arc::new(members)), ..sample(seconds) })
}

/// A worker of the Python operator with pods in these states.
pub(crate) fn legacy(states: &[PodState]) -> LegacyWorker {
    let pod = |(number, state): (i64, &PodState)| {
        Arc::new(PodRecord {
            name: format!("old-1-hash-{number}").into(),
            ip: Some(host(number)),
            ordinal: None,
            ..record(number, *state)
        })
    };
    let deployment = DeploymentRecord {
        name: "old-1".into(),
        uid: "old-1-uid".into(),
        resource_version: 1,
        owner_uid: Some("group-uid".into()),
        terminating: false,
        worker: true,
        replicas: i32::try_from(states.len()).unwrap(),
        telemetry: None,
        template_hash: None,
        metadata_hash: None,
        module_command: None,
        recreates: false,
        pod_labels: None,
        replica_failure: None,
    };
    LegacyWorker { deployment: Arc::new(deployment), pods: (100..).zip(states).map(pod).collect() }
}

pub(crate) fn snapshot(replicas: i32, workers: Vec<Arc<PodRecord>>) -> GroupSnapshot {
    GroupSnapshot {
        members: GroupMembers { group: Arc::new(group(replicas)), workers, legacy: vec![] },
        cluster: Some(Arc::new(cluster())),
        scheduler_pods: vec![Arc::new(PodRecord { ordinal: None, ..record(0, PodState::Ready) })],
        runner: None,
        modules_stored: true,
        unanswered: std::collections::BTreeSet::new(),
    }
}

/// A group of a job's cluster; `owner` is the UID of the job that the runner belongs to.
pub(crate) fn of_job(replicas: i32, workers: Vec<Arc<PodRecord>>, owner: Option<&str>) -> GroupSnapshot {
    let job = json!({"apiVersion": "v1", "kind": "DaskJob", "name": "simple", "uid": "job-uid", "controller": true});
    let mut cluster = cluster();
    cluster.metadata.owner_references = Some(vec![serde_json::from_value(job).unwrap()]);
    let runner = |owner: &str| {
        Arc::new(RunnerRecord { owner_uid: Some(owner.into()), ..runner(RunnerPhase::Pending) })
    };
    GroupSnapshot {
        cluster: Some(Arc::new(cluster)),
        runner: owner.map(runner),
        ..snapshot(replicas, workers)
    }
}
