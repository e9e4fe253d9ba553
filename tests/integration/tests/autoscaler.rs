//! DaskAutoscalers: the number that a scheduler wants becomes the size of the default group.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dask_operator::scheduler_link::Idleness;
use dask_operator_api::labels::{COOLDOWN_UNTIL, KOPF_FINALIZER};
use dask_operator_api::{DaskAutoscaler, DaskCluster, DaskWorkerGroup};
use integration_tests::fault::{Call, Refusal, listed};
use integration_tests::link::obliging;
use integration_tests::operator::Launch;
use integration_tests::wait::check;
use integration_tests::{
    ApiServer, Fault, Faults, Kubelet, Link, Namespace, Operator, World, holds_for, templates, wait_for,
    wait_until_quiet,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::json;

use crate::samples::{Says, Voice};

fn autoscaler(minimum: i32, maximum: i32) -> DaskAutoscaler {
    serde_json::from_value(json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler", "metadata": {"name": "c"},
        "spec": {"cluster": "c", "minimum": minimum, "maximum": maximum},
    }))
    .unwrap()
}

async fn condition(namespace: &Namespace, reason: &str) -> Condition {
    wait_for(&format!("ScalingActive for reason {reason}"), async || {
        let status = namespace.find::<DaskAutoscaler>("c").await?.status.unwrap_or_default();
        let found = status.conditions.iter().find(|c| c.type_ == "ScalingActive" && c.reason == reason);
        found.cloned().ok_or_else(|| format!("{status:?}"))
    })
    .await
}

async fn replicas(namespace: &Namespace) -> i32 {
    namespace.get::<DaskWorkerGroup>("c-default").await.spec.worker.replicas
}

async fn wait_for_replicas(namespace: &Namespace, expected: i32) {
    wait_for(&format!("{expected} workers are wanted"), async || {
        let found = replicas(namespace).await;
        check(found == expected, || found.to_string())
    })
    .await;
}

/// Lets the rest after a change be over.
async fn rested(namespace: &Namespace) {
    namespace
        .patch::<DaskAutoscaler>("c", json!({"metadata": {"annotations": {COOLDOWN_UNTIL: "0.0"}}}))
        .await;
}

async fn cooldown(namespace: &Namespace) -> f64 {
    let autoscaler: DaskAutoscaler = namespace.get("c").await;
    autoscaler.annotations()[COOLDOWN_UNTIL].parse().unwrap()
}

#[tokio::test]
async fn from_nothing_to_the_maximum_and_back_by_steps() {
    let world = World::with_cluster("autoscale", 0).await;
    let namespace = &world.namespace;
    world.observer.allow("c-default", 4);
    let voice = Voice::start(&world, "c", Says::wants(0));
    namespace.create_object(&autoscaler(0, 4)).await;
    condition(namespace, "TargetReached").await;

    let before = Timestamp::now();
    voice.say(Says::wants(1));
    wait_for_replicas(namespace, 1).await;
    let told = namespace.wait_for_event("c", "Autoscaled").await;
    let note = told[0].note.clone().unwrap_or_default();
    assert_eq!(note, "scaled \"c-default\" from 0 to 1 workers: the scheduler wants 1");
    let rest = cooldown(namespace).await - before.as_duration().as_secs_f64();
    assert!((15.0..60.0).contains(&rest), "it rests for {rest} s");

    // It rests, whatever the scheduler wants.
    voice.say(Says::wants(50));
    let resting = condition(namespace, "CoolingDown").await;
    assert_eq!(resting.status, "True");
    holds_for(Duration::from_secs(2), "no change while it rests", async || {
        let found = replicas(namespace).await;
        check(found == 1, || found.to_string())
    })
    .await;

    rested(namespace).await;
    wait_for_replicas(namespace, 4).await;
    rested(namespace).await;
    assert!(condition(namespace, "Bounded").await.message.contains("maximum of 4"));
    namespace.wait_for_ready_workers("c-default", 4).await;

    voice.say(Says::wants(0));
    for expected in [3, 2, 1, 0] {
        wait_for_replicas(namespace, expected).await;
        rested(namespace).await;
    }
    condition(namespace, "TargetReached").await;
    let decisions = "dask_operator_autoscaler_decisions_total";
    let changes = world.operator.metric(decisions, "reason=\"Autoscaled\"").await;
    assert!((changes - 6.0).abs() < f64::EPSILON, "{changes}");
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn an_adoption_that_is_refused_keeps_no_autoscaler_from_scaling() {
    let world = World::with_cluster("autoscale-orphan", 0).await;
    let namespace = &world.namespace;
    // Its owner is what is written first; the end of its rest is written to the same object.
    let refused = AtomicBool::new(false);
    world.operator.faults.set_plan(move |call| {
        let adopts = call.verb == "patch" && call.is_about("daskautoscalers");
        if adopts && !refused.swap(true, Ordering::Relaxed) {
            Fault::Refuse(Refusal::INVALID)
        } else {
            Fault::None
        }
    });
    world.observer.allow("c-default", 1);
    let _voice = Voice::start(&world, "c", Says::wants(1));
    namespace.create_object(&autoscaler(0, 4)).await;
    wait_for_replicas(namespace, 1).await;
    assert_eq!(namespace.wait_for_event("c", "AdmissionRefused").await.len(), 1);
    wait_for("it is adopted after all", async || {
        let owners = namespace.find::<DaskAutoscaler>("c").await?.owner_references().to_vec();
        check(owners.len() == 1, || format!("{owners:?}"))
    })
    .await;
}

#[tokio::test]
async fn without_news_of_the_scheduler_nothing_changes_and_nothing_is_written() {
    let world = World::with_cluster("unreachable", 2).await;
    let namespace = &world.namespace;
    let voice = Voice::start(&world, "c", Says { silent: true, ..Says::wants(50) });
    namespace.create_object(&autoscaler(0, 100)).await;
    assert_eq!(condition(namespace, "SchedulerUnreachable").await.status, "False");
    let told = namespace.wait_for_event("c", "SchedulerUnreachable").await;
    assert_eq!(told[0].type_.as_deref(), Some("Warning"));
    wait_until_quiet(&world.operator.faults).await;
    let before = world.operator.faults.writes().len();
    holds_for(Duration::from_secs(7), "no writes, for more than one round", async || {
        let writes = world.operator.faults.writes();
        check(writes.len() == before, || listed(&writes[before..]))
    })
    .await;
    assert_eq!(replicas(namespace).await, 2);
    voice.say(Says { target: None, ..Says::idle(Idleness::Busy) });
    condition(namespace, "Starting").await;
    voice.say(Says::wants(2));
    condition(namespace, "TargetReached").await;
}

#[tokio::test]
async fn a_cluster_that_is_missing_is_told_and_adopted_on_sight() {
    let world = World::start("no-cluster").await;
    let namespace = &world.namespace;
    let mut left = autoscaler(0, 4);
    left.metadata.finalizers = Some(vec![KOPF_FINALIZER.to_owned()]);
    namespace.create_object(&left).await;
    let missing = condition(namespace, "ClusterNotFound").await;
    assert_eq!(missing.status, "False");
    wait_until_quiet(&world.operator.faults).await;
    assert_eq!(
        namespace.get::<DaskAutoscaler>("c").await.finalizers(),
        [""; 0],
        "nobody else would take it away"
    );

    let cluster = namespace.create_object(&templates::cluster("c", 1)).await;
    wait_for("the cluster owns it", async || {
        let autoscaler = namespace.find::<DaskAutoscaler>("c").await?;
        let owners = autoscaler.owner_references();
        let owned = owners.len() == 1 && Some(&owners[0].uid) == cluster.metadata.uid.as_ref();
        check(owned, || format!("{owners:?}"))
    })
    .await;
    condition(namespace, "Starting").await;

    namespace.delete::<DaskCluster>("c").await;
    wait_for("it goes with its cluster", async || {
        let left = namespace.list::<DaskAutoscaler>("").await.len();
        check(left == 0, || left.to_string())
    })
    .await;
}

#[tokio::test]
async fn bounds_that_contradict_each_other_are_refused_and_change_nothing() {
    let world = World::with_cluster("bounds", 1).await;
    let namespace = &world.namespace;
    let _voice = Voice::start(&world, "c", Says::wants(3));
    let refusal = namespace.api().create(&PostParams::default(), &autoscaler(5, 3)).await.unwrap_err();
    assert!(refusal.to_string().contains("lower minimum or raise maximum"), "{refusal}");
    assert_eq!(replicas(namespace).await, 1);
    world.observer.allow("c-default", 3);
    namespace.create_object(&autoscaler(0, 10)).await;
    wait_for_replicas(namespace, 3).await;
}

#[tokio::test]
async fn deleting_it_leaves_the_workers() {
    let world = World::with_cluster("leave", 1).await;
    let namespace = &world.namespace;
    world.observer.allow("c-default", 3);
    let voice = Voice::start(&world, "c", Says::wants(3));
    namespace.create_object(&autoscaler(0, 10)).await;
    wait_for_replicas(namespace, 3).await;
    namespace.delete::<DaskAutoscaler>("c").await;
    voice.say(Says::wants(0));
    holds_for(Duration::from_secs(2), "the number stays", async || {
        let found = replicas(namespace).await;
        check(found == 3, || found.to_string())
    })
    .await;
}

#[tokio::test]
async fn of_two_autoscalers_the_older_one_acts_and_the_other_takes_its_place() {
    let world = World::with_cluster("rivals", 1).await;
    let namespace = &world.namespace;
    world.observer.allow("c-default", 3);
    let _voice = Voice::start(&world, "c", Says::wants(1));
    let named = |name: &str, number: i32| {
        let mut autoscaler = autoscaler(number, number);
        autoscaler.metadata.name = Some(name.to_owned());
        autoscaler
    };
    namespace.create_object(&named("c", 3)).await;
    wait_for_replicas(namespace, 3).await;
    namespace.create_object(&named("c-autoscaler", 1)).await;
    let conflict = async || {
        let status = namespace.find::<DaskAutoscaler>("c-autoscaler").await?.status.unwrap_or_default();
        let found = status.conditions.iter().find(|c| c.reason == "AutoscalerConflict").cloned();
        found.ok_or_else(|| format!("{status:?}"))
    };
    let told = wait_for("the younger one says that it does nothing", conflict).await;
    assert!(told.status == "False" && told.message.contains("DaskAutoscaler \"c\""), "{told:?}");
    let warned = namespace.wait_for_event("c-autoscaler", "AutoscalerConflict").await;
    assert_eq!((warned.len(), warned[0].type_.as_deref()), (1, Some("Warning")));
    rested(namespace).await;
    holds_for(Duration::from_secs(3), "the number stays", async || {
        let found = replicas(namespace).await;
        check(found == 3, || found.to_string())
    })
    .await;
    namespace.delete::<DaskAutoscaler>("c").await;
    wait_for_replicas(namespace, 2).await;
}

/// `KubeCluster.scale(n)` deletes the autoscaler, sets the group's number, and waits until it reads that number.
#[tokio::test]
async fn a_change_that_is_under_way_does_not_undo_a_clients() {
    // Adoption, rest and status: the change of the group follows the rest.
    let rests = |call: &Call| call.verb == "patch" && call.is_about("daskautoscalers");
    let faults =
        Faults::plan(
            move |call| {
                if rests(call) { Fault::DelayReply(Duration::from_secs(6)) } else { Fault::None }
            },
        );
    let namespace = &ApiServer::shared().await.namespace("late-scale").await;
    let _kubelet = Kubelet::start(namespace).await;
    let link = Link::scripted(|cluster| {
        let mut view = obliging(cluster);
        if let Some(sample) = &mut view.sample {
            Arc::make_mut(sample).adaptive_target = Some(5);
        }
        view
    });
    let operator = Operator::launch(Launch::alone(namespace).link(&link).faults(&faults)).await;
    namespace.create_object(&templates::cluster("c", 1)).await;
    namespace.wait_for_ready_workers("c-default", 1).await;
    namespace.create_object(&autoscaler(0, 10)).await;
    wait_for("the autoscaler is about to act", async || {
        let autoscaler = namespace.find::<DaskAutoscaler>("c").await?;
        check(autoscaler.annotations().contains_key(COOLDOWN_UNTIL), || format!("{autoscaler:?}"))
    })
    .await;
    namespace.delete::<DaskAutoscaler>("c").await;
    namespace.scale_group("c-default", 2).await;
    wait_for("the late write was refused", async || {
        let writes = operator.faults.writes();
        let refused = |call: &&Call| call.is_about("daskworkergroups") && call.status == Some(409);
        check(writes.iter().any(|call| refused(&call)), || listed(&writes))
    })
    .await;
    holds_for(Duration::from_secs(2), "the client's number stays", async || {
        let found = replicas(namespace).await;
        check(found == 2, || found.to_string())
    })
    .await;
}
