use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::controllers::cluster::testing::{at, cluster, made, new, pod, troubled, workers};
use crate::scheduler_link::testing::sample;
use crate::scheduler_link::{LinkFailure, Sample};

fn of(snapshot: &ClusterSnapshot) -> DaskClusterStatus {
    status(snapshot, &LinkView::default(), &[], &DaskClusterStatus::default(), at(0))
}

fn condition<'a>(status: &'a DaskClusterStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
    let condition = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
    (&condition.status, &condition.reason, &condition.message)
}

#[test]
fn a_new_cluster_is_created() {
    let status = of(&new(cluster("simple")));
    assert_eq!(status.phase, Some(ClusterPhase::Created));
    assert_eq!(condition(&status, "SchedulerReady").1, "Starting");
}

#[test]
fn running_needs_only_the_service() {
    let mut snapshot = made(PodState::Pending);
    snapshot.deployment = None;
    snapshot.scheduler_pods.clear();
    assert_eq!(of(&snapshot).phase, Some(ClusterPhase::Running));
}

#[rstest]
#[case(false, ClusterPhase::Pending, "WaitingForLoadBalancer")]
#[case(true, ClusterPhase::Running, "AllReady")]
fn a_load_balancer_needs_its_address(
    #[case] ingress: bool,
    #[case] phase: ClusterPhase,
    #[case] reason: &str,
) {
    let mut snapshot = made(PodState::Ready);
    let service = Arc::make_mut(snapshot.service.as_mut().unwrap());
    service.spec.type_ = Some("LoadBalancer".into());
    service.has_ingress = ingress;
    let status = of(&snapshot);
    assert_eq!(status.phase, Some(phase));
    assert_eq!(condition(&status, "SchedulerReady").1, reason);
}

#[test]
fn a_foreign_service_does_not_make_it_running() {
    let mut snapshot = made(PodState::Ready);
    Arc::make_mut(snapshot.service.as_mut().unwrap()).owner_uid = None;
    assert_eq!(of(&snapshot).phase, Some(ClusterPhase::Created));
}

#[test]
fn a_bad_name_is_an_error() {
    let obstacle = PartObstacle::new(Part::Cluster, Obstacle::new(Reason::InvalidName, "bad name"));
    let status =
        status(&new(cluster("a.b")), &LinkView::default(), &[obstacle], &DaskClusterStatus::default(), at(0));
    assert_eq!(status.phase, Some(ClusterPhase::Error));
    assert_eq!(condition(&status, "Ready"), ("False", "InvalidName", "bad name"));
    assert_eq!(status.selector, None);
}

#[rstest]
#[case::unschedulable(troubled(Reason::Unschedulable), ("False", "Unschedulable", "pod has trouble"))]
#[case::image(troubled(Reason::ImagePullFailed), ("False", "ImagePullFailed", "pod has trouble"))]
#[case::starting(pod("s", PodState::Starting), ("False", "Starting", "pod \"s\" is starting"))]
#[case::ready(pod("s", PodState::Ready), ("True", "AllReady", "the scheduler is ready"))]
#[case::going(pod("s", PodState::Terminating), ("False", "Starting", "the scheduler's pod is being created"))]
fn the_scheduler_condition(#[case] pod: PodRecord, #[case] expected: (&str, &str, &str)) {
    let mut snapshot = made(PodState::Ready);
    snapshot.scheduler_pods = vec![Arc::new(pod)];
    assert_eq!(condition(&of(&snapshot), "SchedulerReady"), expected);
}

#[rstest]
#[case(
    "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3",
    "QuotaExceeded"
)]
#[case(
    "Failed to create new replica set \"x\": replicasets.apps \"x\" is forbidden: exceeded quota: q, requested: \
     count/replicasets.apps=1, used: count/replicasets.apps=5, limited: count/replicasets.apps=5",
    "QuotaExceeded"
)]
#[case("pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\"", "AdmissionRefused")]
fn a_pod_that_cannot_be_made(#[case] message: &str, #[case] reason: &str) {
    let mut snapshot = made(PodState::Ready);
    snapshot.scheduler_pods.clear();
    Arc::make_mut(snapshot.deployment.as_mut().unwrap()).replica_failure = Some(message.into());
    let status = of(&snapshot);
    let (ready, found, words) = condition(&status, "SchedulerReady");
    assert_eq!((ready, found), ("False", reason));
    assert!(words.contains(message));
}

#[test]
fn workers_are_counted() {
    let mut snapshot = made(PodState::Ready);
    workers(&mut snapshot, &[PodState::Ready, PodState::Starting]);
    let status = of(&snapshot);
    assert_eq!((status.ready.as_deref(), status.replicas, status.ready_replicas), (Some("1/2"), 2, 1));
    assert_eq!(condition(&status, "WorkersReady"), ("False", "Starting", "1 of 2 workers are ready"));
    assert_eq!(condition(&status, "Ready").1, "Starting");
    workers(&mut snapshot, &[PodState::Ready, PodState::Ready]);
    assert_eq!(condition(&of(&snapshot), "Ready"), ("True", "AllReady", "2 of 2 workers are ready"));
}

#[test]
fn creating_a_pod_does_not_change_the_status() {
    let mut snapshot = made(PodState::Ready);
    let before = of(&snapshot);
    workers(&mut snapshot, &[PodState::Pending, PodState::Pending]);
    assert_eq!(of(&snapshot), before);
}

#[test]
fn a_groups_problem_is_the_clusters() {
    let mut snapshot = made(PodState::Ready);
    let time = Time(at(0));
    let conditions = Conditions::new(&[], Some(1), &time)
        .set(ConditionType::WorkersReady, Some(false), Reason::QuotaExceeded, "no room")
        .build();
    let group = Arc::make_mut(&mut snapshot.groups[0].group);
    group.status = Some(dask_operator_api::DaskWorkerGroupStatus { conditions, ..Default::default() });
    let status = of(&snapshot);
    let expected = ("False", "QuotaExceeded", "group \"simple-default\": no room");
    assert_eq!(condition(&status, "WorkersReady"), expected);
    assert_eq!(condition(&status, "Ready"), expected);
}

#[test]
fn where_the_scheduler_is() {
    let scheduler = of(&made(PodState::Ready)).scheduler.unwrap();
    assert_eq!(scheduler.address.as_deref(), Some("tcp://simple-scheduler.ns.svc.cluster.local:8786"));
    assert_eq!(
        scheduler.dashboard.as_deref(),
        Some("http://simple-scheduler.ns.svc.cluster.local:8787/status")
    );
    assert_eq!(scheduler.pod.as_deref(), Some("simple-scheduler-abc"));
}

#[test]
fn transition_times_move_only_on_change_and_foreign_conditions_stay() {
    let mut previous = of(&made(PodState::Starting));
    let foreign = Condition { type_: "Mine".into(), ..previous.conditions[0].clone() };
    previous.conditions.push(foreign.clone());
    let next = status(&made(PodState::Ready), &LinkView::default(), &[], &previous, at(60));
    let time = |status: &DaskClusterStatus, type_: &str| {
        status.conditions.iter().find(|c| c.type_ == type_).unwrap().last_transition_time.0
    };
    assert_eq!(time(&next, "SchedulerReady"), at(60));
    assert_eq!(time(&next, "WorkersReady"), at(0));
    assert!(next.conditions.contains(&foreign));
}

proptest! {
    #[test]
    fn running_is_never_left(service in any::<bool>(), balancer in any::<bool>(), pods in 0..4_usize) {
        let mut snapshot = made(PodState::Starting);
        if balancer {
            Arc::make_mut(snapshot.service.as_mut().unwrap()).spec.type_ = Some("LoadBalancer".into());
        }
        if !service {
            snapshot.service = None;
        }
        snapshot.scheduler_pods.truncate(pods);
        let previous = DaskClusterStatus { phase: Some(ClusterPhase::Running), ..Default::default() };
        prop_assert_eq!(status(&snapshot, &LinkView::default(), &[], &previous, at(0)).phase, Some(ClusterPhase::Running));
    }
}

fn answering() -> LinkView {
    let started = Some(at(5) + std::time::Duration::from_millis(700));
    let sample = Sample { started, ..sample("Scheduler-1") };
    LinkView { asked: true, sample: Some(Arc::new(sample)), failure: None }
}

#[test]
fn a_scheduler_that_answers_is_named() {
    let snapshot = made(PodState::Ready);
    let status = status(&snapshot, &answering(), &[], &DaskClusterStatus::default(), at(9));
    assert_eq!(condition(&status, "SchedulerReachable").1, "StandardOperations");
    let scheduler = status.scheduler.unwrap();
    assert_eq!(scheduler.id.as_deref(), Some("Scheduler-1"));
    assert_eq!(scheduler.started_at, Some(Time(at(5))), "in whole seconds");
}

#[test]
fn a_later_round_changes_nothing() {
    let snapshot = made(PodState::Ready);
    let before = status(&snapshot, &answering(), &[], &DaskClusterStatus::default(), at(9));
    let mut later = answering();
    let sample = Arc::make_mut(later.sample.as_mut().unwrap());
    (sample.taken, sample.workers, sample.queued) = (at(99), 7, Some(3));
    assert_eq!(status(&snapshot, &later, &[], &before, at(99)), before);
}

#[test]
fn what_was_known_stands_until_the_operator_has_asked() {
    let snapshot = made(PodState::Ready);
    let before = status(&snapshot, &answering(), &[], &DaskClusterStatus::default(), at(9));
    assert_eq!(status(&snapshot, &LinkView::default(), &[], &before, at(60)), before);
}

#[test]
fn a_scheduler_out_of_reach_does_not_make_the_cluster_unready() {
    let mut snapshot = made(PodState::Ready);
    workers(&mut snapshot, &[PodState::Ready, PodState::Ready]);
    let failure =
        LinkFailure { reason: Reason::SchedulerUnreachable, message: "no answer".to_owned(), since: at(0) };
    let link = LinkView { failure: Some(failure), ..answering() };
    let status = status(&snapshot, &link, &[], &DaskClusterStatus::default(), at(9));
    assert_eq!(condition(&status, "SchedulerReachable"), ("False", "SchedulerUnreachable", "no answer"));
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(status.scheduler.unwrap().id.as_deref(), Some("Scheduler-1"), "it may still be the same");
}

#[test]
fn obstacles_are_told_where_they_belong_and_all_of_them() {
    let obstacle = |part, words: &str| PartObstacle::new(part, Obstacle::new(Reason::Forbidden, words));
    let told = |obstacles: &[PartObstacle]| {
        let mut snapshot = made(PodState::Ready);
        workers(&mut snapshot, &[PodState::Ready, PodState::Ready]);
        let status = status(&snapshot, &LinkView::default(), obstacles, &DaskClusterStatus::default(), at(0));
        let of = |type_| condition(&status, type_).2.to_owned();
        (of("SchedulerReady"), of("WorkersReady"))
    };
    let group = obstacle(Part::DefaultGroup, "no group");
    let (scheduler, workers) = told(std::slice::from_ref(&group));
    assert_eq!((scheduler.as_str(), workers.as_str()), ("the scheduler is ready", "no group"));
    let all = [obstacle(Part::Service, "no service"), obstacle(Part::Deployment, "no deployment"), group];
    let (scheduler, workers) = told(&all);
    assert_eq!((scheduler.as_str(), workers.as_str()), ("no service; no deployment", "no group"));
    let modules = [obstacle(Part::ConfigMap, "no modules")];
    assert_eq!(told(&modules).0, "the scheduler is ready", "it runs with what it has");
}
