//! The operator acts on what it knows, which may be old.

use std::time::Duration;

use dask_operator_api::DaskWorkerGroup;
use integration_tests::wait::check;
use integration_tests::{Faults, Namespace, Operator, World, holds_for, wait_for};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;

/// Deletes at once, without grace.
async fn vanish(namespace: &Namespace, pod: &Pod) {
    let now = DeleteParams::default().grace_period(0);
    namespace.api::<Pod>().delete(&pod.name_any(), &now).await.unwrap();
}

#[tokio::test]
async fn workers_that_vanish_while_no_watch_runs_are_replaced() {
    let world = World::with_cluster("gap", 5).await;
    let before = world.namespace.workers("c-default").await;
    world.operator.faults.begin_blackout();
    for pod in &before[..2] {
        vanish(&world.namespace, pod).await;
    }
    world.operator.faults.end_blackout();
    let after = world.namespace.wait_for_ready_workers("c-default", 5).await;
    let kept = after.iter().filter(|pod| before.iter().any(|old| old.uid() == pod.uid())).count();
    assert_eq!(kept, 3, "only what vanished was replaced");
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn a_group_that_vanishes_while_no_watch_runs_is_made_again() {
    let world = World::with_cluster("gap-group", 2).await;
    world.operator.faults.begin_blackout();
    let old = world.namespace.get::<DaskWorkerGroup>("c-default").await;
    world.namespace.delete::<DaskWorkerGroup>("c-default").await;
    wait_for("the group's pods are collected", async || {
        let workers = world.namespace.workers("c-default").await;
        check(workers.is_empty(), || format!("{} workers", workers.len()))
    })
    .await;
    world.operator.faults.end_blackout();
    world.namespace.wait_for_ready_workers("c-default", 2).await;
    let new = world.namespace.get::<DaskWorkerGroup>("c-default").await;
    assert_ne!(old.uid(), new.uid());
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn nothing_is_made_twice_while_the_own_writes_are_not_seen() {
    let world = World::with_cluster("held", 1).await;
    world.observer.allow("c-default", 4);
    world.operator.faults.hold_watches();
    world.namespace.scale_group("c-default", 4).await;
    holds_for(Duration::from_secs(1), "nothing happens without news", async || {
        let workers = world.namespace.workers("c-default").await;
        check(workers.len() == 1, || format!("{} workers", workers.len()))
    })
    .await;
    // One event passes: the edit. What the operator makes of it stays unseen.
    world.operator.faults.release_watches();
    wait_for("the first new worker", async || {
        let workers = world.namespace.workers("c-default").await;
        check(workers.len() > 1, || format!("{} workers", workers.len()))
    })
    .await;
    world.operator.faults.hold_watches();
    holds_for(Duration::from_secs(3), "never more than wanted", async || {
        let workers = world.namespace.workers("c-default").await;
        check(workers.len() <= 4, || format!("{} workers", workers.len()))
    })
    .await;
    world.operator.faults.release_watches();
    world.namespace.wait_for_ready_workers("c-default", 4).await;
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn a_new_operator_that_sees_old_pods_late_makes_no_second_set() {
    let mut world = World::with_cluster("late", 3).await;
    let before = world.namespace.workers("c-default").await;
    world.operator.kill();
    let faults = Faults::recorder();
    // The first list shows all; from then on the watches are silent.
    faults.hold_watches();
    let operator = Operator::start(&world.namespace, &faults).await;
    operator.wait_until_ready().await;
    world.namespace.scale_group("c-default", 2).await;
    faults.release_watches();
    let after = world.namespace.wait_for_ready_workers("c-default", 2).await;
    assert!(
        after.iter().all(|pod| before.iter().any(|old| old.uid() == pod.uid())),
        "two of the old ones stay"
    );
    world.observer.assert_no_violation();
}
