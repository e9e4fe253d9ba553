//! Custom resources in the shapes that users write.

use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use serde_json::{Value, json};

/// Annotation on a pod: what the [`crate::Kubelet`] does with it. In a template's metadata it reaches the pods.
pub const FATE: &str = "integration-tests/fate";
/// The pod stays without a node.
pub const FATE_NO_NODE: &str = "no-node";

/// The pod's image lacks the commands `dask-scheduler` and `dask-worker`.
pub const FATE_LACKS_COMMAND: &str = "lacks-command";

/// A cluster as in dask-kubernetes' documentation.
#[must_use]
pub fn cluster(name: &str, workers: i32) -> DaskCluster {
    serde_json::from_value(cluster_json(name, workers)).expect("the template is a DaskCluster")
}

/// The same as JSON, to be bent.
#[must_use]
pub fn cluster_json(name: &str, workers: i32) -> Value {
    json!({
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name},
        "spec": {
            "scheduler": {
                "spec": {"containers": [{
                    "name": "scheduler",
                    "image": "dask:test",
                    "args": ["dask", "scheduler"],
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
            "worker": {"replicas": workers, "spec": worker_spec()},
        },
    })
}

/// A group as users add it: without labels and owner.
#[must_use]
pub fn group(name: &str, cluster: &str, workers: i32) -> DaskWorkerGroup {
    serde_json::from_value(json!({
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskWorkerGroup",
        "metadata": {"name": name},
        "spec": {"cluster": cluster, "worker": {"replicas": workers, "spec": worker_spec()}},
    }))
    .expect("the template is a DaskWorkerGroup")
}

fn worker_spec() -> Value {
    json!({"containers": [{
        "name": "worker",
        "image": "dask:test",
        "args": ["dask", "worker", "--name", "$(DASK_WORKER_NAME)"],
        "env": [{"name": "WORKER_ENV", "value": "first"}],
    }]})
}
