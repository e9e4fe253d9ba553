//! Objects for the tests of this controller.

use std::sync::Arc;

use dask_operator_api::{DaskCluster, DaskWorkerGroup, Reason};
use jiff::Timestamp;
use serde_json::json;

use crate::cluster_cache::records::{PodProblem, PodRecord, PodState};
use crate::cluster_cache::snapshot::{GroupMembers, GroupSnapshot};

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
        running: state == PodState::Ready,
        created: at(0),
        state,
        ready_since: (state == PodState::Ready).then(|| at(1)),
        problem: None,
        restarts: 0,
        last_termination: None,
    }
}

pub(crate) fn snapshot(replicas: i32, workers: Vec<Arc<PodRecord>>) -> GroupSnapshot {
    GroupSnapshot {
        members: GroupMembers { group: Arc::new(group(replicas)), workers },
        cluster: Some(Arc::new(cluster())),
        unanswered: std::collections::BTreeSet::new(),
    }
}
