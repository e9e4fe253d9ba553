//! Workers that have to go are drained first, and whoever is kept is named.

use std::collections::BTreeSet;
use std::time::Duration;

use dask_operator::scheduler_link::DrainProgress;
use dask_operator_api::{DaskCluster, DaskWorkerGroup, DaskWorkerGroupStatus, labels};
use integration_tests::fault::{Call, Refusal, listed};
use integration_tests::kubelet::{Ending, end_pod, wait_until_running};
use integration_tests::link::{self, ranking, with_drains};
use integration_tests::templates::{FATE, FATE_NO_NODE};
use integration_tests::wait::check;
use integration_tests::{Fault, Namespace, World, holds_for, templates, wait_for};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde_json::json;

const GROUP: &str = "c-default";

async fn status(namespace: &Namespace, group: &str) -> DaskWorkerGroupStatus {
    namespace.get::<DaskWorkerGroup>(group).await.status.unwrap_or_default()
}

async fn wait_for_scaling(namespace: &Namespace, group: &str, reason: &str) -> Condition {
    wait_for(&format!("{group} has Scaling for reason {reason}"), async || {
        let status = status(namespace, group).await;
        let scaling = status.conditions.iter().find(|condition| condition.type_ == "Scaling");
        scaling.filter(|scaling| scaling.reason == reason).cloned().ok_or_else(|| format!("{status:?}"))
    })
    .await
}

fn intent(pod: &Pod) -> Option<&String> {
    pod.annotations().get(labels::DRAIN)
}

async fn marked(namespace: &Namespace, group: &str) -> Vec<Pod> {
    let mut workers = namespace.workers(group).await;
    workers.retain(|pod| intent(pod).is_some());
    workers
}

async fn wait_for_marked(namespace: &Namespace, group: &str, count: usize) -> Vec<Pod> {
    wait_for(&format!("{count} marked workers in {group}"), async || {
        let marked = marked(namespace, group).await;
        check(marked.len() == count, || format!("{}", marked.len()))?;
        Ok(marked)
    })
    .await
}

/// Nobody is marked or deleted.
async fn nobody_goes(namespace: &Namespace, group: &str, workers: usize) {
    holds_for(Duration::from_secs(2), "every worker stays", async || {
        let all = namespace.workers(group).await;
        let marked = all.iter().filter(|pod| intent(pod).is_some()).count();
        check((all.len(), marked) == (workers, 0), || format!("{} workers, {marked} marked", all.len()))
    })
    .await;
}

/// Lets the group have so many workers, of which the new ones get no node.
async fn add_workers_without_node(namespace: &Namespace, replicas: i32) {
    namespace.patch::<DaskCluster>("c", json!({"spec": {"update": {"strategy": "OnDelete"}}})).await;
    let metadata = json!({"annotations": {FATE: FATE_NO_NODE}});
    let patch = json!({"spec": {"worker": {"metadata": metadata, "replicas": replicas}}});
    namespace.patch::<DaskWorkerGroup>(GROUP, patch).await;
}

#[tokio::test]
async fn workers_that_cannot_be_written_to_hold_up_no_others() {
    let world = World::with_cluster("stubborn", 6).await;
    let namespace = &world.namespace;
    let names: Vec<_> = namespace.workers(GROUP).await.iter().map(ResourceExt::name_any).collect();
    let (no_delete, no_mark) = (names[0].clone(), names[1].clone());
    world.operator.faults.set_plan(move |call| {
        let name = call.resource.as_ref().filter(|resource| resource.resource == "pods");
        let name = name.and_then(|resource| resource.name.as_deref());
        let refused = (call.verb == "delete" && name == Some(&no_delete))
            || (call.verb == "patch" && name == Some(&no_mark));
        if refused { Fault::Refuse(Refusal::FORBIDDEN) } else { Fault::None }
    });
    namespace.scale_group(GROUP, 0).await;
    wait_for("all other workers are gone", async || {
        let left: Vec<_> = namespace.workers(GROUP).await.iter().map(ResourceExt::name_any).collect();
        check(left == names[..2], || format!("{left:?}"))
    })
    .await;
    world.operator.faults.set_plan(|_| Fault::None);
    namespace.wait_for_ready_workers(GROUP, 0).await;
}

#[tokio::test]
async fn a_busy_worker_is_waited_for_and_named() {
    let world = World::with_cluster("busy", 3).await;
    let namespace = &world.namespace;
    let names: Vec<_> = namespace.workers(GROUP).await.iter().map(ResourceExt::name_any).collect();
    let cheapest = names[1].clone();
    let cheap = cheapest.clone();
    world.link.say(move |cluster| {
        let mut view = ranking(cluster, |name, number| Some(if name == cheap { 0 } else { number + 1 }));
        let drains = with_drains(cluster, &DrainProgress::Finishing { executing: 2 }).sample.unwrap();
        std::sync::Arc::make_mut(view.sample.as_mut().unwrap()).drains.clone_from(&drains.drains);
        view
    });
    namespace.scale_group(GROUP, 2).await;
    let marked = wait_for_marked(namespace, GROUP, 1).await;
    assert_eq!(marked[0].name_any(), cheapest);
    let scaling = wait_for_scaling(namespace, GROUP, "Draining").await;
    assert_eq!(scaling.status, "True");
    wait_for("the condition names worker and tasks", async || {
        let scaling = wait_for_scaling(namespace, GROUP, "Draining").await;
        let told = scaling.message == format!("worker \"{cheapest}\" finishes 2 tasks");
        check(told, || scaling.message.clone())
    })
    .await;
    wait_for("it counts as draining", async || {
        let (status, cluster) = (status(namespace, GROUP).await, namespace.get::<DaskCluster>("c").await);
        let counts = cluster.status.clone().unwrap_or_default().groups.remove(0);
        let told = (status.replicas, status.ready_replicas, counts.ready, counts.draining) == (2, 2, 2, 1);
        check(told, || format!("{status:?} {counts:?}"))
    })
    .await;
    namespace.wait_for_event(GROUP, "Draining").await;
    let described = namespace.kubectl(&format!("describe daskworkergroup {GROUP}"), "").await.stdout;
    assert!(described.contains(&cheapest) && described.contains("finishes 2 tasks"), "{described}");
    assert_eq!(namespace.workers(GROUP).await.len(), 3, "nobody is deleted before it is drained");

    world.link.say(link::obliging);
    namespace.wait_for_ready_workers(GROUP, 2).await;
    wait_for_scaling(namespace, GROUP, "AtDesiredSize").await;
    let left: Vec<_> = namespace.workers(GROUP).await.iter().map(ResourceExt::name_any).collect();
    assert_eq!(left, [names[0].clone(), names[2].clone()]);
    namespace.wait_for_event(GROUP, "ScaledDown").await;
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn protected_workers_are_kept_and_named() {
    let world = World::with_cluster("protected", 2).await;
    let namespace = &world.namespace;
    world.link.say(|cluster| ranking(cluster, |_, _| None));
    namespace.scale_group(GROUP, 1).await;
    let scaling = wait_for_scaling(namespace, GROUP, "WorkerProtected").await;
    let first = namespace.workers(GROUP).await[0].name_any();
    assert!(scaling.message.contains(&first), "{}", scaling.message);
    nobody_goes(namespace, GROUP, 2).await;
    namespace.wait_for_event(GROUP, "WorkerProtected").await;

    let kept = first.clone();
    world.link.say(move |cluster| ranking(cluster, |name, number| (name != kept).then_some(number)));
    let left = namespace.wait_for_ready_workers(GROUP, 1).await;
    assert_eq!(left[0].name_any(), first);
}

#[tokio::test]
async fn without_the_schedulers_word_only_workers_that_never_ran_go() {
    let world = World::with_cluster("silent", 2).await;
    let namespace = &world.namespace;
    world.link.say(|_| link::unreachable());
    world.observer.allow(GROUP, 3);
    add_workers_without_node(namespace, 3).await;
    wait_for("a worker without a node", async || {
        let count = namespace.workers(GROUP).await.len();
        check(count == 3, || format!("{count}"))
    })
    .await;
    namespace.scale_group(GROUP, 1).await;
    let scaling = wait_for_scaling(namespace, GROUP, "DrainUnconfirmed").await;
    assert!(scaling.message.contains("does not answer"), "{}", scaling.message);
    wait_for("the worker without a node is gone", async || {
        let count = namespace.workers(GROUP).await.len();
        check(count == 2, || format!("{count}"))
    })
    .await;
    nobody_goes(namespace, GROUP, 2).await;

    world.link.say(link::obliging);
    namespace.wait_for_ready_workers(GROUP, 1).await;
}

async fn set_policy(namespace: &Namespace, timeout: &str, action: &str) {
    let update = json!({"drainTimeout": timeout, "drainTimeoutAction": action});
    namespace.patch::<DaskCluster>("c", json!({"spec": {"update": update}})).await;
}

#[tokio::test]
async fn a_worker_that_is_not_drained_in_time_is_kept_or_deleted_as_the_policy_says() {
    let world = World::with_cluster("late", 2).await;
    let namespace = &world.namespace;
    world.link.drains(DrainProgress::Finishing { executing: 1 });
    set_policy(namespace, "2s", "Keep").await;
    namespace.scale_group(GROUP, 1).await;
    let marked = wait_for_marked(namespace, GROUP, 1).await;
    let scaling = wait_for_scaling(namespace, GROUP, "DrainTimedOut").await;
    assert!(scaling.message.contains(&marked[0].name_any()), "{}", scaling.message);
    namespace.wait_for_event(GROUP, "DrainTimedOut").await;
    assert_eq!(namespace.workers(GROUP).await.len(), 2);

    set_policy(namespace, "2s", "Delete").await;
    namespace.wait_for_ready_workers(GROUP, 1).await;
    let events = namespace.wait_for_event(GROUP, "DrainForced").await;
    let note = events[0].note.clone().unwrap_or_default();
    assert!(note.contains(&marked[0].name_any()) && note.contains("tasks"), "{note}");
}

#[tokio::test]
async fn a_refused_worker_is_a_member_again_once_another_went_in_its_place() {
    let world = World::with_cluster("refused", 3).await;
    let namespace = &world.namespace;
    let actor = namespace.workers(GROUP).await[0].name_any();
    let holder = actor.clone();
    world.link.say(move |cluster| {
        let mut view = link::obliging(cluster);
        let sample = std::sync::Arc::make_mut(view.sample.as_mut().unwrap());
        let mut pods = cluster.groups.iter().flat_map(|group| &group.workers);
        if let Some(pod) = pods.find(|pod| *pod.name == *holder)
            && let Some(drain) = sample.drains.get_mut(&pod.uid)
        {
            *drain = DrainProgress::Refused { message: "it holds an actor".to_owned(), fenced: false };
        }
        view
    });
    namespace.scale_group(GROUP, 2).await;
    namespace.wait_for_ready_workers(GROUP, 2).await;
    wait_for_scaling(namespace, GROUP, "AtDesiredSize").await;
    assert!(marked(namespace, GROUP).await.is_empty());
    assert_eq!(namespace.workers(GROUP).await[0].name_any(), actor);

    namespace.scale_group(GROUP, 0).await;
    let scaling = wait_for_scaling(namespace, GROUP, "DrainRefused").await;
    assert!(scaling.message.contains("it holds an actor"), "{}", scaling.message);
    namespace.wait_for_event(GROUP, "DrainRefused").await;
    world.link.say(link::obliging);
    namespace.wait_for_ready_workers(GROUP, 0).await;
}

fn pod_writes(calls: &[Call], verb: &str) -> Vec<Call> {
    calls.iter().filter(|call| call.verb == verb && call.is_about("pods")).cloned().collect()
}

#[tokio::test]
async fn many_edits_take_nobody_away_before_the_number_stands() {
    let world = World::with_cluster("edits", 6).await;
    let namespace = &world.namespace;
    // If a number stands for long enough on a busy machine, up to 8 go while up to 8 new ones come.
    world.observer.allow(GROUP, 8 + 8);
    let numbers = [1, 8, 3, 5, 2, 7, 4];
    let group = namespace.api::<DaskWorkerGroup>();
    for number in (0..200).map(|edit| numbers[edit % numbers.len()]) {
        let patch = kube::api::Patch::Merge(json!({"spec": {"worker": {"replicas": number}}}));
        group.patch(GROUP, &kube::api::PatchParams::default(), &patch).await.unwrap();
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    // Most times nobody; on a machine that stands still for a moment, a number may stand for long enough.
    let during = world.operator.faults.writes();
    let (patches, deletes) = (pod_writes(&during, "patch"), pod_writes(&during, "delete"));
    assert!(patches.len() + deletes.len() <= 20, "{}{}", listed(&patches), listed(&deletes));
    namespace.scale_group(GROUP, 3).await;
    namespace.wait_for_ready_workers(GROUP, 3).await;
    wait_for_scaling(namespace, GROUP, "AtDesiredSize").await;
    let writes = world.operator.faults.writes();
    let count = |verb| pod_writes(&writes, verb).len();
    assert!(
        count("create") <= 8 + deletes.len() && count("delete") <= count("create"),
        "{}",
        listed(&writes)
    );
    assert!(count("patch") <= 2 * count("create"), "each is marked about once: {}", listed(&writes));
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn a_drain_survives_the_operator_and_a_new_wish_makes_new_workers() {
    let mut world = World::with_cluster("restart-drain", 3).await;
    let namespace = &world.namespace.clone();
    world.link.drains(DrainProgress::Closing);
    namespace.scale_group(GROUP, 1).await;
    let before = wait_for_marked(namespace, GROUP, 2).await;
    world.restart_operator().await;
    world.observer.allow(GROUP, 4);
    namespace.scale_group(GROUP, 2).await;
    wait_for("a new worker next to those that go", async || {
        let status = status(namespace, GROUP).await;
        let all = namespace.workers(GROUP).await.len();
        check((all, status.ready_replicas) == (4, 2), || format!("{all} {status:?}"))
    })
    .await;
    let intents =
        |pods: &[Pod]| pods.iter().map(|pod| (pod.name_any(), intent(pod).cloned())).collect::<BTreeSet<_>>();
    assert_eq!(intents(&marked(namespace, GROUP).await), intents(&before), "the time goes on");
    world.link.say(link::obliging);
    namespace.wait_for_ready_workers(GROUP, 2).await;
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn two_groups_shrink_at_once_each_by_its_own_workers() {
    let world = World::with_cluster("two-groups", 3).await;
    let namespace = &world.namespace;
    world.observer.allow("c-extra", 3);
    namespace.create_object(&templates::group("c-extra", "c", 3)).await;
    namespace.wait_for_ready_workers("c-extra", 3).await;
    namespace.scale_group(GROUP, 1).await;
    namespace.scale_group("c-extra", 2).await;
    namespace.wait_for_ready_workers(GROUP, 1).await;
    namespace.wait_for_ready_workers("c-extra", 2).await;
    world.observer.settle(GROUP, 1).await;
    world.observer.settle("c-extra", 2).await;
    let deletes = pod_writes(&world.operator.faults.writes(), "delete");
    assert_eq!(deletes.len(), 3, "{}", listed(&deletes));
}

#[tokio::test]
async fn a_cluster_is_deleted_during_a_drain() {
    let world = World::with_cluster("delete-drain", 3).await;
    let namespace = &world.namespace;
    world.link.drains(DrainProgress::Finishing { executing: 1 });
    namespace.scale_group(GROUP, 1).await;
    wait_for_marked(namespace, GROUP, 2).await;
    namespace.delete::<DaskCluster>("c").await;
    wait_for("everything is gone", async || {
        let pods = namespace.list::<Pod>("").await.len();
        let groups = namespace.list::<DaskWorkerGroup>("").await.len();
        check((pods, groups) == (0, 0), || format!("{pods} pods, {groups} groups"))
    })
    .await;
}

#[tokio::test]
async fn a_node_vanishes_during_a_drain() {
    let world = World::with_cluster("node-drain", 4).await;
    let namespace = &world.namespace;
    world.link.drains(DrainProgress::Fencing);
    namespace.scale_group(GROUP, 2).await;
    let marked = wait_for_marked(namespace, GROUP, 2).await;
    end_pod(namespace, &marked[0], Ending::Evicted).await;
    let params = kube::api::DeleteParams::default().grace_period(0);
    namespace.api::<Pod>().delete(&marked[1].name_any(), &params).await.unwrap();
    namespace.wait_for_ready_workers(GROUP, 2).await;
    wait_for_scaling(namespace, GROUP, "AtDesiredSize").await;
    assert_eq!(status(namespace, GROUP).await.failures, None, "whoever was to go has not failed");
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn a_worker_that_begins_to_run_before_its_deletion_is_drained_instead() {
    let world = World::with_cluster("began", 0).await;
    let namespace = &world.namespace;
    world.observer.allow(GROUP, 1);
    add_workers_without_node(namespace, 1).await;
    let worker = wait_for("a worker without a node", async || {
        namespace.workers(GROUP).await.pop().ok_or("none".to_owned())
    })
    .await;
    // As the API server answers when the pod is not the version any more for which the deletion was decided.
    world.operator.faults.set_plan(|call| {
        let deletes = call.verb == "delete" && call.is_about("pods");
        if deletes { Fault::Refuse(Refusal::CONFLICT) } else { Fault::None }
    });
    world.link.drains(DrainProgress::Finishing { executing: 1 });
    namespace.scale_group(GROUP, 0).await;
    wait_for("a deletion was refused", async || {
        let deletes = pod_writes(&world.operator.faults.writes(), "delete");
        check(!deletes.is_empty(), || "none".to_owned())
    })
    .await;
    let name = worker.name_any();
    namespace.patch::<Pod>(&name, json!({"metadata": {"annotations": {FATE: null}}})).await;
    wait_until_running(namespace, &name).await;
    let marked = wait_for_marked(namespace, GROUP, 1).await;
    world.operator.faults.set_plan(|_| Fault::None);
    assert_eq!(marked[0].uid(), worker.uid());
    wait_for_scaling(namespace, GROUP, "Draining").await;
    world.link.say(link::obliging);
    namespace.wait_for_ready_workers(GROUP, 0).await;
}

#[tokio::test]
async fn a_group_without_a_scheduler_shrinks_because_nothing_is_held() {
    let world = World::with_cluster("no-scheduler", 2).await;
    let namespace = &world.namespace;
    let not_running = || {
        let mut view = link::unreachable();
        if let Some(failure) = &mut view.failure {
            failure.reason = dask_operator_api::Reason::SchedulerNotRunning;
        }
        view
    };
    world.link.say(move |_| not_running());
    namespace.scale_group(GROUP, 1).await;
    wait_for_scaling(namespace, GROUP, "DrainUnconfirmed").await;
    nobody_goes(namespace, GROUP, 2).await;
    namespace
        .patch::<k8s_openapi::api::apps::v1::Deployment>("c-scheduler", json!({"spec": {"replicas": 0}}))
        .await;
    namespace.wait_for_ready_workers(GROUP, 1).await;
}
