//! Objects for the tests of this controller.

use std::sync::Arc;

use dask_operator_api::{DaskCluster, DaskWorkerGroup, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::{build, updating};
use crate::cluster_cache::records::{
    DeploymentRecord, PodProblem, PodRecord, PodState, RunnerRecord, ServiceRecord, Startup,
};
use crate::cluster_cache::snapshot::{ClusterSnapshot, GroupMembers};
use crate::pods::telemetry;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn cluster(name: &str) -> DaskCluster {
    serde_json::from_value(json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster",
        "metadata": {"name": name, "namespace": "ns", "uid": "cluster-uid", "generation": 1},
        "spec": {
            "scheduler": {
                "spec": {"containers": [{
                    "name": "scheduler", "image": "dask", "args": ["dask-scheduler"],
                    "ports": [
                        {"name": "tcp-comm", "containerPort": 8786},
                        {"name": "http-dashboard", "containerPort": 8787},
                    ],
                }]},
                "service": {
                    "type": "ClusterIP",
                    "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
                    "ports": [
                        {"name": "tcp-comm", "port": 8786, "targetPort": "tcp-comm"},
                        {"name": "http-dashboard", "port": 8787, "targetPort": "http-dashboard"},
                    ],
                },
            },
            "worker": {"replicas": 2, "spec": {"containers": [{"name": "worker", "image": "dask"}]}},
        },
    }))
    .unwrap()
}

/// A snapshot in which nothing was made yet.
pub(crate) fn new(cluster: DaskCluster) -> ClusterSnapshot {
    ClusterSnapshot {
        cluster: Arc::new(cluster),
        service: None,
        deployment: None,
        scheduler_pods: vec![],
        groups: vec![],
        default_group: None,
        has_autoscaler: false,
        runner: None,
        job: None,
    }
}

/// A snapshot in which all objects exist, with a scheduler pod in this state.
pub(crate) fn made(scheduler: PodState) -> ClusterSnapshot {
    let cluster = cluster("simple");
    let name = "simple".parse().unwrap();
    let mut group = build::default_group(&cluster, &name);
    group.metadata.uid = Some("group-uid".into());
    group.metadata.resource_version = Some("8".into());
    ClusterSnapshot {
        service: Some(Arc::new(service(&cluster))),
        deployment: Some(Arc::new(deployment())),
        scheduler_pods: vec![Arc::new(pod("simple-scheduler-abc", scheduler))],
        groups: vec![GroupMembers { group: Arc::new(group.clone()), workers: vec![], legacy: vec![] }],
        default_group: Some(Arc::new(group)),
        has_autoscaler: false,
        runner: None,
        job: None,
        cluster: Arc::new(cluster),
    }
}

/// The cluster of a job, all of whose objects exist, with this runner.
pub(crate) fn of_job(runner: Option<RunnerRecord>) -> ClusterSnapshot {
    let mut snapshot = made(PodState::Ready);
    let owner = OwnerReference {
        kind: "DaskJob".to_owned(),
        uid: "job-uid".to_owned(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    Arc::make_mut(&mut snapshot.cluster).metadata.owner_references = Some(vec![owner]);
    snapshot.runner = runner.map(Arc::new);
    snapshot
}

pub(crate) fn service(cluster: &DaskCluster) -> ServiceRecord {
    ServiceRecord {
        name: "simple-scheduler".into(),
        uid: "service-uid".into(),
        resource_version: 1,
        owner_uid: Some("cluster-uid".into()),
        terminating: false,
        spec: cluster.spec.scheduler.service.clone(),
        has_ingress: false,
    }
}

pub(crate) fn deployment() -> DeploymentRecord {
    DeploymentRecord {
        name: "simple-scheduler".into(),
        uid: "deployment-uid".into(),
        resource_version: 1,
        owner_uid: Some("cluster-uid".into()),
        terminating: false,
        template_hash: updating::scheduler_hash(&cluster("simple")),
        metadata_hash: Some(super::build::metadata_hash(&cluster("simple"))),
        module_command: None,
        telemetry: Some(telemetry::modules_digest().to_owned()),
        worker: false,
        replicas: 1,
        recreates: true,
        replica_failure: None,
        pod_labels: None,
    }
}

pub(crate) fn pod(name: &str, state: PodState) -> PodRecord {
    PodRecord {
        name: name.into(),
        uid: format!("{name}-uid").into(),
        resource_version: 1,
        owner_uid: Some("replicaset-uid".into()),
        ordinal: None,
        template_hash: None,
        metadata_hash: None,
        drain: None,
        node: None,
        ip: None,
        other_ips: Box::default(),
        running: state == PodState::Ready,
        created: at(0),
        state,
        ready_since: None,
        problem: None,
        restarts: 0,
        last_termination: None,
        startup: Startup::default(),
        worker_ended: None,
    }
}

/// All objects exist; the scheduler had ended by itself and was started again.
pub(crate) fn exited(scheduler: PodState) -> ClusterSnapshot {
    let mut snapshot = made(scheduler);
    let end = PodProblem {
        reason: Reason::WorkerExited,
        message: "container \"scheduler\" ended with exit code 0 and was restarted".into(),
    };
    Arc::make_mut(&mut snapshot.scheduler_pods[0]).last_termination = Some(Box::new(end));
    snapshot
}

pub(crate) fn troubled(reason: Reason) -> PodRecord {
    PodRecord {
        problem: Some(Box::new(PodProblem { reason, message: "pod has trouble".into() })),
        ..pod("simple-scheduler-abc", PodState::Pending)
    }
}

pub(crate) fn workers(snapshot: &mut ClusterSnapshot, states: &[PodState]) {
    snapshot.groups[0].workers =
        (1..).zip(states).map(|(i, &state)| Arc::new(pod(&format!("w-{i}"), state))).collect();
}

pub(crate) fn default_group(snapshot: &mut ClusterSnapshot) -> &mut DaskWorkerGroup {
    Arc::make_mut(snapshot.default_group.as_mut().unwrap())
}
