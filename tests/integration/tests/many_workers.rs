//! However many workers are asked for, the operator stays small, can be called back, and has time for everything else.

use dask_operator_api::{DaskCluster, DaskWorkerGroup, MAX_REPLICAS};
use integration_tests::api_server::crds;
use integration_tests::fault::Faults;
use integration_tests::operator::Launch;
use integration_tests::wait::{check, wait_until_quiet};
use integration_tests::{ApiServer, Fault, Kubelet, Operator, World, templates, wait_for};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::ResourceExt;
use serde_json::json;
use std::time::Duration;

/// The definition as it was before numbers had a maximum.
fn without_maximum(crd: &CustomResourceDefinition) -> CustomResourceDefinition {
    fn lift(schema: &mut JSONSchemaProps) {
        if let Some(replicas) = schema.properties.as_mut().and_then(|fields| fields.get_mut("replicas")) {
            replicas.maximum = None;
        }
        schema.properties.iter_mut().flatten().for_each(|(_, field)| lift(field));
    }
    let mut crd = crd.clone();
    let schema = crd.spec.versions[0].schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
    lift(schema.unwrap());
    crd
}

/// Resident memory of this process, in which the operator runs: the second field of `/proc/self/statm` (proc(5)), in
/// pages of 4 KiB.
fn resident_mebibytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 256
}

#[tokio::test]
async fn two_thousand_million_workers_under_an_older_definition() {
    let server = ApiServer::own("replicas").await;
    for crd in crds() {
        server.apply_crd(&without_maximum(&crd)).await;
    }
    let namespace = server.namespace("home").await;
    let _kubelet = Kubelet::start(&namespace).await;
    let operator = Operator::launch(Launch::alone(&namespace)).await;
    namespace.create_object(&templates::cluster("big", 2)).await;
    namespace.wait_for_ready_workers("big-default", 2).await;
    let before = resident_mebibytes();

    namespace.kubectl_scale::<DaskWorkerGroup>("big-default", 2_000_000_000).await;
    let condition = namespace.wait_for_group_reason("big-default", "InvalidReplicas").await;
    assert_eq!(condition.status, "False");
    for words in ["spec.worker.replicas", "2000000000", "100000", "kubectl scale daskworkergroup big-default"]
    {
        assert!(condition.message.contains(words), "{words:?} is not in: {}", condition.message);
    }
    let events = namespace.wait_for_event("big-default", "InvalidReplicas").await;
    assert_eq!(events.len(), 1, "{events:?}");
    namespace.wait_for_cluster_condition("big", "WorkersReady", "InvalidReplicas").await;
    namespace.edit_cluster_replicas("big", 2_000_000_000).await;
    namespace.create_object(&templates::cluster("other", 1)).await;
    namespace.wait_for_ready_workers("other-default", 1).await;
    assert_eq!(namespace.workers("big-default").await.len(), 2, "nothing is created or removed");
    wait_until_quiet(&operator.faults).await;
    let grown = resident_mebibytes().saturating_sub(before);
    assert!(grown < 64, "{grown} MiB for a number");

    namespace.kubectl_scale::<DaskWorkerGroup>("big-default", 1).await;
    namespace.wait_for_ready_workers("big-default", 1).await;
    operator.stop().await;
    server.down().await;
}

#[tokio::test]
async fn more_than_the_maximum_is_refused_when_it_is_applied() {
    let world = World::with_cluster("maximum", 1).await;
    let namespace = &world.namespace;
    let too_many = MAX_REPLICAS + 1;
    for kind in ["daskcluster/c", "daskworkergroup/c-default"] {
        let patch = json!({"spec": {"worker": {"replicas": too_many}}}).to_string();
        let output = namespace
            .try_kubectl(&format!("patch {kind} --type=merge --patch-file=/dev/stdin"), &patch)
            .await;
        assert!(!output.success, "{kind}: {}", output.stdout);
        for words in ["spec.worker.replicas", "100001", "less than or equal to 100000"] {
            assert!(output.stderr.contains(words), "{kind}: {words:?} is not in: {}", output.stderr);
        }
    }
}

/// How a wish for ten thousand workers is taken back.
#[derive(Clone, Copy, Debug)]
enum Back {
    ToZero,
    GroupDeleted,
    ClusterDeleted,
}

#[rstest::rstest]
#[case("back-zero", Back::ToZero)]
#[case("back-group", Back::GroupDeleted)]
#[case("back-cluster", Back::ClusterDeleted)]
#[tokio::test]
async fn ten_thousand_workers_that_are_not_wanted_any_more(#[case] test: &str, #[case] back: Back) {
    let world = World::start(test).await;
    let World { namespace, operator, .. } = &world;
    namespace.create_object(&templates::cluster("c", 0)).await;
    namespace.wait_for_group_reason("c-default", "ScaledToZero").await;
    namespace.create_object(&templates::group("more", "c", 0)).await;
    namespace.wait_for_group_reason("more", "ScaledToZero").await;
    world.observer.allow("more", 10_000);
    namespace.scale_group("more", 10_000).await;
    let created = || {
        operator.faults.writes().iter().filter(|call| call.verb == "create" && call.is_about("pods")).count()
    };
    wait_for("the first workers", async || check(created() >= 5, || created().to_string())).await;
    match back {
        Back::ToZero => namespace.scale_group("more", 0).await,
        Back::GroupDeleted => namespace.delete::<DaskWorkerGroup>("more").await,
        Back::ClusterDeleted => namespace.delete::<DaskCluster>("c").await,
    }
    wait_for("all workers are gone", async || {
        let workers = namespace.workers("more").await.len();
        check(workers == 0, || format!("{workers} workers"))
    })
    .await;
    wait_until_quiet(&operator.faults).await;
    let created = created();
    assert!(created < 500, "{created} pods were created");
    world.observer.assert_no_violation();
}

#[tokio::test]
async fn a_group_that_grows_for_long_tells_how_far_it_is_and_lets_go_of_what_failed() {
    // Some 200 creations a second at most.
    let faults = Faults::plan(|call| match call.verb {
        "create" if call.is_about("pods") => Fault::DelayReply(Duration::from_millis(150)),
        _ => Fault::None,
    });
    let server = ApiServer::shared().await;
    let namespace = server.namespace("grows").await;
    let _kubelet = Kubelet::start(&namespace).await;
    let operator = Operator::launch(Launch::alone(&namespace).faults(&faults)).await;
    namespace.create_object(&templates::cluster("c", 0)).await;
    namespace.wait_for_group_reason("c-default", "ScaledToZero").await;
    namespace.scale_group("c-default", 5_000).await;
    let group = wait_for("the status counts some of the workers", async || {
        let group = namespace.find::<DaskWorkerGroup>("c-default").await?;
        let replicas = group.status.as_ref().map_or(0, |status| status.replicas);
        check(replicas > 0, || format!("{:?}", group.status))?;
        Ok(group)
    })
    .await;
    let counted = group.status.unwrap().replicas;
    assert!(counted < 2_000, "{counted} workers were created before anything was said");
    namespace.scale_group("c-default", 0).await;
    namespace.delete::<DaskCluster>("c").await;
    wait_for("all workers are gone", async || {
        let workers = namespace.workers("c-default").await.len();
        check(workers == 0, || format!("{workers} workers"))
    })
    .await;
    let told = namespace.events_about("c-default").await;
    let grown = told.iter().filter(|event| event.reason.as_deref() == Some("ScaledUp")).count();
    assert_eq!(grown, 0, "nothing is told batch by batch: {told:?}");
    operator.stop().await;
}

#[tokio::test]
async fn a_change_of_size_is_told_once() {
    let world = World::with_cluster("told-once", 3).await;
    let namespace = &world.namespace;
    let notes = async |reason: &str| -> Vec<String> {
        let events = namespace.wait_for_event("c-default", reason).await;
        events.into_iter().map(|event| event.note.unwrap_or_default()).collect()
    };
    assert_eq!(notes("ScaledUp").await, ["created 3 workers to reach 3"]);
    let before = namespace.workers("c-default").await;
    namespace.scale_group("c-default", 1).await;
    let after = namespace.wait_for_ready_workers("c-default", 1).await;
    let told = notes("ScaledDown").await;
    let [told] = told.as_slice() else { panic!("{told:?}") };
    assert!(told.starts_with("removed 2 workers to reach 1: "), "{told}");
    for gone in before.iter().filter(|pod| pod.uid() != after[0].uid()) {
        assert!(told.contains(&gone.name_any()), "{told}");
    }
    assert_eq!(notes("ScaledUp").await.len(), 1);
    world.observer.assert_no_violation();
}
