use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;

use dask_operator_api::labels::MODULE_COMMAND;

use super::*;
use crate::cluster_cache::records::Startup;
use crate::controllers::cluster::testing::{at, cluster, default_group, made, new, pod};
use crate::pods::form::Image;
use crate::scheduler_link::{Idleness, Sample, testing};

use Telemetry::{Off, On};

fn plan_of(snapshot: &ClusterSnapshot, telemetry: Telemetry) -> ClusterPlan {
    planned(snapshot, PodForm { telemetry, lacking: None }, Modules::default())
}

fn planned(snapshot: &ClusterSnapshot, form: PodForm, modules: Modules) -> ClusterPlan {
    decide(snapshot, &Inputs { standing: &[], form, modules, link: &LinkView::default() }, at(100))
}

#[test]
fn everything_is_made_for_a_new_cluster() {
    let plan = plan_of(&new(cluster("simple")), On);
    let name = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| meta.name.clone().unwrap();
    assert_eq!(name(&plan.service.as_ref().unwrap().metadata), "simple-scheduler");
    assert_eq!(name(&plan.scheduler.create.as_ref().unwrap().metadata), "simple-scheduler");
    assert_eq!(name(&plan.default_group.as_ref().unwrap().metadata), "simple-default");
    assert_eq!(plan.obstacles, []);
}

#[test]
fn a_complete_cluster_is_left_alone() {
    assert_eq!(plan_of(&made(PodState::Ready), On), ClusterPlan::default());
}

#[test]
fn the_deployment_is_upstreams_but_recreates() {
    let plan = plan_of(&new(cluster("simple")), On);
    let deployment = plan.scheduler.create.unwrap();
    let spec = deployment.spec.unwrap();
    assert_eq!(spec.replicas, Some(1));
    assert_eq!(spec.strategy.unwrap().type_.as_deref(), Some("Recreate"));
    assert_eq!(spec.selector.match_labels, deployment.metadata.labels);
    assert_eq!(spec.template.metadata.unwrap().labels, deployment.metadata.labels);
    assert_eq!(
        spec.template.spec.unwrap().containers[0].env,
        None,
        "no variable is injected into schedulers"
    );
}

#[test]
fn the_modules_are_stored_before_they_are_mounted() {
    let plan = plan_of(&new(cluster("simple")), On);
    let deployment = plan.scheduler.create.unwrap();
    let stored = plan.config_map.unwrap();
    assert_eq!(stored.metadata.name.as_deref(), Some("simple-dask-operator"));
    assert_eq!(deployment.annotations()[TELEMETRY], telemetry::modules_digest());
    let template = deployment.spec.unwrap().template;
    assert!(template.metadata.unwrap().annotations.is_none(), "the digest does not restart the scheduler");
    let pod = template.spec.unwrap();
    assert_eq!(pod.volumes.unwrap()[0].config_map.as_ref().unwrap().name, "simple-dask-operator");
    assert!(pod.containers[0].args.as_ref().unwrap().iter().any(|word| word == "--preload"));
}

#[rstest]
#[case::never_stored(None)]
#[case::of_an_older_operator(Some("0123456789abcdef"))]
fn modules_that_are_not_the_current_ones_are_stored(#[case] digest: Option<&str>) {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(snapshot.deployment.as_mut().unwrap()).telemetry = digest.map(str::to_owned);
    let plan = plan_of(&snapshot, On);
    assert!(plan.config_map.is_some());
    let patch = json!({"metadata": {"annotations": {TELEMETRY: telemetry::modules_digest()}}});
    assert_eq!(plan.scheduler.patch, Some(patch), "the pod template stays");
    assert!(plan_of(&snapshot, Off).is_empty());
}

#[test]
fn without_telemetry_pods_are_the_users() {
    let plan = plan_of(&new(cluster("simple")), Off);
    assert_eq!(plan.config_map, None);
    let deployment = plan.scheduler.create.unwrap();
    assert!(!deployment.annotations().contains_key(TELEMETRY));
    let mut pod = deployment.spec.unwrap().template.spec.unwrap();
    for container in &mut pod.containers {
        (container.startup_probe, container.liveness_probe) = (None, None);
    }
    assert_eq!(pod, cluster("simple").spec.scheduler.spec);
}

#[test]
fn the_service_is_the_users_own() {
    let plan = plan_of(&new(cluster("simple")), On);
    let service = plan.service.unwrap();
    assert_eq!(service.spec.unwrap(), cluster("simple").spec.scheduler.service);
    assert!(!service.metadata.labels.unwrap().contains_key("sidecar.istio.io/inject"));
}

#[test]
fn a_service_edit_is_patched_in() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(&mut snapshot.cluster).spec.scheduler.service.type_ = Some("LoadBalancer".into());
    let plan = plan_of(&snapshot, On);
    let patch = json!({"metadata": {"resourceVersion": "1"}, "spec": {"type": "LoadBalancer"}});
    assert_eq!(plan.service_patch, Some(patch));
}

#[test]
fn a_deployment_of_dask_kubernetes_only_changes_its_strategy() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(snapshot.deployment.as_mut().unwrap()).recreates = false;
    let plan = plan_of(&snapshot, On);
    assert_eq!(
        plan.scheduler.patch,
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
    default.annotations_mut().remove(PROPAGATED_REPLICAS);
    if let Some(number) = propagated {
        default.annotations_mut().insert(PROPAGATED_REPLICAS.into(), number.into());
    }
    let versioned = patch.map(|patch| at_version(patch, "8".to_owned()));
    assert_eq!(plan_of(&snapshot, On).default_group_patch, versioned);
}

/// The cluster's worker template is edited: another image and a label more.
fn edit_worker(snapshot: &mut ClusterSnapshot) {
    let worker = &mut Arc::make_mut(&mut snapshot.cluster).spec.worker;
    worker.spec.containers[0].image = Some("dask:new".to_owned());
    worker.metadata = serde_json::from_value(json!({"labels": {"team": "a"}})).unwrap();
}

#[test]
fn an_edit_of_the_worker_template_reaches_the_default_group_once() {
    let mut snapshot = made(PodState::Ready);
    default_group(&mut snapshot).spec.worker.replicas = 7;
    default_group(&mut snapshot).spec.worker.spec.node_selector = Some([("gone".into(), "x".into())].into());
    edit_worker(&mut snapshot);
    let patch = plan_of(&snapshot, On).default_group_patch.unwrap();
    assert_eq!(patch["spec"]["worker"]["spec"]["containers"][0]["image"], "dask:new");
    assert_eq!(patch["spec"]["worker"]["spec"].get("nodeSelector"), Some(&Value::Null));
    assert_eq!(patch["spec"]["worker"]["metadata"], json!({"labels": {"team": "a"}}));
    assert_eq!(patch["spec"]["worker"].get("replicas"), None, "the client's number stands");
    assert_eq!(patch["metadata"]["labels"], json!({"team": "a"}));

    let wanted = build::default_group(&snapshot.cluster, &"simple".parse().unwrap());
    let default = default_group(&mut snapshot);
    default.spec.worker.spec = wanted.spec.worker.spec;
    default.spec.worker.metadata = wanted.spec.worker.metadata;
    default.metadata.labels = wanted.metadata.labels;
    default.metadata.annotations = wanted.metadata.annotations;
    assert_eq!(plan_of(&snapshot, On).default_group_patch, None);
}

#[test]
fn a_group_that_its_owner_edited_is_left_until_the_cluster_is_edited() {
    let mut snapshot = made(PodState::Ready);
    default_group(&mut snapshot).spec.worker.spec.containers[0].image = Some("mine".to_owned());
    default_group(&mut snapshot).metadata.labels.as_mut().unwrap().insert("own".into(), "1".into());
    assert_eq!(plan_of(&snapshot, On).default_group_patch, None);
}

#[test]
fn a_group_of_an_earlier_operator_is_adopted() {
    let mut snapshot = made(PodState::Ready);
    default_group(&mut snapshot).annotations_mut().clear();
    edit_worker(&mut snapshot);
    let patch = plan_of(&snapshot, On).default_group_patch.unwrap();
    assert_eq!(patch.get("spec"), None, "what it is made of stays");
    assert_eq!(patch["metadata"].get("labels"), None);
    assert_eq!(patch["metadata"]["annotations"].as_object().unwrap().len(), 4);
}

#[test]
fn labels_of_the_cluster_reach_the_default_group_and_none_is_removed() {
    let mut snapshot = made(PodState::Ready);
    default_group(&mut snapshot).metadata.labels.as_mut().unwrap().insert("others".into(), "1".into());
    Arc::make_mut(&mut snapshot.cluster).metadata.labels = Some([("team".into(), "b".into())].into());
    let patch = plan_of(&snapshot, On).default_group_patch.unwrap();
    assert_eq!(patch["metadata"]["labels"], json!({"team": "b"}));
    assert_eq!(patch.get("spec"), None);
}

#[test]
fn a_label_that_the_cluster_loses_leaves_the_default_group_too() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(&mut snapshot.cluster).metadata.labels = Some([("team".into(), "b".into())].into());
    let with_label = build::default_group(&snapshot.cluster, &"simple".parse().unwrap());
    default_group(&mut snapshot).metadata.labels = with_label.metadata.labels;
    default_group(&mut snapshot).metadata.annotations = with_label.metadata.annotations;
    default_group(&mut snapshot).metadata.labels.as_mut().unwrap().insert("others".into(), "1".into());
    Arc::make_mut(&mut snapshot.cluster).metadata.labels = None;
    let patch = plan_of(&snapshot, On).default_group_patch.unwrap();
    assert_eq!(patch["metadata"]["labels"], json!({"team": null}));
}

#[rstest]
#[case::never(json!({}), false)]
#[case::always(json!({"scheduler": "Always"}), true)]
#[case::never_idle(json!({"scheduler": "WhenIdle"}), false)]
fn an_edited_scheduler_is_made_anew_when_the_policy_allows(#[case] policy: Value, #[case] rolled: bool) {
    let mut snapshot = made(PodState::Ready);
    let cluster = Arc::make_mut(&mut snapshot.cluster);
    cluster.spec.update = serde_json::from_value(policy).unwrap();
    assert!(plan_of(&snapshot, On).is_empty(), "nothing was edited yet");
    Arc::make_mut(&mut snapshot.cluster).spec.scheduler.spec.containers[0].image = Some("dask:new".into());
    let plan = plan_of(&snapshot, On);
    assert_eq!(plan.scheduler.roll.is_some(), rolled);
    assert_eq!(plan.is_empty(), !rolled);
    if let Some(roll) = plan.scheduler.roll {
        let spec = roll.wanted.spec.unwrap().template.spec.unwrap();
        assert_eq!(spec.containers[0].image.as_deref(), Some("dask:new"));
    }
}

#[test]
fn a_restart_is_called_off_when_its_cause_is_gone() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(&mut snapshot.cluster).spec.update =
        serde_json::from_value(json!({"scheduler": "WhenIdle"})).unwrap();
    let link = |idleness| testing::heard(Sample { asked: at(99), idleness, ..testing::sample("one") });
    let stands =
        |link: &LinkView, snapshot: &ClusterSnapshot, cause| still_stands(cause, snapshot, link, at(100));
    let idle = link(Idleness::Since(at(50)));
    assert!(stands(&idle, &snapshot, RollCause::Edited));
    assert!(!stands(&link(Idleness::Busy), &snapshot, RollCause::Edited), "work was submitted meanwhile");
    for cause in [RollCause::CommandMissing, RollCause::ModulesMissing] {
        assert!(!stands(&idle, &snapshot, cause), "it runs by now");
        let mut stuck = snapshot.clone();
        stuck.scheduler_pods.clear();
        assert!(stands(&idle, &stuck, cause));
    }
}

#[test]
fn edited_metadata_of_the_scheduler_waits_for_its_next_restart() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(&mut snapshot.cluster).spec.scheduler.metadata =
        serde_json::from_value(json!({"labels": {"team": "a"}})).unwrap();
    assert!(plan_of(&snapshot, On).is_empty());
    let (status, reason, message) = updating::finding(&snapshot);
    assert_eq!((status, reason), (Some(false), Reason::SchedulerOutdated));
    assert!(message.contains("spec.scheduler.metadata"), "{message}");
    Arc::make_mut(snapshot.deployment.as_mut().unwrap()).metadata_hash = None;
    assert_eq!(updating::finding(&snapshot).1, Reason::UpToDate);
    let hash = build::metadata_hash(&snapshot.cluster);
    let adopted = json!({"metadata": {"annotations": {METADATA_HASH: hash}}});
    assert_eq!(plan_of(&snapshot, On).scheduler.patch, Some(adopted), "of an earlier operator");
}

#[test]
fn a_default_group_that_a_workflow_engine_owns_is_the_clusters() {
    let mut snapshot = made(PodState::Ready);
    let engine = json!([{
        "apiVersion": "argoproj.io/v1", "kind": "Application", "name": "a", "uid": "other", "controller": true,
    }]);
    default_group(&mut snapshot).metadata.owner_references = serde_json::from_value(engine).unwrap();
    assert_eq!(plan_of(&snapshot, On).obstacles, []);
    Arc::make_mut(&mut snapshot.cluster).spec.worker.spec.containers[0].image = Some("dask:new".into());
    assert!(plan_of(&snapshot, On).default_group_patch.is_some(), "edits are handed on");
}

#[test]
fn a_deployment_of_an_earlier_operator_is_adopted() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(snapshot.deployment.as_mut().unwrap()).template_hash = None;
    let cluster = Arc::make_mut(&mut snapshot.cluster);
    cluster.spec.update = serde_json::from_value(json!({"scheduler": "Always"})).unwrap();
    let plan = plan_of(&snapshot, On);
    let hash = updating::scheduler_hash(&snapshot.cluster).unwrap();
    assert_eq!(
        (plan.scheduler.patch, plan.scheduler.roll),
        (Some(json!({"metadata": {"annotations": {TEMPLATE_HASH: hash}}})), None)
    );
}

#[rstest]
#[case(&"a".repeat(54), "54 characters")]
#[case("invalid.chars.in.name", "'.'")]
fn bad_names_stop_everything(#[case] name: &str, #[case] words: &str) {
    let plan = plan_of(&new(cluster(name)), On);
    assert!(plan.is_empty());
    let [PartObstacle { part: Part::Cluster, obstacle }] = plan.obstacles.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(obstacle.reason, Reason::InvalidName);
    assert!(obstacle.message.contains(words), "{}", obstacle.message);
}

#[test]
fn a_cluster_that_goes_is_left_to_the_garbage_collector() {
    let mut cluster = cluster("simple");
    cluster.metadata.deletion_timestamp = Some(Time(at(0)));
    assert_eq!(plan_of(&new(cluster), On), ClusterPlan::default());
}

#[rstest]
#[case::a_strangers(None, Reason::NameTaken)]
#[case::an_earlier_clusters(Some("earlier-uid"), Reason::WaitingForDeletion)]
fn taken_names_are_told_and_the_rest_is_made(#[case] owner: Option<&str>, #[case] reason: Reason) {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(snapshot.service.as_mut().unwrap()).owner_uid = owner.map(str::to_owned);
    snapshot.deployment = None;
    let plan = plan_of(&snapshot, On);
    let [PartObstacle { part: Part::Service, obstacle }] = plan.obstacles.as_slice() else {
        panic!("{plan:?}")
    };
    assert_eq!(obstacle.reason, reason);
    assert!(obstacle.message.contains("Service \"simple-scheduler\""));
    assert!(plan.scheduler.create.is_some() && plan.service_patch.is_none());
}

#[test]
fn objects_that_are_going_are_waited_for() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(snapshot.service.as_mut().unwrap()).terminating = true;
    Arc::make_mut(snapshot.deployment.as_mut().unwrap()).terminating = true;
    default_group(&mut snapshot).metadata.deletion_timestamp = Some(Time(at(0)));
    assert!(plan_of(&snapshot, On).is_empty());
}

#[test]
fn obstacles_of_several_parts_are_all_told() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(snapshot.service.as_mut().unwrap()).owner_uid = None;
    Arc::make_mut(snapshot.deployment.as_mut().unwrap()).owner_uid = None;
    default_group(&mut snapshot).spec.cluster = "other".to_owned();
    let parts: Vec<_> = plan_of(&snapshot, On).obstacles.iter().map(|obstacle| obstacle.part).collect();
    assert_eq!(parts, [Part::Service, Part::Deployment, Part::DefaultGroup]);
}

fn refusal(part: Part) -> (Part, StandingRefusal) {
    let obstacle = Obstacle::new(Reason::Forbidden, "no right");
    (part, StandingRefusal { obstacle, wait: Duration::from_secs(4) })
}

fn after_refusals(snapshot: &ClusterSnapshot, standing: &[(Part, StandingRefusal)]) -> ClusterPlan {
    let form = PodForm { telemetry: On, lacking: None };
    let inputs = Inputs { standing, form, modules: Modules::default(), link: &LinkView::default() };
    decide(snapshot, &inputs, at(0))
}

#[rstest]
#[case(Part::Service)]
#[case(Part::Deployment)]
#[case(Part::DefaultGroup)]
fn a_refusal_stands_for_its_time_and_keeps_no_other_part(#[case] refused: Part) {
    let standing = [refusal(refused)];
    let plan = after_refusals(&new(cluster("simple")), &standing);
    for part in [Part::Service, Part::ConfigMap, Part::Deployment, Part::DefaultGroup] {
        assert_eq!(plan.writes(part), part != refused, "{part:?}");
    }
    assert_eq!(plan.obstacles, [PartObstacle::new(refused, standing[0].1.obstacle.clone())]);
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(4)));
}

#[test]
fn a_refusal_of_what_is_not_to_be_written_any_more_is_forgotten() {
    assert_eq!(after_refusals(&made(PodState::Ready), &[refusal(Part::Service)]), ClusterPlan::default());
}

fn refused() -> StandingRefusal {
    StandingRefusal { obstacle: Obstacle::new(Reason::QuotaExceeded, "full"), wait: Duration::from_secs(4) }
}

/// Whether a Deployment's pods mount the modules.
fn mounts(deployment: &k8s_openapi::api::apps::v1::Deployment) -> bool {
    let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).unwrap();
    assert_eq!(deployment.annotations().contains_key(TELEMETRY), spec.volumes.is_some());
    spec.volumes.is_some()
}

#[test]
fn a_new_cluster_is_made_without_modules_where_they_cannot_be_stored() {
    let plan = plan_of(&new(cluster("simple")), On);
    assert!(mounts(plan.scheduler.create.as_ref().unwrap()));
    assert!(!mounts(plan.without_modules.create.as_ref().unwrap()), "if the ConfigMap is refused now");
    let (refused, form) = (refused(), PodForm { telemetry: On, lacking: None });
    let plan = planned(&new(cluster("simple")), form, Modules { refused: Some(&refused), vanished: false });
    assert_eq!(plan.config_map, None, "not tried again yet");
    assert!(!mounts(plan.scheduler.create.as_ref().unwrap()));
    assert_eq!(plan.requeue_after, Some(refused.wait));
    assert_eq!(plan.obstacles, []);
}

#[test]
fn modules_that_vanished_are_stored_again() {
    let form = PodForm { telemetry: On, lacking: None };
    let plan = planned(&made(PodState::Starting), form, Modules { refused: None, vanished: true });
    assert!(plan.config_map.is_some());
    let forgotten = json!({"metadata": {"annotations": {TELEMETRY: null}}});
    assert_eq!(plan.without_modules.patch, Some(forgotten), "new pods must not mount what is not there");
}

/// A cluster whose scheduler's pod has waited on its node for some seconds, with the modules mounted.
fn hanging(seconds: i64, stored: bool) -> ClusterSnapshot {
    let mut snapshot = made(PodState::Starting);
    let startup = Startup { modules: true, waiting_since: Some(at(100 - seconds)), ..Startup::default() };
    snapshot.scheduler_pods = vec![Arc::new(PodRecord { startup, ..pod("s", PodState::Starting) })];
    if !stored {
        Arc::make_mut(snapshot.deployment.as_mut().unwrap()).telemetry = None;
    }
    snapshot
}

#[rstest]
#[case::patience(hanging(19, false), false)]
#[case::long(hanging(20, false), true)]
#[case::it_may_pull_its_image(hanging(99, true), false)]
fn a_scheduler_that_never_started_goes_on_without_modules(
    #[case] snapshot: ClusterSnapshot,
    #[case] rolled: bool,
) {
    let refused = refused();
    let form = PodForm { telemetry: On, lacking: None };
    let plan = planned(&snapshot, form, Modules { refused: Some(&refused), vanished: false });
    let roll = plan.scheduler.roll;
    assert_eq!(roll.as_ref().map(|roll| roll.cause), rolled.then_some(RollCause::ModulesMissing));
    assert!(roll.is_none_or(|roll| !mounts(&roll.wanted)));
}

#[test]
fn a_scheduler_that_runs_is_never_restarted_for_modules() {
    let mut snapshot = hanging(99, false);
    snapshot.scheduler_pods.push(Arc::new(pod("other", PodState::Ready)));
    assert!(plan_of(&snapshot, Off).scheduler.roll.is_none());
}

#[rstest]
#[case::lacking(Some("dask"), None, false, true)]
#[case::webhooks_image(Some("mirror/dask"), None, false, true)]
#[case::replaced_already(Some("dask"), Some("dask"), false, false)]
#[case::runs(Some("dask"), None, true, false)]
#[case::nothing_is_missing(None, None, false, false)]
fn a_scheduler_whose_command_is_missing_is_made_anew_as_a_module(
    #[case] missing: Option<&str>,
    #[case] replaced: Option<&str>,
    #[case] running: bool,
    #[case] rolled: bool,
) {
    let mut snapshot = made(PodState::Starting);
    let startup = Startup { command_missing: missing.map(Image::new), ..Startup::default() };
    snapshot.scheduler_pods = vec![Arc::new(PodRecord { running, startup, ..pod("s", PodState::Starting) })];
    Arc::make_mut(snapshot.deployment.as_mut().unwrap()).module_command = replaced.map(Image::new);
    let form = PodForm { telemetry: On, lacking: Some(Image::new("dask")) };
    let plan = planned(&snapshot, form, Modules::default());
    let roll = plan.scheduler.roll;
    assert_eq!(roll.as_ref().map(|roll| roll.cause), rolled.then_some(RollCause::CommandMissing));
    let Some(roll) = roll else { return };
    assert_eq!(roll.wanted.annotations()[MODULE_COMMAND], Image::new("dask").to_annotation());
    assert_eq!(
        roll.wanted.annotations()[TEMPLATE_HASH],
        snapshot.deployment.as_ref().and_then(|deployment| deployment.template_hash.clone()).unwrap(),
        "the template is the user's, still"
    );
    let args = roll.wanted.spec.unwrap().template.spec.unwrap().containers.remove(0).args.unwrap();
    assert_eq!(args[..3], ["python", "-m", "distributed.cli.dask_scheduler"]);
    assert_eq!(args[3], "--preload", "the modules, too");
}
