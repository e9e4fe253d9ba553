use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;

use super::*;
use crate::cluster_cache::records::PodState;
use crate::controllers::cluster::testing::{at, cluster, default_group, made, new};

#[test]
fn everything_is_made_for_a_new_cluster() {
    let plan = decide(&new(cluster("simple")), None);
    let name = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| meta.name.clone().unwrap();
    assert_eq!(name(&plan.service.as_ref().unwrap().metadata), "simple-scheduler");
    assert_eq!(name(&plan.deployment.as_ref().unwrap().metadata), "simple-scheduler");
    assert_eq!(name(&plan.default_group.as_ref().unwrap().metadata), "simple-default");
    assert_eq!(plan.obstacle, None);
}

#[test]
fn a_complete_cluster_is_left_alone() {
    assert_eq!(decide(&made(PodState::Ready), None), ClusterPlan::default());
}

#[test]
fn the_deployment_is_upstreams_but_recreates() {
    let plan = decide(&new(cluster("simple")), None);
    let deployment = plan.deployment.unwrap();
    let spec = deployment.spec.unwrap();
    assert_eq!(spec.replicas, Some(1));
    assert_eq!(spec.strategy.unwrap().type_.as_deref(), Some("Recreate"));
    assert_eq!(spec.selector.match_labels, deployment.metadata.labels);
    assert_eq!(spec.template.metadata.unwrap().labels, deployment.metadata.labels);
    assert_eq!(spec.template.spec.unwrap().containers[0].env, None, "nothing is injected into schedulers");
}

#[test]
fn the_service_is_the_users_own() {
    let plan = decide(&new(cluster("simple")), None);
    let service = plan.service.unwrap();
    assert_eq!(service.spec.unwrap(), cluster("simple").spec.scheduler.service);
    assert!(!service.metadata.labels.unwrap().contains_key("sidecar.istio.io/inject"));
}

#[test]
fn a_service_edit_is_patched_in() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(&mut snapshot.cluster).spec.scheduler.service.type_ = Some("LoadBalancer".into());
    let plan = decide(&snapshot, None);
    assert_eq!(plan.service_patch, Some(json!({"spec": {"type": "LoadBalancer"}})));
}

#[test]
fn a_deployment_of_dask_kubernetes_only_changes_its_strategy() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(snapshot.deployment.as_mut().unwrap()).recreates = false;
    let plan = decide(&snapshot, None);
    assert_eq!(
        plan.deployment_patch,
        Some(json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}))
    );
}

#[rstest]
#[case::unchanged(Some("2"), 2, 5, None)]
#[case::edited(Some("2"), 4, 5, Some(json!({
    "metadata": {"annotations": {PROPAGATED_REPLICAS: "4"}}, "spec": {"worker": {"replicas": 4}}})))]
#[case::edited_to_what_the_group_has(Some("2"), 5, 5, Some(json!({
    "metadata": {"annotations": {PROPAGATED_REPLICAS: "5"}}})))]
#[case::made_by_dask_kubernetes(None, 2, 5, Some(json!({
    "metadata": {"annotations": {PROPAGATED_REPLICAS: "2"}}})))]
fn only_a_change_of_the_clusters_number_reaches_the_group(
    #[case] propagated: Option<&str>,
    #[case] cluster: i32,
    #[case] group: i32,
    #[case] patch: Option<Value>,
) {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(&mut snapshot.cluster).spec.worker.replicas = cluster;
    let default = default_group(&mut snapshot);
    default.spec.worker.replicas = group;
    default.annotations_mut().clear();
    if let Some(number) = propagated {
        default.annotations_mut().insert(PROPAGATED_REPLICAS.into(), number.into());
    }
    assert_eq!(decide(&snapshot, None).default_group_patch, patch);
}

#[rstest]
#[case(&"a".repeat(54), "54 characters")]
#[case("invalid.chars.in.name", "'.'")]
fn bad_names_stop_everything(#[case] name: &str, #[case] words: &str) {
    let plan = decide(&new(cluster(name)), None);
    assert!(plan.is_empty());
    let obstacle = plan.obstacle.unwrap();
    assert_eq!(obstacle.reason, Reason::InvalidName);
    assert!(obstacle.message.contains(words), "{}", obstacle.message);
}

#[test]
fn a_cluster_that_goes_is_left_to_the_garbage_collector() {
    let mut cluster = cluster("simple");
    cluster.metadata.deletion_timestamp = Some(Time(at(0)));
    assert_eq!(decide(&new(cluster), None), ClusterPlan::default());
}

#[rstest]
#[case::a_strangers(None, Reason::NameTaken)]
#[case::an_earlier_clusters(Some("earlier-uid"), Reason::WaitingForDeletion)]
fn taken_names_are_told_and_the_rest_is_made(#[case] owner: Option<&str>, #[case] reason: Reason) {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(snapshot.service.as_mut().unwrap()).owner_uid = owner.map(str::to_owned);
    snapshot.deployment = None;
    let plan = decide(&snapshot, None);
    assert_eq!(plan.obstacle.as_ref().map(|obstacle| obstacle.reason), Some(reason));
    assert!(plan.obstacle.unwrap().message.contains("Service \"simple-scheduler\""));
    assert!(plan.deployment.is_some() && plan.service_patch.is_none());
}

#[test]
fn objects_that_are_going_are_waited_for() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(snapshot.service.as_mut().unwrap()).terminating = true;
    Arc::make_mut(snapshot.deployment.as_mut().unwrap()).terminating = true;
    default_group(&mut snapshot).metadata.deletion_timestamp = Some(Time(at(0)));
    assert!(decide(&snapshot, None).is_empty());
}

#[test]
fn a_refusal_stands_for_its_time() {
    let standing = StandingRefusal {
        obstacle: Obstacle::new(Reason::Forbidden, "no right"),
        wait: std::time::Duration::from_secs(4),
    };
    let plan = decide(&new(cluster("simple")), Some(&standing));
    assert!(plan.is_empty());
    assert_eq!((plan.obstacle, plan.requeue_after), (Some(standing.obstacle), Some(standing.wait)));
}
