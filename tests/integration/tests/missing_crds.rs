//! The operator waits for the definitions it needs, says which is missing or too old, and starts by itself.

use dask_operator_api::DaskCluster;
use integration_tests::api_server::crds;
use integration_tests::fault::listed;
use integration_tests::operator::Launch;
use integration_tests::wait::check;
use integration_tests::{ApiServer, Kubelet, Operator, holds_for, templates, wait_for};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use std::time::Duration;

/// The definition of dask-kubernetes: no status subresource, and a status that holds the phase only.
fn old(crd: &CustomResourceDefinition) -> CustomResourceDefinition {
    let mut crd = crd.clone();
    let version = &mut crd.spec.versions[0];
    if let Some(subresources) = &mut version.subresources {
        subresources.status = None;
        if let Some(scale) = &mut subresources.scale {
            scale.label_selector_path = None;
        }
    }
    let schema = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()).unwrap();
    if let Some(status) = schema.properties.as_mut().and_then(|fields| fields.get_mut("status")) {
        status.properties.as_mut().unwrap().retain(|field, _| field == "phase");
        status.required = None;
    }
    crd
}

async fn wait_for_complaint(operator: &Operator, words: &[&str]) {
    wait_for(&format!("the probe says {words:?}"), async || {
        let said = operator.readiness().await.err().ok_or("it is ready")?;
        check(words.iter().all(|word| said.contains(word)), || said)
    })
    .await;
}

#[tokio::test]
async fn absent_then_old_then_right() {
    let server = ApiServer::own("crds").await;
    let namespace = server.namespace("home").await;
    let _kubelet = Kubelet::start(&namespace).await;
    let operator = Operator::launch(Launch::alone(&namespace)).await;
    let all = "daskclusters.kubernetes.dask.org";
    wait_for_complaint(
        &operator,
        &[all, "daskworkergroups.kubernetes.dask.org", "is missing", "helm upgrade"],
    )
    .await;

    for crd in crds() {
        server.apply_crd(&old(&crd)).await;
    }
    wait_for_complaint(
        &operator,
        &[all, "is older than this operator", "no status subresource", "helm upgrade"],
    )
    .await;
    namespace.create_object(&templates::cluster("c", 1)).await;
    holds_for(Duration::from_secs(2), "nothing is reconciled under an old definition", async || {
        let writes = operator.faults.writes();
        check(writes.is_empty(), || listed(&writes))
    })
    .await;
    let cluster: DaskCluster = namespace.get("c").await;
    assert_eq!(cluster.status, None);

    server.apply_crds().await;
    operator.wait_until_ready().await;
    namespace.wait_for_ready_workers("c-default", 1).await;
    assert_eq!(namespace.get::<DaskCluster>("c").await.uid(), cluster.uid());
    operator.stop().await;
    server.down().await;
}
