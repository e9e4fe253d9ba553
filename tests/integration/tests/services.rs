//! The scheduler's Service: it leads to the scheduler, or it is said that it does not.

use std::time::Duration;

use dask_operator_api::DaskCluster;
use integration_tests::wait::check;
use integration_tests::{World, holds_for, templates, wait_for};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

/// A cluster `c` with one worker and a Service that is changed so.
fn cluster(change: &Value) -> DaskCluster {
    let mut manifest = templates::cluster_json("c", 1);
    for (key, value) in change.as_object().unwrap() {
        manifest["spec"]["scheduler"]["service"][key] = value.clone();
    }
    serde_json::from_value(manifest).unwrap()
}

#[rstest::rstest]
#[case::of_an_example("service-selector",
    json!({"selector": {"dask.org/cluster-name": "simple", "dask.org/component": "scheduler"}}),
    json!({"selector": {"dask.org/cluster-name": "c", "dask.org/component": "scheduler"}}),
    "ServiceSelectsNothing",
    &["\"c-scheduler\"", "dask.org/cluster-name=simple", "dask.org/cluster-name=c", "service.selector"])]
#[case::of_labels_that_nobody_has("service-labels",
    json!({"selector": {"app": "dask"}}),
    json!({"selector": {"app": null, "dask.org/cluster-name": "c"}}),
    "ServiceSelectsNothing", &["app=dask", "no app"])]
#[case::without_the_port("service-port",
    json!({"ports": [{"name": "http-dashboard", "port": 8787}]}),
    json!({"ports": [{"name": "comm", "port": 8786}]}),
    "ServicePortMissing", &["\"c-scheduler\"", "8786", "spec.scheduler.service.ports"])]
#[tokio::test]
async fn a_service_that_leads_nowhere_is_told(
    #[case] test: &str,
    #[case] wrong: Value,
    #[case] right: Value,
    #[case] reason: &str,
    #[case] words: &[&str],
) {
    let world = World::start(test).await;
    let namespace = &world.namespace;
    namespace.create_object(&cluster(&wrong)).await;
    let told = namespace.wait_for_cluster_condition("c", "SchedulerReady", reason).await;
    for word in words {
        assert!(told.message.contains(word), "{word:?} is not in: {}", told.message);
    }
    namespace.wait_for_ready_workers("c-default", 1).await;
    let ready = namespace.wait_for_cluster_condition("c", "Ready", reason).await;
    assert_eq!(ready.status, "False", "that the operator reaches the scheduler is no help");
    let events = namespace.wait_for_event("c", reason).await;
    assert_eq!((events.len(), events[0].type_.as_deref()), (1, Some("Warning")), "{events:?}");
    namespace.patch::<DaskCluster>("c", json!({"spec": {"scheduler": {"service": right}}})).await;
    namespace.wait_for_cluster_condition("c", "Ready", "AllReady").await;
}

#[tokio::test]
async fn ports_are_found_by_what_they_lead_to_and_a_persons_node_port_stays() {
    let world = World::start("service-renamed").await;
    let namespace = &world.namespace;
    let ports = json!([
        {"name": "dask-tcp-comm", "protocol": "TCP", "port": 18786, "targetPort": "tcp-comm"},
        {"name": "dask-http-dashboard", "protocol": "TCP", "port": 18787, "targetPort": "http-dashboard"},
    ]);
    namespace.create_object(&cluster(&json!({"type": "NodePort", "ports": ports}))).await;
    let workers = namespace.wait_for_ready_workers("c-default", 1).await;
    let address = format!("tcp://c-scheduler.{}.svc.cluster.local:18786", namespace.name);
    let env = workers[0].spec.as_ref().unwrap().containers[0].env.clone().unwrap();
    let told = env.iter().find(|variable| variable.name == "DASK_SCHEDULER_ADDRESS").unwrap();
    assert_eq!(told.value.as_deref(), Some(address.as_str()));
    namespace.wait_for_cluster_condition("c", "Ready", "AllReady").await;
    let scheduler = namespace.get::<DaskCluster>("c").await.status.unwrap().scheduler.unwrap();
    assert_eq!(scheduler.address, Some(address));
    assert!(scheduler.dashboard.unwrap().contains(":18787/"));

    // Any number of the default range that is free.
    let number = async || {
        let service = namespace.find::<Service>("c-scheduler").await?;
        Ok::<_, String>(service.spec.unwrap().ports.unwrap()[0].node_port.unwrap_or_default())
    };
    let before = number().await.unwrap();
    let patched = wait_for("a node port is set by hand", async || {
        let wanted = fastrand::i32(30_000..=32_767);
        let patch = json!([{"op": "replace", "path": "/spec/ports/0/nodePort", "value": wanted}]);
        let patch = kube::api::Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        let api = namespace.api::<Service>();
        let patched = api.patch("c-scheduler", &kube::api::PatchParams::default(), &patch).await;
        patched.map_err(|error| error.to_string())?;
        check(wanted != before, || "the same".to_owned())?;
        Ok(wanted)
    })
    .await;
    holds_for(Duration::from_secs(2), "it stays", async || {
        let now = number().await?;
        check(now == patched, || now.to_string())
    })
    .await;
    // Also when something else of the Service is edited.
    let edit = json!({"spec": {"scheduler": {"service": {"sessionAffinity": "ClientIP"}}}});
    namespace.patch::<DaskCluster>("c", edit).await;
    wait_for("the edit is there", async || {
        let service = namespace.find::<Service>("c-scheduler").await?.spec.unwrap();
        check(service.session_affinity.as_deref() == Some("ClientIP"), || format!("{service:?}"))
    })
    .await;
    assert_eq!(number().await.unwrap(), patched);
}
