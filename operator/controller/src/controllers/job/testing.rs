//! Objects for the tests of this controller.

use std::sync::Arc;

use dask_operator_api::{DaskCluster, DaskJob};
use jiff::Timestamp;
use serde_json::json;

use super::build;
use crate::cluster_cache::records::{RunnerPhase, RunnerRecord};
use crate::cluster_cache::snapshot::JobSnapshot;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn job(name: &str) -> DaskJob {
    serde_json::from_value(json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskJob",
        "metadata": {"name": name, "namespace": "ns", "uid": "job-uid", "generation": 1, "resourceVersion": "7"},
        "spec": {
            "cluster": {"spec": {
                "scheduler": {"spec": {"containers": [{"name": "scheduler"}]}, "service": {}},
                "worker": {"replicas": 2, "spec": {"containers": [{"name": "worker"}]}},
            }},
            "job": {"spec": {"containers": [{"name": "job", "image": "dask"}]}},
        },
    }))
    .unwrap()
}

pub(crate) fn own_cluster() -> DaskCluster {
    let mut cluster = build::cluster(&job("job"), &"job".parse().unwrap());
    cluster.metadata.uid = Some("cluster-uid".to_owned());
    cluster
}

/// A runner of the job; it started at 5 and ended at 60, as far as its phase allows.
pub(crate) fn runner(phase: RunnerPhase) -> RunnerRecord {
    RunnerRecord {
        name: "job-runner".into(),
        uid: "runner-uid".into(),
        owner_uid: Some("job-uid".into()),
        terminating: false,
        gated: false,
        phase,
        started: (phase != RunnerPhase::Pending).then(|| at(5)),
        ended: phase.is_final().then(|| at(60)),
        problem: None,
        waiting_since: None,
    }
}

/// A job for which nothing was made.
pub(crate) fn new() -> JobSnapshot {
    JobSnapshot {
        job: Arc::new(job("job")),
        cluster: None,
        runner: None,
        last_run: None,
        scheduler_pods: vec![],
    }
}

/// A job whose cluster and runner exist.
pub(crate) fn made(phase: RunnerPhase) -> JobSnapshot {
    JobSnapshot {
        cluster: Some(Arc::new(own_cluster())),
        runner: Some(Arc::new(runner(phase))),
        last_run: (phase != RunnerPhase::Pending).then(|| Arc::new(runner(phase))),
        ..new()
    }
}
