//! What Kubernetes itself takes to end pods: nobody who waits for the end of workers can be quicker.

use anyhow::Result;
use chaos_tests::world::{World, is_ready};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::wait::wait_for;

const LABEL: &str = "bench-pod-end";
/// There as soon as the process obeys SIGTERM; before, the first process of a container ignores it.
const OBEYS: &str = "/tmp/obeys";

/// Seconds from the deletion of `count` running pods whose process ends at once until they are gone.
///
/// # Errors
/// When they do not come or go.
pub(super) async fn seconds_to_end(world: &World, count: usize) -> Result<f64> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let names: Vec<String> = (0..count).map(|number| format!("ends-at-once-{number}")).collect();
    for name in &names {
        pods.create(&PostParams::default(), &serde_json::from_value(pod(name))?).await?;
    }
    let selected = ListParams::default().labels(LABEL);
    wait_for("pods to be ready", async || {
        let list = pods.list(&selected).await;
        list.is_ok_and(|list| list.items.iter().filter(|pod| is_ready(pod)).count() == count)
    })
    .await?;
    let start = Instant::now();
    try_join_all(names.iter().map(async |name| pods.delete(name, &DeleteParams::default()).await)).await?;
    wait_for("pods to be gone", async || {
        pods.list_metadata(&selected).await.is_ok_and(|list| list.items.is_empty())
    })
    .await?;
    Ok(start.elapsed().as_secs_f64())
}

/// Python, as the workers, that ends at SIGTERM without any tidying.
fn ends_at_once() -> String {
    format!(
        "import os, signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(0)); open({OBEYS:?}, 'w'); signal.pause()"
    )
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {LABEL: ""}},
        "spec": {"containers": [{
            "name": "python", "image": testbed::images::DASK, "imagePullPolicy": "IfNotPresent",
            "command": ["python", "-c", ends_at_once()],
            "readinessProbe": {"exec": {"command": ["test", "-e", OBEYS]}, "periodSeconds": 1},
            "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}},
        }]},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_one() {
        let pod: Pod = serde_json::from_value(pod("p")).unwrap();
        let container = &pod.spec.unwrap().containers[0];
        assert_eq!(container.command.as_ref().unwrap()[2], ends_at_once());
        assert!(container.readiness_probe.as_ref().unwrap().exec.is_some());
        assert_eq!(container.image_pull_policy.as_deref(), Some("IfNotPresent"));
    }
}
