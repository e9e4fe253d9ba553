//! At rest the operator writes nothing.

use std::time::Duration;

use dask_operator_api::DaskCluster;
use integration_tests::fault::{Call, listed};
use integration_tests::wait::check;
use integration_tests::{Faults, Namespace, World, holds_for, templates, wait_for, wait_until_quiet};

const CLUSTERS: usize = 20;
const WORKERS: i32 = 3;
const SILENCE: Duration = Duration::from_secs(6);

async fn all_are_ready(namespace: &Namespace) {
    wait_for("all clusters are ready", async || {
        let clusters: Vec<DaskCluster> = namespace.list("").await;
        let ready = |cluster: &DaskCluster| {
            let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let ready = clusters.iter().filter(|cluster| ready(cluster)).count();
        check(ready == CLUSTERS, || format!("{ready} of {CLUSTERS}"))
    })
    .await;
}

/// Everything but reads; Events count too.
fn changes(faults: &Faults) -> Vec<Call> {
    let mut calls = faults.calls();
    calls.retain(Call::is_change);
    calls
}

async fn is_silent(faults: &Faults) {
    let before = changes(faults).len();
    holds_for(SILENCE, "no writes at rest", async || {
        let calls = changes(faults);
        check(calls.len() == before, || listed(&calls[before..]))
    })
    .await;
}

#[tokio::test]
async fn twenty_clusters_at_rest_cost_no_write() {
    let mut world = World::start("rest").await;
    let namespace = &world.namespace.clone();
    let faults = &world.operator.faults.clone();
    for number in 0..CLUSTERS {
        namespace.create_object(&templates::cluster(&format!("c{number}"), WORKERS)).await;
    }
    all_are_ready(namespace).await;
    wait_until_quiet(faults).await;
    is_silent(faults).await;

    world.restart_operator().await;
    let operator = &world.operator;
    is_silent(&operator.faults).await;
    let calls = changes(&operator.faults);
    assert!(calls.is_empty(), "a restart writes nothing:{}", listed(&calls));
    let reconciles = operator.metric("dask_operator_reconciles_total", "outcome=\"success\"").await;
    assert!(reconciles >= 40.0, "every cluster and group was looked at, {reconciles} reconciliations");
}
