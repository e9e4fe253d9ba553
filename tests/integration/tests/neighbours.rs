//! What one namespace notices of another in which everything fails.

use std::time::{Duration, Instant};

use dask_operator_api::DaskWorkerGroup;
use futures::{StreamExt, stream};
use integration_tests::operator::Launch;
use integration_tests::wait::check;
use integration_tests::{ApiServer, Fault, Faults, Kubelet, Namespace, Operator, templates, wait_for};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

/// Longest time until an Event is there or a cluster works. It is a second on a machine that is free.
const SOON: Duration = Duration::from_secs(5);

async fn two_namespaces() -> (Namespace, Namespace) {
    let server = ApiServer::shared().await;
    (server.namespace("noisy").await, server.namespace("quiet").await)
}

/// An operator of both.
async fn operator(noisy: &Namespace, quiet: &Namespace, faults: &Faults) -> Operator {
    let other = format!("--namespace={}", noisy.name);
    let launch = Launch::with_arguments(quiet, &["--leader-elect=false", &other]).faults(faults);
    let operator = Operator::launch(launch).await;
    operator.wait_until_ready().await;
    operator
}

#[tokio::test]
async fn hundreds_of_failing_groups_do_not_silence_another_namespace() {
    const GROUPS: usize = 300;
    let (noisy, quiet) = two_namespaces().await;
    let operator = operator(&noisy, &quiet, &Faults::recorder()).await;
    let create = |number: usize| {
        let group = templates::group(&format!("g-{number}"), "nowhere", 1);
        let noisy = &noisy;
        async move { drop(noisy.create_object(&group).await) }
    };
    stream::iter(0..GROUPS).for_each_concurrent(16, create).await;
    // Each wants another cluster all the time, which is news each time.
    let restless = noisy.clone();
    let _noise = AbortOnDropHandle::new(tokio::spawn(async move {
        for number in (0..GROUPS).cycle() {
            let patch = json!({"spec": {"cluster": format!("nowhere-{:04x}", fastrand::u16(..))}});
            restless.patch::<DaskWorkerGroup>(&format!("g-{number}"), patch).await;
        }
    }));
    wait_for("there are more Events than go out", async || {
        let limited = operator.metric("dask_operator_events_total", "outcome=\"rate_limited\"").await;
        check(limited > 50.0, || format!("{limited} were left out"))
    })
    .await;

    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let name = format!("q-{number}");
        let started = Instant::now();
        quiet.create_object(&templates::group(&name, "nowhere", 1)).await;
        quiet.wait_for_event(&name, "ClusterNotFound").await;
        slowest = slowest.max(started.elapsed());
    }
    assert!(slowest < SOON, "an Event of the quiet namespace came after {slowest:?}");
}

#[tokio::test]
async fn calls_that_hang_in_one_namespace_do_not_hold_up_another() {
    const HANG: Duration = Duration::from_secs(25);
    let (noisy, quiet) = two_namespaces().await;
    let _kubelet = Kubelet::start(&quiet).await;
    // As with an admission webhook that does not answer.
    let place = noisy.name.clone();
    let faults = Faults::plan(move |call| {
        if call.is_change() && call.is_in(&place) { Fault::DelayReply(HANG) } else { Fault::None }
    });
    let operator = operator(&noisy, &quiet, &faults).await;
    for number in 0..100 {
        noisy.create_object(&templates::cluster(&format!("c-{number}"), 3)).await;
    }
    wait_for("calls hang", async || {
        let hanging = faults.spoiled();
        check(hanging >= 20, || format!("{hanging} calls"))
    })
    .await;
    let started = Instant::now();
    quiet.create_object(&templates::cluster("c", 2)).await;
    quiet.wait_for_ready_workers("c-default", 2).await;
    let took = started.elapsed();
    assert!(took < HANG / 2, "the quiet cluster worked after {took:?}");
    drop(operator);
}
