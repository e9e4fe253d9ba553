//! What cannot work is refused when it is applied, or reported once in words that name field, value and cure; nothing
//! loops, and nobody else is disturbed.

use std::time::Duration;

use dask_operator_api::{ClusterPhase, DaskCluster, DaskWorkerGroup};
use integration_tests::fault::listed;
use integration_tests::wait::check;
use integration_tests::{
    ApiServer, Faults, Namespace, World, holds_for, templates, wait_for, wait_until_quiet,
};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Service};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use serde_json::{Value, json};

/// How long nothing may happen that should not.
const SILENCE: Duration = Duration::from_secs(2);

/// The operator comes to rest and stays there.
async fn rests(faults: &Faults) {
    wait_until_quiet(faults).await;
    let before = faults.write_count();
    holds_for(SILENCE, "nothing loops", async || {
        let writes = faults.writes();
        check(writes.len() == before, || listed(&writes[before..]))
    })
    .await;
}

/// A healthy cluster gets its workers, whatever else is in the namespace.
async fn others_are_undisturbed(namespace: &Namespace) {
    namespace.create_object(&templates::cluster("healthy", 1)).await;
    namespace.wait_for_ready_workers("healthy-default", 1).await;
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[rstest::rstest]
#[case::long("a-name-of-more-than-fifty-three-characters-that-cannot-be", &["57 characters", "at most 53"])]
#[case::dots("name.with.dots", &["it contains '.'", "metadata.name \"name.with.dots\""])]
#[tokio::test]
async fn a_name_that_cannot_be_used(#[case] name: &str, #[case] words: &[&str]) {
    let world = World::start("name").await;
    let World { namespace, operator, .. } = &world;
    namespace.create_object(&templates::cluster(name, 2)).await;
    let condition = namespace.wait_for_cluster_condition(name, "Ready", "InvalidName").await;
    says(&condition.message, words);
    says(&condition.message, &[name, "create it again under a name of"]);
    let cluster = namespace.get::<DaskCluster>(name).await;
    assert_eq!(cluster.status.unwrap().phase, Some(ClusterPhase::Error));
    let events = namespace.wait_for_event(name, "InvalidName").await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].type_.as_deref(), Some("Warning"));
    says(events[0].note.as_deref().unwrap_or_default(), words);
    rests(&operator.faults).await;
    assert!(namespace.list::<Service>("").await.is_empty() && namespace.list::<Pod>("").await.is_empty());
    assert!(operator.metric("dask_operator_problems_total", "reason=\"InvalidName\"").await >= 1.0);
    others_are_undisturbed(namespace).await;
}

#[tokio::test]
async fn a_group_name_that_is_no_label_value() {
    let world = World::start("group-name").await;
    let World { namespace, operator, .. } = &world;
    namespace.create_object(&templates::cluster("c", 0)).await;
    let name = format!("c-{}", "x".repeat(62));
    namespace.create_object(&templates::group(&name, "c", 2)).await;
    let condition = namespace.wait_for_group_reason(&name, "InvalidName").await;
    says(&condition.message, &[&name, "64 characters", "at most 63"]);
    let events = namespace.wait_for_event(&name, "InvalidName").await;
    assert_eq!(events.len(), 1, "{events:?}");
    namespace.wait_for_cluster_condition("c", "WorkersReady", "InvalidName").await;
    rests(&operator.faults).await;
    others_are_undisturbed(namespace).await;
}

#[rstest::rstest]
#[case::negative(json!({"replicas": -1}), &["spec.worker.replicas", "-1", "greater than or equal to 0"])]
#[case::no_containers(json!({"spec": {"containers": []}}), &["spec.worker.spec.containers", "at least one container"])]
#[tokio::test]
async fn what_is_refused_when_it_is_applied(#[case] worker: Value, #[case] words: &[&str]) {
    let namespace = ApiServer::shared().await.namespace("refused").await;
    let mut manifest = templates::cluster_json("c", 1);
    for (key, value) in worker.as_object().unwrap() {
        manifest["spec"]["worker"][key] = value.clone();
    }
    let output = namespace.try_kubectl("apply -f -", &manifest.to_string()).await;
    assert!(!output.success, "{}", output.stdout);
    says(&output.stderr, words);
}

#[tokio::test]
async fn a_group_without_cluster_waits_for_it() {
    let world = World::start("no-cluster").await;
    let World { namespace, operator, .. } = &world;
    namespace.create_object(&templates::group("early", "later", 2)).await;
    let condition = namespace.wait_for_group_reason("early", "ClusterNotFound").await;
    says(
        &condition.message,
        &["spec.cluster \"later\"", &namespace.name, "create it or correct spec.cluster"],
    );
    let events = namespace.wait_for_event("early", "ClusterNotFound").await;
    assert_eq!(events.len(), 1, "{events:?}");
    rests(&operator.faults).await;
    assert!(namespace.workers("early").await.is_empty());

    namespace.create_object(&templates::cluster("later", 0)).await;
    namespace.wait_for_ready_workers("early", 2).await;
    namespace.wait_for_group_reason("early", "AllReady").await;
    let group: DaskWorkerGroup = namespace.get("early").await;
    assert_eq!(group.owner_references()[0].name, "later");
}

#[tokio::test]
async fn a_cluster_that_is_being_deleted_gets_nothing_new() {
    let world = World::start("deleting").await;
    let World { namespace, operator, .. } = &world;
    world.observer.allow("c-default", 2);
    namespace.create_object(&templates::cluster("c", 2)).await;
    namespace.wait_for_ready_workers("c-default", 2).await;
    let hold = json!({"metadata": {"finalizers": ["integration-tests/hold"]}});
    namespace.patch::<DaskCluster>("c", hold).await;
    namespace.delete::<DaskCluster>("c").await;
    wait_for("the operator knows", async || {
        let cluster = namespace.find::<DaskCluster>("c").await?;
        check(cluster.metadata.deletion_timestamp.is_some(), || "not deleted".to_owned())?;
        // Any later news reaches the operator after the deletion.
        let group = namespace.find::<DaskWorkerGroup>("c-default").await?.status.unwrap_or_default();
        check(group.conditions.iter().any(|c| c.reason == "WaitingForDeletion"), || format!("{group:?}"))
    })
    .await;
    namespace.scale_group("c-default", 5).await;
    namespace.edit_cluster_replicas("c", 6).await;
    namespace.delete::<Pod>(&namespace.workers("c-default").await[0].name_any()).await;
    namespace.create_object(&templates::group("c-late", "c", 3)).await;
    holds_for(SILENCE, "no new pod", async || {
        let creations: Vec<_> =
            operator.faults.writes().into_iter().filter(|call| call.verb == "create").collect();
        let pods = creations.iter().filter(|call| call.is_about("pods")).count();
        check(pods == 2, || listed(&creations))
    })
    .await;
    world.observer.assert_no_violation();
    others_are_undisturbed(namespace).await;
    namespace.patch::<DaskCluster>("c", json!({"metadata": {"finalizers": null}})).await;
}

#[tokio::test]
async fn ten_thousand_workers_under_a_quota_of_three() {
    let world = World::start("quota").await;
    let World { namespace, operator, .. } = &world;
    namespace.limit("three", json!({"pods": "3"})).await;
    world.observer.allow("c-default", 10_000);
    namespace.create_object(&templates::cluster("c", 10_000)).await;
    let condition = namespace.wait_for_group_reason("c-default", "QuotaExceeded").await;
    says(&condition.message, &["three", "pods"]);
    let events = namespace.wait_for_event("c-default", "QuotaExceeded").await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(operator.metric("dask_operator_problems_total", "reason=\"QuotaExceeded\"").await >= 1.0);
    namespace.wait_for_cluster_condition("c", "WorkersReady", "QuotaExceeded").await;

    // 1 + 2 + 4 at first, and one at a time when it is tried again after 2, 4, 8, … seconds.
    let refused = || {
        operator
            .faults
            .writes()
            .iter()
            .filter(|call| call.is_about("pods") && call.status == Some(403))
            .count()
    };
    let first = refused();
    assert!((1..=8).contains(&first), "{first} refused requests");
    holds_for(Duration::from_secs(5), "the tries become rare", async || {
        let refused = refused();
        check(refused <= first + 3, || format!("{refused} refused requests"))
    })
    .await;

    let elsewhere = World::start("quota-other").await;
    others_are_undisturbed(&elsewhere.namespace).await;

    namespace.scale_group("c-default", 1).await;
    namespace.wait_for_ready_workers("c-default", 1).await;
    namespace.wait_for_group_reason("c-default", "AllReady").await;
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn workers_do_not_take_the_room_of_their_scheduler() {
    let world = World::start("quota-order").await;
    let World { namespace, operator, .. } = &world;
    namespace.limit("q", json!({"pods": "0"})).await;
    namespace.create_object(&templates::cluster("c", 3)).await;
    let condition = namespace.wait_for_group_reason("c-default", "WaitingForScheduler").await;
    says(&condition.message, &["0 of 3", "the pod of their scheduler"]);
    namespace.wait_for_cluster_condition("c", "SchedulerReady", "QuotaExceeded").await;
    let tried = operator.faults.writes().iter().filter(|call| call.is_about("pods")).count();
    assert_eq!(tried, 0, "no worker is tried before its scheduler");

    namespace.patch::<ResourceQuota>("q", json!({"spec": {"hard": {"pods": "2"}}})).await;
    wait_for("a scheduler and one worker", async || {
        let schedulers = namespace.list::<Pod>("dask.org/component=scheduler").await.len();
        let workers = namespace.workers("c-default").await.len();
        check((schedulers, workers) == (1, 1), || format!("{schedulers} schedulers, {workers} workers"))
    })
    .await;
    namespace.wait_for_group_reason("c-default", "QuotaExceeded").await;
}

#[tokio::test]
async fn a_full_namespace_does_not_hold_up_other_clusters() {
    let world = World::start("quota-shared").await;
    let namespace = &world.namespace;
    namespace.limit("cpu", json!({"requests.cpu": "1"})).await;
    let with_cpu = |name: &str, workers: i32, cpu: &str| -> DaskCluster {
        let mut manifest = templates::cluster_json(name, workers);
        for (part, cpu) in [("scheduler", "100m"), ("worker", cpu)] {
            manifest["spec"][part]["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
        }
        serde_json::from_value(manifest).unwrap()
    };
    namespace.create_object(&with_cpu("big", 10_000, "3")).await;
    namespace.wait_for_group_reason("big-default", "QuotaExceeded").await;
    namespace.create_object(&with_cpu("small", 2, "100m")).await;
    namespace.wait_for_ready_workers("small-default", 2).await;
}

#[tokio::test]
async fn a_service_name_that_is_taken() {
    let world = World::start("taken").await;
    let World { namespace, operator, .. } = &world;
    let foreign: Service = serde_json::from_value(json!({
        "metadata": {"name": "c-scheduler", "labels": {"app": "somebody-elses"}},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "somebody-elses"}},
    }))
    .unwrap();
    let foreign = namespace.create_object(&foreign).await;
    namespace.create_object(&templates::cluster("c", 1)).await;
    let condition = namespace.wait_for_cluster_condition("c", "SchedulerReady", "NameTaken").await;
    says(
        &condition.message,
        &[
            "Service \"c-scheduler\"",
            "does not belong to this DaskCluster",
            "delete it, or create the DaskCluster under another name",
        ],
    );
    let events = namespace.wait_for_event("c", "NameTaken").await;
    assert_eq!(events.len(), 1, "{events:?}");
    rests(&operator.faults).await;
    let now = namespace.get::<Service>("c-scheduler").await;
    assert_eq!((now.spec, now.metadata.owner_references), (foreign.spec, None), "it is left alone");
    others_are_undisturbed(namespace).await;

    namespace.delete::<Service>("c-scheduler").await;
    wait_for("the cluster takes the name that is free now", async || {
        let cluster = namespace.find::<DaskCluster>("c").await?;
        let service = namespace.find::<Service>("c-scheduler").await?;
        let own =
            service.owner_references().iter().any(|owner| Some(&owner.uid) == cluster.metadata.uid.as_ref());
        let phase = cluster.status.and_then(|status| status.phase);
        check(own && phase == Some(ClusterPhase::Running), || format!("owned: {own}, {phase:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_the_api_server_refuses() {
    let world = World::start("invalid-pod").await;
    let World { namespace, operator, .. } = &world;
    let mut manifest = templates::cluster_json("c", 3);
    // The schema cannot tell: a volume mount without its volume.
    manifest["spec"]["worker"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "absent", "mountPath": "/x"}]);
    namespace.create_object(&serde_json::from_value::<DaskCluster>(manifest).unwrap()).await;
    let condition = namespace.wait_for_group_reason("c-default", "InvalidPod").await;
    says(&condition.message, &["volumeMounts", "absent"]);
    let events: Vec<Event> = namespace.wait_for_event("c-default", "InvalidPod").await;
    assert_eq!(events.len(), 1, "{events:?}");
    let tries = || {
        operator.faults.writes().iter().filter(|call| call.verb == "create" && call.is_about("pods")).count()
    };
    let first = tries();
    holds_for(Duration::from_secs(5), "it is rarely tried again", async || {
        let tries = tries();
        check(tries <= first + 3, || format!("{tries} tries"))
    })
    .await;

    let mend =
        json!([{"name": "worker", "image": "dask:test", "args": ["dask", "worker"], "volumeMounts": null}]);
    let mend = json!({"spec": {"worker": {"spec": {"containers": mend}}}});
    namespace.patch::<DaskWorkerGroup>("c-default", mend).await;
    namespace.wait_for_ready_workers("c-default", 3).await;
}
