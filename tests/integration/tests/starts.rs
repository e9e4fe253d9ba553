//! Pods that cannot start as they were made: modules without a ConfigMap, commands that an image lacks, volumes that are
//! missing.

use dask_operator::pods::telemetry::config_map_name;
use dask_operator_api::labels::{COMPONENT, MODULE_COMMAND, SCHEDULER, TELEMETRY};
use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use integration_tests::kubelet::wait_until_running;
use integration_tests::templates::{FATE, FATE_LACKS_COMMAND};
use integration_tests::wait::check;
use integration_tests::{Namespace, World, templates, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota, Secret};
use kube::ResourceExt;
use serde_json::{Value, json};

fn mounts_modules(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref().unwrap();
    let mounts = spec.volumes.iter().flatten().any(|volume| volume.name == "dask-operator");
    let words = spec.containers[0].args.iter().flatten().any(|word| word == "--preload");
    assert_eq!(mounts, words, "flags, volume and variables go together");
    mounts
}

async fn schedulers(namespace: &Namespace) -> Vec<Pod> {
    namespace.list::<Pod>(&format!("{COMPONENT}={SCHEDULER}")).await
}

async fn the_scheduler(namespace: &Namespace) -> Pod {
    let [scheduler] = schedulers(namespace).await.try_into().expect("one scheduler");
    scheduler
}

/// Waits for the condition of a cluster to have this status and reason.
async fn modules(namespace: &Namespace, reason: &str) -> String {
    namespace.wait_for_cluster_condition("c", "ModulesReady", reason).await.message
}

#[tokio::test]
async fn a_quota_without_room_for_the_modules_costs_only_them() {
    let world = World::start("modules-quota").await;
    let World { namespace, observer, .. } = &world;
    namespace.limit("objects", json!({"configmaps": "0"})).await;
    observer.allow("c-default", 2);
    namespace.create_object(&templates::cluster("c", 1)).await;
    let [worker] = namespace.wait_for_ready_workers("c-default", 1).await.try_into().unwrap();
    assert!(!mounts_modules(&worker) && !mounts_modules(&the_scheduler(namespace).await));
    let message = modules(namespace, "QuotaExceeded").await;
    assert!(message.contains("leaves no room for a ConfigMap") && message.contains("evicted"), "{message}");
    let events = namespace.wait_for_event("c", "QuotaExceeded").await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(world.operator.metric("dask_operator_problems_total", "reason=\"QuotaExceeded\"").await >= 1.0);
    namespace.wait_for_cluster_condition("c", "Ready", "AllReady").await;

    namespace.delete::<ResourceQuota>("objects").await;
    modules(namespace, "ModulesStored").await;
    namespace.get::<ConfigMap>(&config_map_name("c")).await;
    let scheduler = the_scheduler(namespace).await;
    assert!(!mounts_modules(&scheduler), "what runs is not restarted");
    namespace.scale_group("c-default", 2).await;
    let workers = namespace.wait_for_ready_workers("c-default", 2).await;
    let with: Vec<_> = workers.iter().map(mounts_modules).collect();
    assert_eq!(with.iter().filter(|with| **with).count(), 1, "the new one has them");
}

#[tokio::test]
async fn modules_that_vanished_are_stored_again() {
    let world = World::with_cluster("modules-vanish", 1).await;
    let World { namespace, observer, .. } = &world;
    namespace.delete::<ConfigMap>(&config_map_name("c")).await;
    observer.allow("c-default", 2);
    namespace.scale_group("c-default", 2).await;
    let workers = namespace.wait_for_ready_workers("c-default", 2).await;
    assert!(workers.iter().all(mounts_modules), "the kubelet tries again by itself");
    namespace.get::<ConfigMap>(&config_map_name("c")).await;
}

#[tokio::test]
async fn modules_that_vanished_and_are_refused_hold_up_nobody() {
    let world = World::with_cluster("modules-gone", 1).await;
    let World { namespace, observer, .. } = &world;
    let [old] = namespace.workers("c-default").await.try_into().unwrap();
    namespace.delete::<ConfigMap>(&config_map_name("c")).await;
    namespace.limit("objects", json!({"configmaps": "0"})).await;
    observer.allow("c-default", 3);
    namespace.scale_group("c-default", 2).await;
    wait_for("a worker without modules is ready", async || {
        let workers = namespace.workers("c-default").await;
        let group = namespace.find::<DaskWorkerGroup>("c-default").await?;
        let ready = group.status.map_or(0, |status| status.ready_replicas);
        let bare = workers.iter().filter(|pod| !mounts_modules(pod)).count();
        check(ready == 2 && bare == 1, || format!("{ready} ready, {bare} without modules"))
    })
    .await;
    namespace.get::<Pod>(&old.name_any()).await;
    modules(namespace, "QuotaExceeded").await;
    let deployment: Deployment = namespace.get("c-scheduler").await;
    assert!(!deployment.annotations().contains_key(TELEMETRY), "a restart of the operator must know it");

    let scheduler = the_scheduler(namespace).await;
    namespace.delete::<Pod>(&scheduler.name_any()).await;
    wait_for("the scheduler runs without modules", async || {
        let pods = schedulers(namespace).await;
        let phase =
            |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        let found = pods.iter().map(|pod| (phase(pod), mounts_modules(pod))).collect::<Vec<_>>();
        check(found == [("Running".to_owned(), false)], || format!("{found:?}"))
    })
    .await;
}

/// A cluster of the old commands, whose image lacks them; `policy` is the workers' restart policy.
fn lacking(policy: &str) -> DaskCluster {
    let mut cluster = templates::cluster_json("c", 2);
    cluster["metadata"]["annotations"] = json!({FATE: FATE_LACKS_COMMAND});
    let worker = json!(["dask-worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "2"]);
    cluster["spec"]["worker"]["metadata"] = json!({"annotations": {FATE: FATE_LACKS_COMMAND}});
    cluster["spec"]["worker"]["spec"]["containers"][0]["args"] = worker;
    cluster["spec"]["worker"]["spec"]["restartPolicy"] = json!(policy);
    // Another image, so that nothing is known of it when workers are made.
    cluster["spec"]["worker"]["spec"]["containers"][0]["image"] = json!("dask:workers");
    cluster["spec"]["scheduler"]["spec"]["containers"][0]["args"] =
        json!(["dask-scheduler", "--host", "0.0.0.0"]);
    serde_json::from_value(cluster).unwrap()
}

fn words(pod: &Pod) -> Vec<String> {
    pod.spec.as_ref().unwrap().containers[0].args.clone().unwrap_or_default()
}

#[rstest::rstest]
#[case::restarted("always", "Always")]
#[case::ended("never", "Never")]
#[tokio::test]
async fn commands_that_the_image_lacks_are_started_as_modules(#[case] name: &str, #[case] policy: &str) {
    let mut world = World::start(&format!("lacking-{name}")).await;
    world.observer.allow("c-default", 4);
    world.namespace.create_object(&lacking(policy)).await;
    let workers = world.namespace.wait_for_ready_workers("c-default", 2).await;
    let namespace = &world.namespace;
    for worker in &workers {
        let found = words(worker);
        assert_eq!(
            found[..7],
            [
                "python",
                "-m",
                "distributed.cli.dask_worker",
                "--name",
                "$(DASK_WORKER_NAME)",
                "--nthreads",
                "2"
            ]
        );
        assert!(mounts_modules(worker) && worker.annotations().contains_key(MODULE_COMMAND));
    }
    wait_for("the scheduler runs as a module", async || {
        let pods = schedulers(namespace).await;
        let found: Vec<_> = pods.iter().map(words).collect();
        check(
            found.len() == 1 && found[0][..4] == ["python", "-m", "distributed.cli.dask_scheduler", "--host"],
            || format!("{found:?}"),
        )
    })
    .await;
    for about in ["c", "c-default"] {
        let events = namespace.wait_for_event(about, "CommandReplaced").await;
        // Two workers may be seen to end one after the other.
        assert!(events.len() <= 2, "{events:?}");
        assert_eq!(events[0].type_.as_deref(), Some("Normal"));
        let note = events[0].note.as_deref().unwrap_or_default();
        assert!(note.contains("2026.6") && note.contains("dask:"), "{note}");
    }
    let status = namespace.get::<DaskWorkerGroup>("c-default").await.status.unwrap();
    assert_eq!(status.failures, None, "no failure of the template");

    // The next cluster starts right at once, also after a restart of the operator.
    world.restart_operator().await;
    let namespace = &world.namespace;
    let mut next = lacking(policy);
    next.metadata.name = Some("next".to_owned());
    world.observer.allow("next-default", 2);
    namespace.create_object(&next).await;
    let workers = namespace.wait_for_ready_workers("next-default", 2).await;
    assert!(workers.iter().all(|worker| words(worker)[0] == "python"));
    let made = namespace.list::<Pod>("dask.org/cluster-name=next,dask.org/component=scheduler").await;
    assert_eq!(made.len(), 1);
    assert_eq!(
        namespace.get::<Deployment>("next-scheduler").await.metadata.generation,
        Some(1),
        "never rolled"
    );
    assert_eq!(
        namespace
            .events_about("next-default")
            .await
            .iter()
            .filter(|event| { event.reason.as_deref() == Some("CommandReplaced") })
            .count(),
        0
    );
}

#[tokio::test]
async fn a_missing_volume_is_named_and_waited_for() {
    let world = World::start("missing-volume").await;
    let World { namespace, observer, .. } = &world;
    observer.allow("c-default", 1);
    let mut cluster = templates::cluster_json("c", 1);
    cluster["spec"]["worker"]["spec"]["volumes"] =
        json!([{"name": "feed", "secret": {"secretName": "feed-credentials"}}]);
    namespace.create_object(&serde_json::from_value::<DaskCluster>(cluster).unwrap()).await;
    let condition = namespace.wait_for_group_reason("c-default", "ContainerCannotStart").await;
    for word in ["feed-credentials", "FailedMount", "create what is missing"] {
        assert!(condition.message.contains(word), "{word} is not in {}", condition.message);
    }
    let events = namespace.wait_for_event("c-default", "ContainerCannotStart").await;
    assert_eq!(events.len(), 1, "{events:?}");
    namespace.wait_for_cluster_condition("c", "WorkersReady", "ContainerCannotStart").await;
    let secret: Secret = serde_json::from_value(json!({"metadata": {"name": "feed-credentials"}})).unwrap();
    namespace.create_object(&secret).await;
    namespace.wait_for_ready_workers("c-default", 1).await;
    namespace.wait_for_cluster_condition("c", "Ready", "AllReady").await;
}

#[tokio::test]
async fn a_missing_volume_of_the_scheduler_is_named() {
    let world = World::start("missing-scheduler-volume").await;
    let World { namespace, .. } = &world;
    let mut cluster = templates::cluster_json("c", 0);
    cluster["spec"]["scheduler"]["spec"]["volumes"] =
        json!([{"name": "site", "configMap": {"name": "site-config"}}]);
    namespace.create_object(&serde_json::from_value::<DaskCluster>(cluster).unwrap()).await;
    let condition = namespace.wait_for_cluster_condition("c", "SchedulerReady", "ContainerCannotStart").await;
    assert!(condition.message.contains("site-config"), "{}", condition.message);
    namespace.wait_for_event("c", "ContainerCannotStart").await;
}

#[tokio::test]
async fn a_worker_that_ended_beside_a_helper_is_replaced() {
    let world = World::start("helper").await;
    let World { namespace, observer, .. } = &world;
    observer.allow("c-default", 2);
    let mut cluster = templates::cluster_json("c", 1);
    let spec = &mut cluster["spec"]["worker"]["spec"];
    spec["restartPolicy"] = json!("Never");
    let helper = json!({"name": "helper", "image": "helper:test"});
    spec["containers"].as_array_mut().unwrap().insert(0, helper);
    namespace.create_object(&serde_json::from_value::<DaskCluster>(cluster).unwrap()).await;
    let [worker] = namespace.wait_for_ready_workers("c-default", 1).await.try_into().unwrap();
    let worker: Pod = worker;
    let worker = wait_until_running(namespace, &worker.name_any()).await;
    let mut statuses: Vec<Value> = worker
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .map(|status| json!(status))
        .collect();
    let dask = statuses.iter_mut().find(|status| status["name"] == "worker").unwrap();
    dask["state"] = json!({"terminated": {"exitCode": 137, "reason": "Error"}});
    dask["ready"] = json!(false);
    let status = json!({"status": {"containerStatuses": statuses}});
    let pods: kube::Api<Pod> = namespace.api();
    pods.patch_status(
        &worker.name_any(),
        &kube::api::PatchParams::default(),
        &kube::api::Patch::Merge(status),
    )
    .await
    .unwrap();
    wait_for("another worker is ready", async || {
        let workers = namespace.workers("c-default").await;
        let status = namespace.find::<DaskWorkerGroup>("c-default").await?.status.unwrap_or_default();
        let replaced = workers.len() == 1 && workers[0].uid() != worker.uid() && status.ready_replicas == 1;
        check(replaced, || format!("{} workers, {status:?}", workers.len()))
    })
    .await;
    let failures = namespace.get::<DaskWorkerGroup>("c-default").await.status.unwrap().failures.unwrap();
    assert!(failures.last_message.contains("exit code 137"), "{failures:?}");
}
