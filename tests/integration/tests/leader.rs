//! Two operators, one of which writes.

use std::time::{Duration, Instant};

use integration_tests::fault::listed;
use integration_tests::operator::Launch;
use integration_tests::wait::check;
use integration_tests::{ApiServer, Kubelet, Namespace, Observer, Operator, templates, wait_for};
use k8s_openapi::api::coordination::v1::Lease;

/// How long a Lease is valid without renewal.
const LEASE: Duration = Duration::from_secs(15);

async fn holder(namespace: &Namespace) -> Result<Option<String>, String> {
    let leases: Vec<Lease> = namespace.list("").await;
    let spec = leases.into_iter().next().and_then(|lease| lease.spec).ok_or("no lease")?;
    Ok(spec.holder_identity.filter(|holder| !holder.is_empty()))
}

async fn wait_for_holder(namespace: &Namespace, identity: &str) {
    wait_for(&format!("{identity} leads"), async || {
        let holder = holder(namespace).await?;
        check(holder.as_deref() == Some(identity), || format!("{holder:?} leads"))
    })
    .await;
}

async fn candidate(namespace: &Namespace, identity: &str) -> Operator {
    Operator::launch(Launch::candidate(namespace, identity)).await
}

/// Two replicas of which `one` leads, and a cluster with 2 workers.
async fn two(test: &str) -> (Namespace, Operator, Operator, Observer, Kubelet) {
    let namespace = ApiServer::shared().await.namespace(test).await;
    let kubelet = Kubelet::start(&namespace).await;
    let observer = Observer::start(&namespace);
    let one = candidate(&namespace, "one").await;
    wait_for_holder(&namespace, "one").await;
    let two = candidate(&namespace, "two").await;
    two.wait_until_ready().await;
    observer.allow("c-default", 2);
    namespace.create_object(&templates::cluster("c", 2)).await;
    namespace.wait_for_ready_workers("c-default", 2).await;
    let writes = two.faults.writes();
    assert!(writes.is_empty(), "only the leader writes:{}", listed(&writes));
    (namespace, one, two, observer, kubelet)
}

#[tokio::test]
async fn when_the_leader_dies_the_other_goes_on() {
    let (namespace, mut one, two, observer, _kubelet) = two("leader-dies").await;
    let died = Instant::now();
    // It dies in the midst of creating workers.
    observer.allow("c-default", 6);
    namespace.scale_group("c-default", 6).await;
    one.kill();
    wait_for_holder(&namespace, "two").await;
    assert!(died.elapsed() > LEASE / 2, "it waited for the lease to run out: {:?}", died.elapsed());
    namespace.wait_for_ready_workers("c-default", 6).await;
    observer.settle("c-default", 6).await;
    observer.assert_no_violation();
    two.stop().await;
}

#[tokio::test]
async fn a_leader_that_stops_gives_the_lease_back() {
    let (namespace, one, two, observer, _kubelet) = two("leader-stops").await;
    let stopped = Instant::now();
    one.stop().await;
    wait_for_holder(&namespace, "two").await;
    let pause = stopped.elapsed();
    observer.allow("c-default", 4);
    namespace.scale_group("c-default", 4).await;
    namespace.wait_for_ready_workers("c-default", 4).await;
    assert!(pause < LEASE, "the lease did not have to run out: {pause:?}");
    two.stop().await;
    wait_for("the last one gives it back too", async || {
        let holder = holder(&namespace).await?;
        check(holder.is_none(), || format!("{holder:?}"))
    })
    .await;
    observer.assert_no_violation();
}

#[tokio::test]
async fn a_leader_that_loses_the_api_server_stops_writing() {
    let (namespace, one, two, observer, _kubelet) = two("leader-cut-off").await;
    one.faults.set_plan(|call| {
        if call.is_about("leases") {
            integration_tests::Fault::FailBeforeSending
        } else {
            integration_tests::Fault::None
        }
    });
    wait_for_holder(&namespace, "two").await;
    // Until its term ended it was free to write.
    let cut = one.faults.write_count();
    observer.allow("c-default", 5);
    namespace.scale_group("c-default", 5).await;
    namespace.wait_for_ready_workers("c-default", 5).await;
    let late = one.faults.writes().split_off(cut);
    assert!(late.is_empty(), "the former leader wrote:{}", listed(&late));
    assert!(two.faults.write_count() > 0);
    observer.assert_no_violation();
}
