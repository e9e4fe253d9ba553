//! Workers that end or vanish are replaced, slower each time if the template is to blame.

use dask_operator_api::{DaskWorkerGroup, WorkerFailures};
use integration_tests::kubelet::{Ending, end_pod, wait_until_running};
use integration_tests::wait::check;
use integration_tests::{Fault, Namespace, World, wait_for};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;

/// Lets the one worker end, and returns it.
async fn end_the_worker(namespace: &Namespace, ending: Ending) -> Pod {
    let [worker] = namespace.workers("c-default").await.try_into().expect("one worker");
    let worker: Pod = worker;
    let worker = wait_until_running(namespace, &worker.name_any()).await;
    end_pod(namespace, &worker, ending).await;
    worker
}

async fn wait_for_another(namespace: &Namespace, than: &Pod) -> Pod {
    wait_for("another worker is ready", async || {
        let workers = namespace.workers("c-default").await;
        let status = namespace.find::<DaskWorkerGroup>("c-default").await?.status.unwrap_or_default();
        match workers.as_slice() {
            [worker] if worker.uid() != than.uid() && status.ready_replicas == 1 => Ok(worker.clone()),
            _ => Err(format!("{} workers, {status:?}", workers.len())),
        }
    })
    .await
}

async fn failures(namespace: &Namespace) -> Option<WorkerFailures> {
    namespace.get::<DaskWorkerGroup>("c-default").await.status.and_then(|status| status.failures)
}

#[rstest::rstest]
#[case::error("error", Ending::Error, "PodFailed", 1)]
#[case::memory("memory", Ending::OutOfMemory, "OutOfMemory", 1)]
#[case::completed("completed", Ending::Completed, "WorkerExited", 1)]
#[case::evicted("evicted", Ending::Evicted, "PodLost", 0)]
#[tokio::test]
async fn an_ended_worker_is_replaced_and_the_reason_kept(
    #[case] name: &str,
    #[case] ending: Ending,
    #[case] reason: &str,
    #[case] consecutive: i32,
) {
    let world = World::with_cluster(&format!("ended-{name}"), 1).await;
    let ended = end_the_worker(&world.namespace, ending).await;
    wait_for_another(&world.namespace, &ended).await;
    let failures = failures(&world.namespace).await.expect("the failure is recorded");
    assert_eq!((failures.last_reason.as_str(), failures.consecutive), (reason, consecutive), "{failures:?}");
    assert!(failures.last_message.contains(&ended.name_any()), "{failures:?}");
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn the_second_failure_in_a_row_waits_and_a_restart_does_not_hurry() {
    let mut world = World::with_cluster("backoff", 1).await;
    let first = end_the_worker(&world.namespace, Ending::Error).await;
    let second = wait_for_another(&world.namespace, &first).await;
    end_the_worker(&world.namespace, Ending::Error).await;
    let message = wait_for("the condition says when the next try is", async || {
        let group = world.namespace.get::<DaskWorkerGroup>("c-default").await;
        let status = group.status.unwrap_or_default();
        let mut conditions =
            status.conditions.into_iter().filter(|c| c.type_ == "WorkersReady" && c.reason == "PodFailed");
        let message = conditions.next_back().map(|condition| condition.message);
        message.filter(|message| message.contains("2 failures in a row")).ok_or_else(|| "not yet".to_owned())
    })
    .await;
    assert!(message.contains("the next try is at") && message.contains(&second.name_any()), "{message}");
    let retry_after = failures(&world.namespace).await.unwrap().retry_after.0;

    world.restart_operator().await;
    let third = wait_for_another(&world.namespace, &second).await;
    let made = third.metadata.creation_timestamp.clone().unwrap().0;
    assert!(made >= retry_after, "made at {made}, allowed at {retry_after}");
    assert!(failures(&world.namespace).await.unwrap().retry_after.0 <= Timestamp::now());
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn deleted_workers_are_replaced_under_new_names() {
    let world = World::with_cluster("deleted", 3).await;
    let before = world.namespace.workers("c-default").await;
    for pod in &before {
        world.namespace.delete::<Pod>(&pod.name_any()).await;
    }
    wait_for("three other workers", async || {
        let workers = world.namespace.workers("c-default").await;
        let other = workers.iter().all(|pod| before.iter().all(|old| old.uid() != pod.uid()));
        check(other && workers.len() == 3, || format!("{} workers", workers.len()))
    })
    .await;
    world.namespace.wait_for_ready_workers("c-default", 3).await;
    assert_eq!(world.observer.ever().len(), 6, "{:?}", world.observer.ever());
    assert!(failures(&world.namespace).await.is_none_or(|failures| failures.consecutive == 0));
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn names_are_new_also_while_the_status_cannot_be_written() {
    let world = World::with_cluster("no-status", 0).await;
    world.observer.allow("c-default", 3);
    world.operator.faults.set_plan(|call| {
        if call.is_about("daskworkergroups/status") { Fault::FailBeforeSending } else { Fault::None }
    });
    world.namespace.scale_group("c-default", 3).await;
    let first = wait_for("three workers", async || {
        let workers = world.namespace.workers("c-default").await;
        check(workers.len() == 3, || format!("{} workers", workers.len()))?;
        Ok(workers)
    })
    .await;
    // All at once and without a trace, as far as the operator can see.
    world.operator.faults.begin_blackout();
    for pod in first {
        let now = DeleteParams::default().grace_period(0);
        world.namespace.api::<Pod>().delete(&pod.name_any(), &now).await.unwrap();
    }
    world.operator.faults.end_blackout();
    wait_for("six workers were made", async || {
        world.observer.assert_no_violation();
        let ever = world.observer.ever();
        check(ever.len() == 6, || format!("{ever:?}"))
    })
    .await;
    world.operator.faults.set_plan(|_| Fault::None);
    world.namespace.wait_for_ready_workers("c-default", 3).await;
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn a_deleted_scheduler_service_and_deployment_come_back() {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Service;

    let world = World::with_cluster("parts", 1).await;
    let service: Service = world.namespace.get("c-scheduler").await;
    let deployment: Deployment = world.namespace.get("c-scheduler").await;
    world.namespace.delete::<Service>("c-scheduler").await;
    world.namespace.delete::<Deployment>("c-scheduler").await;
    wait_for("both are made again", async || {
        let new_service = world.namespace.find::<Service>("c-scheduler").await?;
        let new_deployment = world.namespace.find::<Deployment>("c-scheduler").await?;
        let new = new_service.uid() != service.uid() && new_deployment.uid() != deployment.uid();
        check(new, || "still the old ones".to_owned())
    })
    .await;
}
