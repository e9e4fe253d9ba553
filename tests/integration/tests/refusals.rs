//! Whatever write of a group is refused: a condition and an Event say so, and nothing else waits for it.

use std::time::Duration;

use dask_operator_api::DaskWorkerGroup;
use integration_tests::fault::Refusal;
use integration_tests::kubelet::{Ending, end_pod, wait_until_running};
use integration_tests::wait::check;
use integration_tests::{Fault, Namespace, World, holds_for, templates, wait_for};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use serde_json::json;

/// A group `g` of cluster `c` of which a ConfigMap is the controller.
async fn create_owned_group(namespace: &Namespace, workers: i32) {
    let own: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "own"}})).unwrap();
    let own = namespace.create_object(&own).await;
    let mut group = templates::group("g", "c", workers);
    let owner = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "own", "uid": own.uid(), "controller": true,
    }]);
    group.metadata.owner_references = serde_json::from_value(owner).unwrap();
    namespace.create_object(&group).await;
}

#[tokio::test]
async fn a_group_that_another_controller_owns() {
    let world = World::start("owned").await;
    let namespace = &world.namespace;
    namespace.create_object(&templates::cluster("c", 0)).await;
    world.observer.allow("g", 2);
    create_owned_group(namespace, 2).await;
    namespace.wait_for_ready_workers("g", 2).await;
    let owners = wait_for("the cluster is an owner", async || {
        let group = namespace.find::<DaskWorkerGroup>("g").await?;
        let owners = group.owner_references().to_vec();
        check(owners.len() == 2, || format!("{owners:?}"))?;
        Ok(owners)
    })
    .await;
    assert_eq!((owners[0].kind.as_str(), owners[0].controller), ("ConfigMap", Some(true)));
    assert_eq!((owners[1].kind.as_str(), owners[1].name.as_str()), ("DaskCluster", "c"));
    assert_ne!(owners[1].controller, Some(true));
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn a_label_that_no_pod_may_have() {
    let world = World::with_cluster("label", 2).await;
    let World { namespace, operator, .. } = &world;
    let label = |value: &str| json!({"spec": {"worker": {"metadata": {"labels": {"team": value}}}}});
    namespace.patch::<DaskWorkerGroup>("c-default", label("not a label!")).await;
    let condition = namespace.wait_for_group_reason("c-default", "InvalidPod").await;
    for words in
        ["metadata.labels", "not a label!", "correct it in spec.worker.metadata", "2 of 2 workers are ready"]
    {
        assert!(condition.message.contains(words), "{words:?} is not in: {}", condition.message);
    }
    assert_eq!(condition.status, "True", "the workers are ready all the same");
    let events = namespace.wait_for_event("c-default", "InvalidPod").await;
    assert_eq!(events.len(), 1, "{events:?}");
    let tries = || operator.faults.writes().iter().filter(|call| call.status == Some(422)).count();
    let first = tries();
    holds_for(Duration::from_secs(5), "it is rarely tried again", async || {
        check(tries() <= first + 4, || format!("{} tries", tries()))
    })
    .await;

    namespace.patch::<DaskWorkerGroup>("c-default", label("a")).await;
    namespace.wait_for_group_reason("c-default", "AllReady").await;
    wait_for("the workers have the label, once it stood for 10 s", async || {
        let workers = namespace.workers("c-default").await;
        let have = workers.iter().all(|pod| pod.labels().get("team").is_some_and(|team| team == "a"));
        check(have, || format!("{workers:?}"))
    })
    .await;
    world.observer.assert_no_violation();
}

/// Which write is refused.
#[derive(Clone, Copy, Debug)]
enum Write {
    Mark,
    Deletion,
}

#[rstest::rstest]
#[case("no-marks", Write::Mark)]
#[case("no-deletions", Write::Deletion)]
#[tokio::test]
async fn a_policy_that_keeps_workers_from_going(#[case] test: &str, #[case] write: Write) {
    let world = World::with_cluster(test, 2).await;
    let World { namespace, operator, .. } = &world;
    let verb = if matches!(write, Write::Mark) { "patch" } else { "delete" };
    operator.faults.set_plan(move |call| {
        let refused = call.verb == verb && call.is_about("pods");
        if refused { Fault::Refuse(Refusal::FORBIDDEN) } else { Fault::None }
    });
    namespace.scale_group("c-default", 1).await;
    let condition = namespace.wait_for_group_reason("c-default", "AdmissionRefused").await;
    let words = format!("refused to {verb} a Pod");
    assert!(condition.message.contains(&words), "{}", condition.message);
    let events = namespace.wait_for_event("c-default", "AdmissionRefused").await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].note.as_ref().is_some_and(|note| note.contains(&words)), "{events:?}");
    let scaling = wait_for("condition Scaling says why", async || {
        let status = namespace.find::<DaskWorkerGroup>("c-default").await?.status.unwrap_or_default();
        let scaling = status.conditions.iter().find(|condition| condition.type_ == "Scaling").cloned();
        scaling.filter(|scaling| scaling.message.contains(&words)).ok_or_else(|| format!("{status:?}"))
    })
    .await;
    assert_eq!(scaling.status, "True");
    assert!(operator.metric("dask_operator_problems_total", "reason=\"AdmissionRefused\"").await >= 1.0);

    operator.faults.set_plan(|_| Fault::None);
    namespace.wait_for_ready_workers("c-default", 1).await;
    namespace.wait_for_group_reason("c-default", "AllReady").await;
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn a_status_that_may_not_be_written_is_told_by_an_event_and_holds_up_nothing() {
    let world = World::with_cluster("no-status", 1).await;
    let World { namespace, operator, observer, .. } = &world;
    operator.faults.set_plan(|call| {
        let refused = call.is_about("daskworkergroups/status");
        if refused { Fault::Refuse(Refusal::FORBIDDEN) } else { Fault::None }
    });
    observer.allow("c-default", 3);
    namespace.scale_group("c-default", 3).await;
    let events = namespace.wait_for_event("c-default", "AdmissionRefused").await;
    assert_eq!(events.len(), 1, "{events:?}");
    let count = async |wanted: usize| {
        wait_for(&format!("{wanted} workers"), async || {
            let workers = namespace.workers("c-default").await.len();
            check(workers == wanted, || format!("{workers} workers"))
        })
        .await;
    };
    count(3).await;
    namespace.scale_group("c-default", 1).await;
    count(1).await;
    operator.faults.set_plan(|_| Fault::None);
    namespace.wait_for_ready_workers("c-default", 1).await;
    observer.assert_no_violation();
}

#[tokio::test]
async fn an_adoption_that_is_refused_keeps_no_worker_from_coming() {
    let world = World::start("no-adoption").await;
    let World { namespace, operator, observer, .. } = &world;
    namespace.create_object(&templates::cluster("c", 0)).await;
    namespace.wait_for_group_reason("c-default", "ScaledToZero").await;
    operator.faults.set_plan(|call| {
        let refused = call.verb == "patch" && call.is_about("daskworkergroups");
        if refused { Fault::Refuse(Refusal::INVALID) } else { Fault::None }
    });
    observer.allow("g", 2);
    namespace.create_object(&templates::group("g", "c", 2)).await;
    namespace.wait_for_ready_workers("g", 2).await;
    let condition = namespace.wait_for_group_reason("g", "AdmissionRefused").await;
    assert!(condition.message.contains("refused to patch a DaskWorkerGroup"), "{}", condition.message);
    let events = namespace.wait_for_event("g", "AdmissionRefused").await;
    assert_eq!(events.len(), 1, "{events:?}");
    operator.faults.set_plan(|_| Fault::None);
    namespace.wait_for_group_reason("g", "AllReady").await;
    observer.assert_no_violation();
}

#[tokio::test]
async fn a_creation_that_fails_holds_up_no_other_write() {
    let world = World::with_cluster("no-creation", 3).await;
    let World { namespace, operator, .. } = &world;
    operator.faults.set_plan(|call| {
        let fails = call.verb == "create" && call.is_about("pods");
        if fails { Fault::Refuse(Refusal::INTERNAL_ERROR) } else { Fault::None }
    });
    let failed = namespace.workers("c-default").await.remove(0);
    let failed = wait_until_running(namespace, &failed.name_any()).await;
    end_pod(namespace, &failed, Ending::Error).await;
    wait_for("the failed pod is deleted, and its record is in the status", async || {
        let pods = namespace.list::<Pod>("dask.org/component=worker").await;
        check(pods.iter().all(|pod| pod.uid() != failed.uid()), || "it is there".to_owned())?;
        let status = namespace.find::<DaskWorkerGroup>("c-default").await?.status.unwrap_or_default();
        check(status.failures.is_some() && status.ready_replicas == 2, || format!("{status:?}"))
    })
    .await;
    operator.faults.set_plan(|_| Fault::None);
    namespace.wait_for_ready_workers("c-default", 3).await;
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn an_adoption_that_no_watch_shows_is_made_once() {
    let world = World::start("adopted-unseen").await;
    let World { namespace, operator, observer, .. } = &world;
    namespace.create_object(&templates::cluster("c", 0)).await;
    namespace.wait_for_group_reason("c-default", "ScaledToZero").await;
    observer.allow("g", 2);
    operator.faults.set_plan(|call| {
        let groups = call.verb == "watch" && call.is_about("daskworkergroups");
        let (period, open) = (Duration::from_secs(4), Duration::from_millis(100));
        if groups { Fault::HoldBackWatch { period, open } } else { Fault::None }
    });
    operator.faults.cut_watches();
    namespace.create_object(&templates::group("g", "c", 2)).await;
    namespace.wait_for_ready_workers("g", 2).await;
    let adoptions: Vec<_> = operator
        .faults
        .writes()
        .into_iter()
        .filter(|call| {
            call.body["metadata"]["ownerReferences"].is_array() && call.is_about("daskworkergroups")
        })
        .filter(|call| call.verb == "patch" && call.path.ends_with("/g"))
        .collect();
    assert!(adoptions.len() == 1 && adoptions[0].status == Some(200), "{adoptions:?}");
    observer.assert_no_violation();
}
