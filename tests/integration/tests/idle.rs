//! Clusters that have been idle for too long go, and no others.

use std::time::Duration;

use dask_operator::cluster_cache::ObjectKey;
use dask_operator::scheduler_link::Idleness;
use dask_operator_api::{DaskCluster, DaskJob, JobStatus};
use integration_tests::dask::{Dask, set_ip};
use integration_tests::jobs::{job_json, wait_for_status};
use integration_tests::kubelet::wait_until_running;
use integration_tests::operator::Launch;
use integration_tests::wait::check;
use integration_tests::{ApiServer, Kubelet, Operator, World, holds_for, templates, wait_for};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use tokio::time::sleep;

use crate::samples::{Says, Voice};

async fn with_timeout(test: &str, seconds: i64) -> World {
    let world = World::start(test).await;
    let mut cluster: DaskCluster = templates::cluster("c", 0);
    cluster.spec.idle_timeout = seconds;
    world.namespace.create_object(&cluster).await;
    world.namespace.wait_for_cluster_condition("c", "SchedulerReady", "AllReady").await;
    world
}

async fn is_gone(world: &World) {
    wait_for("the cluster is gone", async || {
        let clusters = world.namespace.list::<DaskCluster>("").await;
        check(clusters.is_empty(), || {
            format!("{:?}", clusters.iter().map(ResourceExt::name_any).collect::<Vec<_>>())
        })
    })
    .await;
}

#[tokio::test]
async fn an_idle_cluster_goes_when_its_time_is_over() {
    let world = with_timeout("idle", 2).await;
    let since = Timestamp::now();
    let _voice = Voice::start(&world, "c", Says::idle(Idleness::Since(since)));
    is_gone(&world).await;
    let lasted = Timestamp::now().duration_since(since);
    assert!(lasted > SignedDuration::from_secs(2), "gone after {lasted:#}");
    let events = world.namespace.wait_for_event("c", "IdleTimeout").await;
    let note = events[0].note.clone().unwrap_or_default();
    assert!(note.contains("for more than 2 s"), "{note}");
    assert_eq!(events[0].type_.as_deref(), Some("Normal"));
}

#[tokio::test]
async fn busy_unknown_and_unreachable_clusters_stay_and_work_again_begins_anew() {
    let world = with_timeout("busy", 1).await;
    let long_ago = Idleness::Since(Timestamp::UNIX_EPOCH);
    let busy = Says::idle(Idleness::Busy);
    let voice = Voice::start(&world, "c", busy);
    let stays = async |what: &str| {
        holds_for(Duration::from_millis(2500), what, async || {
            world.namespace.find::<DaskCluster>("c").await.map(drop)
        })
        .await;
    };
    stays("a busy cluster stays").await;
    voice.say(Says::idle(Idleness::Unknown));
    stays("one that cannot tell stays").await;
    voice.say(Says { silent: true, ..Says::idle(long_ago) });
    stays("one that does not answer stays").await;
    voice.say(Says::idle(long_ago));
    is_gone(&world).await;
}

#[tokio::test]
async fn without_a_timeout_idle_clusters_stay() {
    let world = with_timeout("no-timeout", 0).await;
    let _voice = Voice::start(&world, "c", Says::idle(Idleness::Since(Timestamp::UNIX_EPOCH)));
    holds_for(Duration::from_secs(2), "it stays", async || {
        world.namespace.find::<DaskCluster>("c").await.map(drop)
    })
    .await;
}

/// From here on nobody knows what the scheduler does: it may have been given a large graph.
#[tokio::test]
async fn an_idle_scheduler_that_answers_nothing_more_is_neither_deleted_nor_restarted() {
    let world = with_timeout("idle-silent", 2).await;
    let namespace = &world.namespace;
    let since = Timestamp::now();
    let silent = Says { last_asked: Some(since), ..Says::idle(Idleness::Since(since)) };
    let voice = Voice::start(&world, "c", silent);
    let mut containers = templates::cluster_json("c", 0)["spec"]["scheduler"]["spec"]["containers"].clone();
    containers[0]["image"] = "dask:new".into();
    let edit =
        json!({"scheduler": {"spec": {"containers": containers}}, "update": {"scheduler": "WhenIdle"}});
    let image = async || {
        let spec = namespace.get::<Deployment>("c-scheduler").await.spec.unwrap();
        spec.template.spec.unwrap().containers[0].image.clone().unwrap_or_default()
    };
    wait_for("the last answer is old", async || {
        check(Timestamp::now() > since + Duration::from_secs(3), || "not yet".to_owned())
    })
    .await;
    namespace.patch::<DaskCluster>("c", json!({ "spec": edit })).await;
    holds_for(Duration::from_secs(4), "it stays as it is", async || {
        namespace.find::<DaskCluster>("c").await?;
        let image = image().await;
        check(image == "dask:test", || image)
    })
    .await;
    namespace.patch::<DaskCluster>("c", json!({"spec": {"idleTimeout": 0}})).await;
    voice.say(Says::idle(Idleness::Since(since)));
    wait_for("the scheduler is made anew", async || {
        let image = image().await;
        check(image == "dask:new", || image)
    })
    .await;
    namespace.patch::<DaskCluster>("c", json!({"spec": {"idleTimeout": 2}})).await;
    is_gone(&world).await;
}

#[tokio::test]
async fn a_real_scheduler_whose_loop_is_blocked_is_not_idle() {
    let mut dask = Dask::new().await;
    dask.start_scheduler().await;
    let mut client = dask.client().await;
    let namespace = ApiServer::shared().await.namespace("idle-blocked").await;
    let _kubelet = Kubelet::start(&namespace).await;
    let arguments = ["--leader-elect=false", "--scheduler-access=direct"];
    let operator = Operator::launch(Launch::with_arguments(&namespace, &arguments)).await;
    let mut cluster = templates::cluster("c", 0);
    cluster.spec.idle_timeout = 600;
    let uid = namespace.create_object(&cluster).await.uid();
    let pod = wait_for("the scheduler's pod", async || {
        let pods: Vec<Pod> = namespace.list("dask.org/component=scheduler").await;
        pods.first().cloned().ok_or_else(|| "none".to_owned())
    })
    .await;
    let pod = wait_until_running(&namespace, &pod.name_any()).await;
    set_ip(&namespace, &pod, dask.scheduler_ip()).await;
    let key = ObjectKey::new(namespace.name.as_str(), "c");
    wait_for("the operator hears that it is idle", async || {
        let view = operator.context().links.view(&key, uid.as_deref());
        let idle = view.sample.as_ref().is_some_and(|sample| matches!(sample.idleness, Idleness::Since(_)));
        check(idle && view.failure.is_none(), || format!("{view:?}"))
    })
    .await;
    let block = "import threading\n\
        threading.Thread(target=lambda: client.run_on_scheduler(lambda: __import__('time').sleep(24))).start()";
    client.run(block).await;
    // What it said before is old by now.
    sleep(Duration::from_secs(5)).await;
    namespace.patch::<DaskCluster>("c", json!({"spec": {"idleTimeout": 1}})).await;
    holds_for(Duration::from_secs(10), "a blocked scheduler stays", async || {
        namespace.find::<DaskCluster>("c").await.map(drop)
    })
    .await;
    wait_for("it goes when it has said again that it is idle", async || {
        let left: Vec<DaskCluster> = namespace.list("").await;
        check(left.is_empty(), || format!("{} clusters", left.len()))
    })
    .await;
}

#[tokio::test]
async fn the_cluster_of_a_job_waits_for_the_jobs_program() {
    let world = World::start("idle-job").await;
    let namespace = &world.namespace;
    let since = Timestamp::now();
    let _voice = Voice::start(&world, "job", Says::idle(Idleness::Since(since)));
    let mut template = job_json("job");
    template["spec"]["cluster"]["spec"]["idleTimeout"] = json!(1);
    template["spec"]["job"]["spec"]["schedulingGates"] = json!([{"name": "integration-tests/closed"}]);
    namespace.create_object(&serde_json::from_value::<DaskJob>(template).unwrap()).await;
    wait_for_status(namespace, "job", JobStatus::ClusterCreated).await;
    let cluster: DaskCluster = namespace.get("job").await;
    holds_for(Duration::from_secs(4), "it stays while the program has not started", async || {
        let now = namespace.find::<DaskCluster>("job").await?;
        check(now.uid() == cluster.uid(), || "it was made again".to_owned())
    })
    .await;
    namespace.patch::<Pod>("job-runner", json!({"spec": {"schedulingGates": null}})).await;
    wait_for_status(namespace, "job", JobStatus::Running).await;
    is_gone(&world).await;
}
