//! Clusters that have been idle for too long go, and no others.

use std::time::Duration;

use dask_operator::scheduler_link::Idleness;
use dask_operator_api::DaskCluster;
use integration_tests::wait::check;
use integration_tests::{World, holds_for, templates, wait_for};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

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
