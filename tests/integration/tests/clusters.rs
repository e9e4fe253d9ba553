//! What is told of a cluster: all that is in its way, each where it belongs, and few words when it goes well.

use std::collections::BTreeMap;

use dask_operator_api::{DaskCluster, DaskWorkerGroup, JobStatus};
use integration_tests::jobs::{job, wait_for_status};
use integration_tests::kubelet::{Ending, end_pod, wait_until_running};
use integration_tests::wait::check;
use integration_tests::{Namespace, World, templates, wait_for, wait_until_quiet};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Service};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::json;

#[tokio::test]
async fn a_refused_service_keeps_nothing_else_from_being_made() {
    let world = World::start("refused-service").await;
    let namespace = &world.namespace;
    namespace.limit("none", json!({"services": "0"})).await;
    namespace.create_object(&templates::cluster("c", 1)).await;
    let told = namespace.wait_for_cluster_condition("c", "SchedulerReady", "QuotaExceeded").await;
    assert!(told.message.contains("services"), "{}", told.message);
    namespace.wait_for_ready_workers("c-default", 1).await;
    namespace.find::<Deployment>("c-scheduler").await.unwrap();
    namespace.wait_for_cluster_condition("c", "WorkersReady", "AllReady").await;
    assert_eq!(namespace.wait_for_event("c", "QuotaExceeded").await.len(), 1);
    // While the refusal stands, an edit of something else is carried out.
    namespace.edit_cluster_replicas("c", 2).await;
    namespace.wait_for_ready_workers("c-default", 2).await;
    namespace.delete::<ResourceQuota>("none").await;
    namespace.wait_for_cluster_condition("c", "Ready", "AllReady").await;
}

#[tokio::test]
async fn a_refused_group_is_no_fault_of_the_scheduler() {
    let world = World::start("refused-group").await;
    let namespace = &world.namespace;
    namespace.limit("none", json!({"count/daskworkergroups.kubernetes.dask.org": "0"})).await;
    namespace.create_object(&templates::cluster("c", 1)).await;
    let told = namespace.wait_for_cluster_condition("c", "WorkersReady", "QuotaExceeded").await;
    assert!(told.message.contains("daskworkergroups"), "{}", told.message);
    namespace.wait_for_cluster_condition("c", "SchedulerReady", "AllReady").await;
    namespace.wait_for_cluster_condition("c", "Ready", "QuotaExceeded").await;
    namespace.delete::<ResourceQuota>("none").await;
    namespace.wait_for_ready_workers("c-default", 1).await;
}

#[tokio::test]
async fn obstacles_of_several_parts_are_all_told() {
    let world = World::start("obstacles").await;
    let namespace = &world.namespace;
    let foreign: Service = serde_json::from_value(json!({
        "metadata": {"name": "c-scheduler"}, "spec": {"ports": [{"port": 80}]},
    }))
    .unwrap();
    namespace.create_object(&foreign).await;
    namespace.limit("none", json!({"count/deployments.apps": "0"})).await;
    namespace.create_object(&templates::cluster("c", 1)).await;
    wait_for("both are told", async || {
        let status = namespace.find::<DaskCluster>("c").await?.status.unwrap_or_default();
        let ready = status.conditions.iter().find(|c| c.type_ == "SchedulerReady");
        let message = ready.map(|ready| ready.message.clone()).unwrap_or_default();
        check(message.contains("Service \"c-scheduler\"") && message.contains("deployments.apps"), || message)
    })
    .await;
    namespace.wait_for_event("c", "NameTaken").await;
    namespace.wait_for_event("c", "QuotaExceeded").await;
    namespace.find::<DaskWorkerGroup>("c-default").await.unwrap();
}

/// Events about an object, by reason and words, with how many there are.
async fn told(namespace: &Namespace, kind: &str, name: &str) -> BTreeMap<(String, String), usize> {
    let mut told = BTreeMap::new();
    for event in namespace.events_about(name).await {
        if event.regarding.as_ref().and_then(|about| about.kind.as_deref()) == Some(kind) {
            assert_eq!(event.type_.as_deref(), Some("Normal"), "{event:?}");
            let words = (event.reason.unwrap_or_default(), event.note.unwrap_or_default());
            *told.entry(words).or_default() += 1;
        }
    }
    told
}

#[tokio::test]
async fn a_good_life_is_told_in_few_events() {
    let mut world = World::with_cluster("good-life", 2).await;
    let namespace = &world.namespace.clone();
    namespace.wait_for_cluster_condition("c", "Ready", "AllReady").await;
    for size in [3, 1] {
        world.observer.allow("c-default", size);
        namespace.scale_group("c-default", size).await;
        namespace.wait_for_ready_workers("c-default", size).await;
        let words = format!("{size} of {size} workers are ready");
        wait_for(&words, async || {
            let status = namespace.find::<DaskCluster>("c").await?.status.unwrap_or_default();
            let ready = status.conditions.iter().any(|c| c.reason == "AllReady" && c.message == words);
            check(ready, || format!("{status:?}"))
        })
        .await;
    }
    wait_until_quiet(&world.operator.faults).await;
    let before = told(namespace, "DaskCluster", "c").await;
    let words: Vec<(&str, &str)> =
        before.keys().map(|(reason, words)| (reason.as_str(), words.as_str())).collect();
    assert_eq!(
        words,
        [
            ("Accepted", "the cluster was seen; its scheduler and its worker group are made next"),
            ("AllReady", "1 of 1 workers are ready"),
            ("AllReady", "2 of 2 workers are ready"),
            ("AllReady", "3 of 3 workers are ready"),
            ("AllReady", "the scheduler is ready"),
        ]
    );
    let group = told(namespace, "DaskWorkerGroup", "c-default").await;
    assert!(group.keys().any(|(reason, _)| reason == "ScaledUp"), "{group:?}");
    assert!(
        group.keys().any(|(reason, words)| reason == "ScaledDown" && words.contains("to reach 1")),
        "{group:?}"
    );
    for (event, count) in before.iter().chain(&group) {
        assert_eq!(*count, 1, "{event:?}");
    }
    world.restart_operator().await;
    wait_until_quiet(&world.operator.faults).await;
    assert_eq!(told(namespace, "DaskCluster", "c").await, before, "a restart of the operator is no news");
}

#[tokio::test]
async fn a_good_job_is_told_in_few_events() {
    let world = World::start("good-job").await;
    let namespace = &world.namespace;
    namespace.create_object(&job("job")).await;
    let runner = wait_until_running(namespace, "job-runner").await;
    wait_for_status(namespace, "job", JobStatus::Running).await;
    end_pod(namespace, &runner, Ending::Completed).await;
    wait_for_status(namespace, "job", JobStatus::Successful).await;
    namespace.wait_for_event("job", "JobSucceeded").await;
    let told = told(namespace, "DaskJob", "job").await;
    let reasons: Vec<&str> = told.keys().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, ["JobCreated", "JobSucceeded", "RunnerStarted"]);
    assert!(told.values().all(|count| *count == 1), "{told:?}");
}

#[tokio::test]
async fn a_scheduler_that_ends_itself_is_told_with_cause_and_cure() {
    let world = World::start("sleepy").await;
    let namespace = &world.namespace;
    let mut manifest = templates::cluster_json("c", 0);
    let idle = json!([{"name": "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT", "value": "20s"}]);
    manifest["spec"]["scheduler"]["spec"]["containers"][0]["env"] = idle;
    namespace.create_object(&serde_json::from_value::<DaskCluster>(manifest).unwrap()).await;
    namespace.wait_for_cluster_condition("c", "SchedulerLostState", "StateKept").await;
    namespace.wait_for_cluster_condition("c", "SchedulerReady", "AllReady").await;
    let pods: Vec<Pod> = namespace.list("dask.org/component=scheduler").await;
    let end = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
    let container = |ready: bool, state: serde_json::Value| {
        json!({"status": {
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            "containerStatuses": [{
                "name": "scheduler", "image": "dask:test", "imageID": "", "ready": ready, "restartCount": 1,
                "state": state, "lastState": end,
            }],
        }})
    };
    let patch = async |status: serde_json::Value| {
        let (name, params) = (pods[0].name_any(), PatchParams::default());
        namespace.api::<Pod>().patch_status(&name, &params, &Patch::Merge(status)).await.unwrap();
    };
    let says = |message: &str| {
        for words in ["exit code 0", "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT", "spec.idleTimeout"] {
            assert!(message.contains(words), "{words:?} is not in: {message}");
        }
    };
    let back_off =
        json!({"running": null, "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
    patch(container(false, back_off)).await;
    says(&namespace.wait_for_cluster_condition("c", "SchedulerReady", "SchedulerExited").await.message);
    says(&namespace.wait_for_event("c", "SchedulerExited").await[0].note.clone().unwrap_or_default());

    let running = json!({"waiting": null, "running": {"startedAt": "2026-01-01T00:00:00Z"}});
    patch(container(true, running)).await;
    world.link.say(|cluster| {
        let mut view = integration_tests::link::obliging(cluster);
        if let Some(sample) = &mut view.sample {
            std::sync::Arc::make_mut(sample).scheduler_id = "Scheduler-2".into();
        }
        view
    });
    says(
        &namespace.wait_for_cluster_condition("c", "SchedulerLostState", "SchedulerRestarted").await.message,
    );
    says(&namespace.wait_for_event("c", "SchedulerRestarted").await[0].note.clone().unwrap_or_default());
    namespace.wait_for_cluster_condition("c", "SchedulerReady", "AllReady").await;
}
