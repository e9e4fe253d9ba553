//! The objects that both sides write, made by the operator's own builders.

use anyhow::{Context, Result};
use dask_operator::controllers::cluster::build;
use dask_operator::controllers::group::WorkerTemplate;
use dask_operator::pods::form::PodForm;
use dask_operator::pods::telemetry;
use dask_operator_api::{ClusterName, DaskCluster, DaskWorkerGroup, GroupName};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::ResourceExt;
use serde_json::{Value, json};

/// A cluster as a user writes it: probes, ports and resources included.
///
/// # Errors
/// When the manifest does not parse.
pub fn cluster(namespace: &str, name: &str, workers: i32) -> Result<DaskCluster> {
    let resources = json!({"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}});
    let cluster = json!({
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name, "namespace": namespace, "labels": {"team": "bench"}},
        "spec": {
            "scheduler": {
                "spec": {"containers": [{
                    "name": "scheduler", "image": "dask", "args": ["dask", "scheduler"], "resources": resources,
                    "ports": [{"name": "tcp-comm", "containerPort": 8786}, {"name": "http-dashboard", "containerPort": 8787}],
                    "readinessProbe": {"httpGet": {"path": "/health", "port": "http-dashboard"}, "periodSeconds": 5},
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
            "worker": {"replicas": workers, "spec": {"containers": [{
                "name": "worker", "image": "dask", "resources": resources,
                "args": ["dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--dashboard", "--dashboard-address", "8788"],
                "ports": [{"name": "http-dashboard", "containerPort": 8788}],
            }]}},
        },
    });
    serde_json::from_value(cluster).context("failed to read the cluster of the workload")
}

/// What belongs to one cluster. Pods need the UID that the API server gave to the group.
#[derive(Debug)]
pub struct Parts {
    /// The modules that the pods mount.
    pub config_map: ConfigMap,
    /// The scheduler's Service.
    pub service: Service,
    /// The scheduler's Deployment.
    pub deployment: Deployment,
    /// The default group.
    pub group: DaskWorkerGroup,
}

/// The parts of a stored cluster.
///
/// # Errors
/// When its name is not one of a cluster.
pub fn parts(cluster: &DaskCluster) -> Result<Parts> {
    let name: ClusterName = cluster.name_any().parse()?;
    Ok(Parts {
        config_map: telemetry::config_map(cluster),
        service: build::scheduler_service(cluster, &name),
        deployment: build::scheduler_deployment(cluster, &name, PodForm::default()),
        group: build::default_group(cluster, &name),
    })
}

/// The JSON of the first `count` worker pods of a stored group.
///
/// # Errors
/// When its name is not one of a group.
pub fn workers(
    cluster: &DaskCluster,
    group: &DaskWorkerGroup,
    count: i64,
) -> Result<impl Iterator<Item = Vec<u8>> + use<>> {
    let name: GroupName = group.name_any().parse()?;
    let template = WorkerTemplate::new(group, &name, cluster, PodForm::default())?;
    Ok((1..=count).map(move |ordinal| template.pod(ordinal)))
}

/// A merge patch with a status of a cluster, with all that the operator writes into it.
#[must_use]
pub fn cluster_status(phase: &str, workers: i64) -> Value {
    let conditions =
        ["Ready", "SchedulerReady", "SchedulerReachable", "WorkersReady", "Updating"].map(condition);
    json!({"status": {
        "phase": phase, "conditions": conditions, "observedGeneration": 1, "ready": format!("0/{workers}"),
        "replicas": workers, "readyReplicas": 0,
        "selector": "dask.org/workergroup-name=bench-000-default,dask.org/component=worker",
        "scheduler": {"address": "tcp://bench-000-scheduler.bench.svc.cluster.local:8786",
                      "dashboard": "http://bench-000-scheduler.bench.svc.cluster.local:8787/status", "restarts": 0},
        "groups": [{"name": "bench-000-default", "desired": workers, "pending": workers, "starting": 0, "ready": 0,
                    "failed": 0, "draining": 0, "terminating": 0}],
    }})
}

/// A merge patch with a status of a group, with all that the operator writes into it.
#[must_use]
pub fn group_status(workers: i64) -> Value {
    let conditions = ["WorkersReady", "Scaling", "Updating"].map(condition);
    json!({"status": {
        "conditions": conditions, "observedGeneration": 1, "replicas": workers, "readyReplicas": 0,
        "highestOrdinal": workers,
        "selector": "dask.org/workergroup-name=bench-000-default,dask.org/component=worker",
    }})
}

fn condition(type_: &str) -> Value {
    json!({"type": type_, "status": "False", "reason": "Starting", "message": "0 of 3 workers are ready",
           "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dask_operator_api::{ClusterPhase, DaskClusterStatus, DaskWorkerGroupStatus};

    use super::*;

    #[test]
    fn the_parts_and_workers_are_the_operators() {
        let mut cluster = cluster("bench", "c", 3).unwrap();
        cluster.metadata.uid = Some("cluster-uid".into());
        let mut parts = parts(&cluster).unwrap();
        assert_eq!(parts.service.name_any(), "c-scheduler");
        parts.group.metadata.uid = Some("group-uid".into());
        let pods = workers(&cluster, &parts.group, 3).unwrap();
        let pods: Vec<Value> = pods.map(|pod| serde_json::from_slice(&pod).unwrap()).collect();
        let names: BTreeSet<&str> = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
        assert_eq!(names.len(), 3);
        assert!(names.iter().all(|name| name.starts_with("c-default-worker-")), "{names:?}");
    }

    #[test]
    fn the_statuses_are_valid() {
        let read = |patch: &Value| patch["status"].clone();
        let status: DaskClusterStatus = serde_json::from_value(read(&cluster_status("Running", 3))).unwrap();
        assert_eq!((status.phase, status.replicas), (Some(ClusterPhase::Running), 3));
        let status: DaskWorkerGroupStatus = serde_json::from_value(read(&group_status(3))).unwrap();
        assert_eq!((status.replicas, status.highest_ordinal), (3, 3));
    }
}
