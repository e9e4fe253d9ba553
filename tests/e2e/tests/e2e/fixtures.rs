//! Clusters to test with.

use serde_json::{Value, json};

/// Selects the workers of a cluster's default group.
pub(crate) fn workers_of(cluster: &str) -> String {
    format!("dask.org/workergroup-name={cluster}-default,dask.org/component=worker")
}

/// Selects the scheduler of a cluster.
pub(crate) fn scheduler_of(cluster: &str) -> String {
    format!("dask.org/cluster-name={cluster},dask.org/component=scheduler")
}

/// A cluster that starts as quickly as Dask can.
pub(crate) fn cluster(name: &str, workers: i32) -> Value {
    let container = |container: &str, args: Value| {
        json!({
            "name": container, "image": testbed::images::DASK, "imagePullPolicy": "IfNotPresent", "args": args,
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        })
    };
    let mut scheduler = container("scheduler", json!(["dask-scheduler"]));
    scheduler["ports"] = json!([{"name": "tcp-comm", "containerPort": 8786}, {"name": "http-dashboard", "containerPort": 8787}]);
    let args = json!([
        "dask-worker",
        "--name",
        "$(DASK_WORKER_NAME)",
        "--nthreads",
        "1",
        "--no-nanny",
        "--memory-limit",
        "0",
        "--dashboard-address",
        "8788",
    ]);
    let mut worker = container("worker", args);
    worker["ports"] = json!([{"name": "http-dashboard", "containerPort": 8788}]);
    json!({
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name},
        "spec": {
            "scheduler": {
                "spec": {"containers": [scheduler]},
                "service": {
                    "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
                    "ports": [
                        {"name": "tcp-comm", "port": 8786, "targetPort": "tcp-comm"},
                        {"name": "http-dashboard", "port": 8787, "targetPort": "http-dashboard"},
                    ],
                },
            },
            "worker": {"replicas": workers, "spec": {"containers": [worker]}},
        },
    })
}
