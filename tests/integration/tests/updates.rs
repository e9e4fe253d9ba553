//! Edits of clusters and groups reach their pods.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use dask_operator::cluster_cache::snapshot::{ClusterSnapshot, GroupMembers};
use dask_operator::pods::telemetry;
use dask_operator::scheduler_link::{DrainProgress, Idleness, LinkView, Member, Members, Sample};
use dask_operator_api::{DaskCluster, DaskWorkerGroup, labels};
use futures::{StreamExt, stream};
use integration_tests::link::{obliging, ranking, with_drains};
use integration_tests::operator::Launch;
use integration_tests::wait::check;
use integration_tests::{
    ApiServer, Fault, Faults, Kubelet, Namespace, Observer, Operator, World, holds_for, objects, templates,
    wait_for,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde_json::{Value, json};

const NEW: &str = "dask:new";
/// Long enough for the operator to do what it should not.
const A_WHILE: Duration = Duration::from_secs(2);

fn image(pod: &Pod) -> &str {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    container.and_then(|container| container.image.as_deref()).unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn uids(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().filter_map(ResourceExt::uid).collect()
}

/// The containers of a part of the cluster template, with another image.
fn containers(part: &str) -> Value {
    let mut containers = templates::cluster_json("c", 0)["spec"][part]["spec"]["containers"].take();
    containers[0]["image"] = NEW.into();
    containers
}

async fn edit_cluster(namespace: &Namespace, spec: Value) {
    namespace.patch::<DaskCluster>("c", json!({"spec": spec})).await;
}

fn new_workers() -> Value {
    json!({"worker": {"spec": {"containers": containers("worker")}}})
}

fn new_scheduler() -> Value {
    json!({"scheduler": {"spec": {"containers": containers("scheduler")}}})
}

async fn group_condition(namespace: &Namespace, type_: &str, reason: &str) -> Condition {
    wait_for(&format!("c-default has {type_} for reason {reason}"), async || {
        let status = namespace.find::<DaskWorkerGroup>("c-default").await?.status.unwrap_or_default();
        let found = status.conditions.iter().find(|c| c.type_ == type_ && c.reason == reason);
        found.cloned().ok_or_else(|| format!("{:?}", status.conditions))
    })
    .await
}

/// Waits until the group has so many ready workers of the new image and no others.
async fn all_are_new(namespace: &Namespace, count: usize) -> Vec<Pod> {
    wait_for("all workers are of the new template", async || {
        let workers = namespace.workers("c-default").await;
        let new = workers.iter().filter(|pod| image(pod) == NEW && is_ready(pod)).count();
        check(new == count && workers.len() == count, || format!("{new} new of {}", workers.len()))?;
        Ok(workers)
    })
    .await
}

#[tokio::test]
async fn workers_are_replaced_a_few_at_a_time() {
    let world = World::with_cluster("rolling", 4).await;
    let namespace = &world.namespace;
    world.observer.allow("c-default", 5);
    let before = uids(&namespace.workers("c-default").await);
    world.link.say(|cluster| with_drains(cluster, &DrainProgress::Finishing { executing: 1 }));
    edit_cluster(namespace, new_workers()).await;

    // One drains, its replacement is there, and the others work on however long that takes.
    let marked = async || -> Vec<Pod> {
        let mut workers = namespace.workers("c-default").await;
        workers.retain(|pod| pod.annotations().contains_key(labels::DRAIN));
        workers
    };
    wait_for("one is marked", async || check(marked().await.len() == 1, || "none".to_owned())).await;
    holds_for(A_WHILE, "one at a time", async || {
        let (marked, all) = (marked().await.len(), namespace.workers("c-default").await.len());
        check(marked == 1 && all <= 5, || format!("{marked} marked of {all}"))
    })
    .await;
    let told = group_condition(namespace, "Updating", "TemplateChanged").await;
    assert_eq!(told.status, "True");
    assert!(told.message.contains("is being replaced"), "{}", told.message);
    namespace.wait_for_cluster_condition("c", "Updating", "TemplateChanged").await;

    let mut least = usize::MAX;
    world.link.say(obliging);
    wait_for("all workers are of the new template", async || {
        let workers = namespace.workers("c-default").await;
        least = least.min(workers.iter().filter(|pod| is_ready(pod)).count());
        let new = workers.iter().filter(|pod| image(pod) == NEW && is_ready(pod)).count();
        check(new == 4 && workers.len() == 4, || format!("{new} new of {}", workers.len()))
    })
    .await;
    assert!(least >= 3, "only {least} of 4 were ready at some time");
    assert!(before.is_disjoint(&uids(&namespace.workers("c-default").await)));
    namespace.wait_for_cluster_condition("c", "Updating", "UpToDate").await;
    world.observer.assert_no_violation();
}

/// A shuffle begins anew when one of its workers leaves.
#[tokio::test]
async fn workers_that_the_scheduler_protects_are_replaced_when_it_does_no_more() {
    let world = World::with_cluster("shuffle", 2).await;
    let namespace = &world.namespace;
    world.observer.allow("c-default", 3);
    let before = uids(&namespace.workers("c-default").await);
    world.link.say(|cluster| ranking(cluster, |_, _| None));
    edit_cluster(namespace, new_workers()).await;
    let scaling = group_condition(namespace, "Scaling", "WorkerProtected").await;
    let updating = wait_for("the update says why it waits", async || {
        let told = group_condition(namespace, "Updating", "TemplateChanged").await;
        check(told.message.contains(&scaling.message), || told.message.clone())?;
        Ok(told)
    })
    .await;
    assert_eq!(updating.status, "True");
    holds_for(A_WHILE, "nobody is marked or replaced", async || {
        let workers = namespace.workers("c-default").await;
        let marked = workers.iter().filter(|pod| pod.annotations().contains_key(labels::DRAIN)).count();
        check(marked == 0 && uids(&workers) == before, || format!("{marked} marked of {}", workers.len()))
    })
    .await;
    world.link.say(obliging);
    all_are_new(namespace, 2).await;
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn a_template_that_does_not_start_stops_the_update() {
    let world = World::with_cluster("broken", 3).await;
    let namespace = &world.namespace;
    world.observer.allow("c-default", 4);
    let mut edit = new_workers();
    edit["worker"]["metadata"] = json!({"annotations": {templates::FATE: templates::FATE_NO_NODE}});
    edit_cluster(namespace, edit).await;
    let old = async || {
        let workers = namespace.workers("c-default").await;
        workers.iter().filter(|pod| image(pod) != NEW && is_ready(pod)).count()
    };
    wait_for("one is replaced", async || check(old().await == 2, || "not yet".to_owned())).await;
    holds_for(A_WHILE, "the others stay", async || {
        let old = old().await;
        check(old == 2, || format!("{old} of the old ones"))
    })
    .await;
    // A better template takes the place of the broken one at once.
    let annotations = json!({"annotations": {templates::FATE: null}});
    edit_cluster(namespace, json!({"worker": {"metadata": annotations}})).await;
    let mut worse = containers("worker");
    worse[0]["image"] = "dask:newest".into();
    edit_cluster(namespace, json!({"worker": {"spec": {"containers": worse}}})).await;
    wait_for("all are of the newest template", async || {
        let workers = namespace.workers("c-default").await;
        let newest = workers.iter().filter(|pod| image(pod) == "dask:newest" && is_ready(pod)).count();
        check(newest == 3 && workers.len() == 3, || format!("{newest} of {}", workers.len()))
    })
    .await;
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn on_delete_only_new_workers_are_of_the_new_template() {
    let world = World::with_cluster("on-delete", 2).await;
    let namespace = &world.namespace;
    let before = namespace.workers("c-default").await;
    let mut edit = new_workers();
    edit["update"] = json!({"strategy": "OnDelete"});
    edit_cluster(namespace, edit).await;
    let told = group_condition(namespace, "Updating", "UpdatedOnDelete").await;
    assert_eq!(told.status, "False");
    holds_for(A_WHILE, "nobody is replaced", async || {
        let workers = uids(&namespace.workers("c-default").await);
        check(workers == uids(&before), || format!("{workers:?}"))
    })
    .await;
    namespace.delete::<Pod>(&before[0].name_any()).await;
    wait_for("the next one is new", async || {
        let workers = namespace.workers("c-default").await;
        let new = workers.iter().filter(|pod| image(pod) == NEW && is_ready(pod)).count();
        check((new, workers.len()) == (1, 2), || format!("{new} of {}", workers.len()))
    })
    .await;
}

#[tokio::test]
async fn workers_that_wait_for_a_node_are_replaced_at_once() {
    let world = World::start("never-ran").await;
    let namespace = &world.namespace;
    world.observer.allow("c-default", 6);
    let mut manifest = templates::cluster_json("c", 3);
    manifest["spec"]["worker"]["metadata"] =
        json!({"annotations": {templates::FATE: templates::FATE_NO_NODE}});
    namespace.create_object(&serde_json::from_value::<DaskCluster>(manifest).unwrap()).await;
    wait_for("three workers wait", async || {
        let workers = namespace.workers("c-default").await;
        check(workers.len() == 3, || format!("{}", workers.len()))
    })
    .await;
    edit_cluster(namespace, new_workers()).await;
    wait_for("three others wait", async || {
        let workers = namespace.workers("c-default").await;
        let new = workers.iter().filter(|pod| image(pod) == NEW).count();
        check((new, workers.len()) == (3, 3), || format!("{new} of {}", workers.len()))
    })
    .await;
}

#[tokio::test]
async fn labels_reach_running_workers_in_place() {
    let world = World::with_cluster("labels", 2).await;
    let namespace = &world.namespace;
    let before = namespace.workers("c-default").await;
    let foreign = json!({"metadata": {"labels": {"others": "1"}}});
    namespace.patch::<Pod>(&before[0].name_any(), foreign).await;
    let edit = json!({
        "metadata": {"labels": {"team": "a"}, "annotations": {"note": "x"}},
        "spec": {"worker": {"metadata": {"labels": {"tier": "w"}}}},
    });
    namespace.patch::<DaskCluster>("c", edit).await;
    wait_for("the labels are there", async || {
        let workers = namespace.workers("c-default").await;
        let has = |pod: &Pod| {
            let label = |key: &str| pod.labels().get(key).map(String::as_str);
            label("team") == Some("a")
                && label("tier") == Some("w")
                && pod.annotations().get("note").map(String::as_str) == Some("x")
        };
        check(workers.iter().all(has), || {
            format!("{:?}", workers.iter().map(Pod::labels).collect::<Vec<_>>())
        })
    })
    .await;
    let after = namespace.workers("c-default").await;
    assert_eq!(uids(&before), uids(&after), "nobody was replaced");
    let first = after.iter().find(|pod| pod.name_any() == before[0].name_any()).unwrap();
    assert_eq!(first.labels()["others"], "1");
    let gone = json!({"metadata": {"labels": {"team": null}}});
    namespace.patch::<DaskCluster>("c", gone).await;
    holds_for(A_WHILE, "what was set stays on running pods", async || {
        let workers = namespace.workers("c-default").await;
        check(workers.iter().all(|pod| pod.labels().contains_key("team")), || "gone".to_owned())
    })
    .await;
}

async fn scheduler_image(namespace: &Namespace) -> String {
    let deployment: Deployment = namespace.get("c-scheduler").await;
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    pod.containers[0].image.clone().unwrap_or_default()
}

#[tokio::test]
async fn an_edited_scheduler_waits_for_permission() {
    let world = World::with_cluster("scheduler", 1).await;
    let namespace = &world.namespace;
    namespace.wait_for_cluster_condition("c", "Ready", "AllReady").await;
    let selector = namespace.get::<Deployment>("c-scheduler").await.spec.unwrap().selector;
    let mut edit = new_scheduler();
    edit["scheduler"]["metadata"] = json!({"labels": {"tier": "s"}});
    edit_cluster(namespace, edit).await;
    let told = namespace.wait_for_cluster_condition("c", "Updating", "SchedulerOutdated").await;
    assert_eq!(told.status, "False");
    holds_for(A_WHILE, "the scheduler is kept", async || {
        let image = scheduler_image(namespace).await;
        check(image != NEW, || image)
    })
    .await;
    world.link.say(|cluster| idle(cluster, Idleness::Busy));
    edit_cluster(namespace, json!({"update": {"scheduler": "WhenIdle"}})).await;
    holds_for(A_WHILE, "a busy scheduler is kept", async || {
        let image = scheduler_image(namespace).await;
        check(image != NEW, || image)
    })
    .await;
    world.link.say(|cluster| idle(cluster, Idleness::Since(Timestamp::now())));
    wait_for("the idle scheduler is made anew", async || {
        let image = scheduler_image(namespace).await;
        check(image == NEW, || image)
    })
    .await;
    namespace.wait_for_cluster_condition("c", "Updating", "UpToDate").await;
    let spec = namespace.get::<Deployment>("c-scheduler").await.spec.unwrap();
    assert_eq!(spec.selector, selector, "it cannot be changed");
    assert_eq!(spec.template.metadata.unwrap().labels.unwrap()["tier"], "s");

    let mut again = containers("scheduler");
    again[0]["image"] = "dask:newest".into();
    let edit = json!({"scheduler": {"spec": {"containers": again}}, "update": {"scheduler": "Always"}});
    edit_cluster(namespace, edit).await;
    wait_for("it is made anew at once", async || {
        let image = scheduler_image(namespace).await;
        check(image == "dask:newest", || image)
    })
    .await;
}

fn changed(cluster: &ClusterSnapshot, change: impl FnOnce(&mut Sample)) -> LinkView {
    let mut view = obliging(cluster);
    if let Some(sample) = &mut view.sample {
        change(Arc::make_mut(sample));
    }
    view
}

fn idle(cluster: &ClusterSnapshot, idleness: Idleness) -> LinkView {
    changed(cluster, |sample| sample.idleness = idleness)
}

#[tokio::test]
async fn a_lost_scheduler_is_told_and_its_stranded_workers_are_replaced() {
    let mut world = World::with_cluster("lost", 3).await;
    let namespace = &world.namespace.clone();
    world.observer.allow("c-default", 4);
    namespace.wait_for_cluster_condition("c", "SchedulerLostState", "StateKept").await;
    let before = namespace.workers("c-default").await;
    let lost = before[1].uid().unwrap();
    // It started after these workers and before any that is made from now on.
    let created = before.iter().filter_map(|pod| pod.metadata.creation_timestamp.as_ref()).map(|time| time.0);
    let started = created.max().expect("workers") + SignedDuration::from_secs(1);
    wait_for("the start of the scheduler is over", async || {
        let now = Timestamp::now();
        check(now > started + SignedDuration::from_secs(1), || now.to_string())
    })
    .await;
    // Its clock is 40 s ahead: nobody has to wait for those who might still join.
    world.link.say(move |cluster| {
        changed(cluster, |sample| {
            let mut members = Members::new(started + SignedDuration::from_secs(40));
            for pod in cluster.groups.iter().flat_map(GroupMembers::pods) {
                let joined = *pod.uid != *lost;
                members.insert(&pod.uid, joined.then(Member::default).into_iter().collect());
            }
            sample.members = Some(Arc::new(members));
            sample.scheduler_id = "Scheduler-2".into();
            sample.started = Some(started);
        })
    });
    let told = namespace.wait_for_cluster_condition("c", "SchedulerLostState", "SchedulerRestarted").await;
    assert_eq!(told.status, "True");
    namespace.wait_for_event("c", "SchedulerRestarted").await;
    wait_for("the stranded worker is replaced", async || {
        let workers = namespace.workers("c-default").await;
        let kept = uids(&workers).intersection(&uids(&before)).count();
        check(kept == 2 && workers.len() == 3, || format!("{kept} kept, {} there", workers.len()))
    })
    .await;
    let now = uids(&namespace.workers("c-default").await);
    assert!(!now.contains(&before[1].uid().unwrap()), "the one that did not join");
    namespace.wait_for_event("c-default", "WorkerStranded").await;
    let cluster: DaskCluster = namespace.get("c").await;
    assert_eq!(cluster.status.unwrap().scheduler.unwrap().id.as_deref(), Some("Scheduler-2"));
    world.restart_operator().await;
    integration_tests::wait_until_quiet(&world.operator.faults).await;
    let events = namespace.wait_for_event("c", "SchedulerRestarted").await;
    assert_eq!(events.len(), 1, "a restart of the operator is no restart of the scheduler");
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn another_release_of_the_operator_replaces_nothing() {
    let mut world = World::with_cluster("release", 2).await;
    let namespace = &world.namespace.clone();
    let before = uids(&namespace.workers("c-default").await);
    let old: Deployment = namespace.get("c-scheduler").await;
    // An earlier one had other modules, ...
    world.operator.kill();
    let maps = json!({"data": {"dask_operator_worker.py": "# older"}});
    namespace.patch::<ConfigMap>("c-dask-operator", maps).await;
    let digest = json!({"metadata": {"annotations": {labels::TELEMETRY: "older"}}});
    namespace.patch::<Deployment>("c-scheduler", digest).await;
    world.restart_operator().await;
    wait_for("the modules are current", async || {
        let map = namespace.find::<ConfigMap>("c-dask-operator").await?;
        check(telemetry::is_current(map.data.as_ref()), || "older".to_owned())
    })
    .await;
    // ... and one without any would make other pods.
    world.operator.kill();
    let launch = Launch::with_arguments(namespace, &["--leader-elect=false", "--telemetry=false"]);
    world.operator = Operator::launch(launch.link(&world.link)).await;
    world.operator.wait_until_ready().await;
    holds_for(A_WHILE, "all pods stay", async || {
        let now = uids(&namespace.workers("c-default").await);
        check(now == before, || format!("{now:?}"))
    })
    .await;
    let new: Deployment = namespace.get("c-scheduler").await;
    assert_eq!(new.spec.unwrap().template, old.spec.unwrap().template);
}

/// What a run of [`edit_everything`] came to.
struct Outcome {
    objects: BTreeMap<String, Value>,
    writes: usize,
    spoiled: usize,
}

/// A cluster of two workers in which everything is edited.
async fn edit_everything(namespace: &Namespace, observer: &Observer) {
    observer.allow("c-default", 3);
    let mut manifest = templates::cluster_json("c", 2);
    manifest["spec"]["update"] = json!({"scheduler": "Always"});
    namespace.create_object(&serde_json::from_value::<DaskCluster>(manifest).unwrap()).await;
    namespace.wait_for_ready_workers("c-default", 2).await;
    let mut spec = new_workers();
    spec["scheduler"] = new_scheduler()["scheduler"].take();
    let edit = json!({"metadata": {"labels": {"team": "a"}}, "spec": spec});
    namespace.patch::<DaskCluster>("c", edit).await;
    all_are_new(namespace, 2).await;
    wait_for("all is done, and the status says so", async || {
        let image = scheduler_image(namespace).await;
        check(image == NEW, || image)?;
        let workers = namespace.workers("c-default").await;
        check(workers.iter().all(|pod| pod.labels().contains_key("team")), || "labels".to_owned())?;
        let cluster = namespace.find::<DaskCluster>("c").await?;
        let status = cluster.status.clone().unwrap_or_default();
        let is = |type_: &str, reason: &str| {
            status.conditions.iter().any(|condition| condition.type_ == type_ && condition.reason == reason)
        };
        let settled = is("Ready", "AllReady")
            && is("Updating", "UpToDate")
            && is("SchedulerLostState", "StateKept")
            && status.ready.as_deref() == Some("2/2")
            && status.groups.iter().all(|group| group.terminating == 0 && group.draining == 0)
            && status.observed_generation == cluster.metadata.generation;
        check(settled, || format!("{status:?}"))?;
        // A group's own status may come later than the cluster's.
        let group = namespace.find::<DaskWorkerGroup>("c-default").await?.status.unwrap_or_default();
        let reasons: Vec<&str> = group.conditions.iter().map(|condition| condition.reason.as_str()).collect();
        let at_rest = ["AllReady", "AtDesiredSize", "UpToDate"].iter().all(|reason| reasons.contains(reason));
        check(at_rest && group.ready_replicas == 2, || format!("{group:?}"))
    })
    .await;
}

async fn run(name: &str, faults: &Faults) -> Outcome {
    let namespace = ApiServer::shared().await.namespace(name).await;
    let _kubelet = Kubelet::start(&namespace).await;
    let observer = Observer::start(&namespace);
    let launch = Launch::alone(&namespace).faults(faults);
    let mut operator = Operator::launch(launch.clone()).await;
    let mut driver = Box::pin(edit_everything(&namespace, &observer));
    tokio::select! {
        () = &mut driver => {}
        () = faults.crashed() => {
            operator.kill();
            operator = Operator::launch(launch.faults(&Faults::recorder())).await;
            driver.await;
        }
    }
    let objects = objects::comparable(&namespace).await;
    observer.assert_no_violation();
    operator.stop().await;
    Outcome { objects, writes: faults.writes().len(), spoiled: faults.spoiled() }
}

#[tokio::test]
async fn edits_converge_when_the_operator_is_killed_after_any_write() {
    let clean = run("edits-clean", &Faults::recorder()).await;
    let runs = stream::iter(1..=clean.writes).map(|number| async move {
        let faults =
            Faults::plan(move |call| if call.write == Some(number) { Fault::Crash } else { Fault::None });
        (number, run(&format!("edits-{number}"), &faults).await)
    });
    let runs: Vec<_> = runs.buffer_unordered(6).collect().await;
    let crashes: usize = runs.iter().map(|(_, outcome)| outcome.spoiled).sum();
    assert!(crashes * 10 >= clean.writes * 7, "{crashes} of {} runs were killed", clean.writes);
    let failures: Vec<String> = runs
        .iter()
        .map(|(number, outcome)| {
            let mut difference = objects::difference(&clean.objects, &outcome.objects);
            // A new operator lets labels stand for 10 s before it says by the digest that running pods have them.
            difference.retain(|line| !line.contains(labels::METADATA_HASH));
            (number, difference)
        })
        .filter(|(_, difference)| !difference.is_empty())
        .map(|(number, difference)| format!("killed after write {number}:\n  {}", difference.join("\n  ")))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
