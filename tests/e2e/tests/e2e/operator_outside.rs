//! The operator on a developer's machine reaches the schedulers through the API server.

use e2e_tests::{
    Error, operator,
    operator_outside::OperatorOutside,
    wait::{self, Look},
};
use kube::ResourceExt;

use crate::{
    fixtures::{cluster, scheduler_of},
    harness::{PATIENCE, Scenario, alone_then},
};

const REPLICAS: u32 = 2;
const RESULTS: u8 = 40;

impl Scenario {
    /// Waits until the API server forwards exactly so many ports.
    async fn forwarded(&self, count: u64) -> Result<(), Error> {
        wait::until(&format!("{count} forwarded ports"), PATIENCE, async || {
            let open = forwarded(&self.kubernetes.kubectl("get --raw /metrics").run().await?);
            Ok(if open == count { Look::Done(()) } else { Look::NotYet(open.to_string()) })
        })
        .await
    }
}

/// How many ports of pods the API server forwards, by its metrics.
fn forwarded(metrics: &str) -> u64 {
    let gauges = metrics.lines().filter(|line| line.starts_with("apiserver_longrunning_requests{"));
    let forwards = gauges.filter(|line| line.contains("subresource=\"portforward\""));
    forwards.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn only_port_forwards_count() {
    let metrics = "# HELP apiserver_longrunning_requests by verb\n\
        apiserver_longrunning_requests{subresource=\"\",verb=\"WATCH\"} 7\n\
        apiserver_longrunning_requests{subresource=\"portforward\",verb=\"CONNECT\"} 2\n\
        apiserver_request_total{subresource=\"portforward\"} 90\n";
    assert_eq!(forwarded(metrics), 2);
}

#[tokio::test]
async fn an_operator_outside_drains_by_port_forward_and_leaves_none_open() {
    alone_then("operator-outside", outside, async |kubernetes| {
        operator::set_replicas(kubernetes, REPLICAS).await
    })
    .await;
}

async fn outside(scenario: &Scenario) -> Result<(), Error> {
    operator::set_replicas(scenario.kubernetes, 0).await?;
    let mut operator = OperatorOutside::start(scenario.kubernetes).await?;
    scenario.forwarded(0).await?;
    scenario.apply(cluster("far", 3)).await?;
    scenario.ready("far", 3).await?;
    scenario.forwarded(1).await?;

    let client = scenario.client_pod().await?;
    client.wait_for_workers("far", 3, PATIENCE).await?;
    let held = client.keep("far", RESULTS).await?;
    assert!(held.right && held.executions == u32::from(RESULTS), "{held:?}");
    scenario.scale("far", 1).await?;
    scenario.ready("far", 1).await?;
    let held = client.take_last("far", RESULTS).await?;
    assert!(held.right && held.executions == u32::from(RESULTS), "the drain lost results: {held:?}");
    scenario.forwarded(1).await?;

    let lost = scenario.pods(&scheduler_of("far"), "a scheduler", |pods| pods.len() == 1).await?;
    scenario.kubectl(&format!("delete pod {} --wait=false", lost[0].name_any())).run().await?;
    let another = |pods: &[k8s_openapi::api::core::v1::Pod]| {
        pods.len() == 1 && pods[0].name_any() != lost[0].name_any()
    };
    scenario.pods(&scheduler_of("far"), "another scheduler", another).await?;
    scenario.ready("far", 1).await?;
    scenario.forwarded(1).await?;

    scenario.kubectl("delete daskcluster far").run().await?;
    scenario.forwarded(0).await?;
    assert!(operator.is_running(), "it ended; see {}", operator.log().display());
    Ok(())
}
