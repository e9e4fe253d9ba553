//! Workers that use more memory than they may.

use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    fixtures::{cluster, workers_of},
    harness::{PATIENCE, shared},
};
use e2e_tests::clusters::condition;

/// A worker container with a memory limit.
fn limited(name: &str, workers: i32, limit: &str) -> Value {
    let mut manifest = cluster(name, workers);
    manifest["spec"]["worker"]["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": limit}});
    manifest
}

#[tokio::test]
async fn a_worker_that_a_task_drove_out_of_memory_is_replaced() {
    shared("oom-never", async |scenario| {
        let mut manifest = limited("greedy", 2, "300Mi");
        manifest["spec"]["worker"]["spec"]["restartPolicy"] = json!("Never");
        scenario.apply(&manifest).await?;
        scenario.ready("greedy", 2).await?;
        let client = scenario.client_pod().await?;
        client.wait_for_workers("greedy", 2, PATIENCE).await?;

        let victim = client.exhaust_memory("greedy", 1000).await?;

        let others = scenario
            .pods(&workers_of("greedy"), "two workers without the victim", |pods| {
                pods.len() == 2 && pods.iter().all(|pod| pod.name_any() != victim)
            })
            .await?;
        scenario.ready("greedy", 2).await?;
        let connected = client.wait_for_workers("greedy", 2, PATIENCE).await?;
        let mut names: Vec<_> = others.iter().map(ResourceExt::name_any).collect();
        names.sort();
        assert_eq!(connected, names);
        let failures = scenario.group("greedy-default").await?.status.and_then(|status| status.failures);
        let failures = failures.expect("the failure is remembered");
        assert_eq!(failures.last_reason, "OutOfMemory");
        assert!(failures.last_message.contains(&victim), "{}", failures.last_message);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_never_has_enough_memory_is_reported_so() {
    shared("oom-always", async |scenario| {
        let mut manifest = limited("hopeless", 1, "64Mi");
        let pod = &mut manifest["spec"]["worker"]["spec"];
        pod["restartPolicy"] = json!("Always");
        pod["containers"][0]["args"] = json!(["python", "-c", "b'x' * (1 << 30)"]);
        pod["containers"][0]["resources"]["requests"]["memory"] = json!("32Mi");
        scenario.apply(&manifest).await?;
        let seen = scenario.reason("hopeless", "WorkersReady", "OutOfMemory").await?;
        let message = &condition(&seen, "WorkersReady").unwrap().message;
        let pod = scenario.workers("hopeless").await?.remove(0).name_any();
        assert!(message.contains(&pod) && message.contains("resources.limits.memory"), "{message}");
        scenario.event("hopeless", "OutOfMemory").await?;
        Ok(())
    })
    .await;
}
