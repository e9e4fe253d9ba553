//! The status of a cluster, from what was observed. Pure: no client, no clock.

use dask_operator_api::{
    ClusterName, ClusterPhase, ConditionType, Conditions, DaskClusterStatus, Reason, SchedulerStatus,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::build::{dashboard_port, scheduler_address};
use super::plan::{Part, PartObstacle};
use super::{incarnation, scheduler_exit, service, updating};
use crate::cluster_cache::records::{PodRecord, PodState, ServiceRecord};
use crate::cluster_cache::snapshot::ClusterSnapshot;
use crate::controllers::Obstacle;
use crate::controllers::counts::group_counts;
use crate::pods::dashboard;
use crate::pods::invocation::{Role, main_container};
use crate::scheduler_link::{LinkView, reachability};

/// What a check found: the condition's status, reason and message.
pub(super) type Finding = (Option<bool>, Reason, String);

/// The status that describes `snapshot`. `obstacles` keep the operator from making what is missing.
#[must_use]
pub fn status(
    snapshot: &ClusterSnapshot,
    link: &LinkView,
    obstacles: &[PartObstacle],
    previous: &DaskClusterStatus,
    now: Timestamp,
) -> DaskClusterStatus {
    let cluster = &snapshot.cluster;
    let groups: Vec<_> = snapshot.groups.iter().map(group_counts).collect();
    let ready = groups.iter().map(|group| group.ready).fold(0, i32::saturating_add);
    let desired = groups.iter().map(|group| group.desired).fold(0, i32::saturating_add);
    let default_name = format!("{}-default", cluster.name_any());
    let default = groups.iter().find(|group| group.name == default_name);

    let scheduler = scheduler_finding(snapshot, link, obstacles, previous);
    let workers = workers_finding(snapshot, obstacles, ready, desired);
    let summary = summary_finding(&scheduler, &workers);
    let time = Time(now);
    let reachable = reachable_finding(snapshot, link, previous);
    let updating = updating::finding(snapshot);
    let mut conditions = Conditions::new(&previous.conditions, cluster.metadata.generation, &time)
        .set(ConditionType::Ready, summary.0, summary.1, &summary.2)
        .set(ConditionType::SchedulerReady, scheduler.0, scheduler.1, &scheduler.2)
        .set(ConditionType::SchedulerReachable, reachable.0, reachable.1, &reachable.2)
        .set(ConditionType::WorkersReady, workers.0, workers.1, &workers.2)
        .set(ConditionType::Updating, updating.0, updating.1, &updating.2);
    if let Some((status, reason, message)) = incarnation::finding(previous, link, snapshot) {
        conditions = conditions.set(ConditionType::SchedulerLostState, status, reason, &message);
    }

    DaskClusterStatus {
        phase: Some(phase(snapshot, obstacles, previous.phase)),
        conditions: conditions.build(),
        observed_generation: cluster.metadata.generation,
        replicas: default
            .map_or(0, |group| group.pending.saturating_add(group.starting).saturating_add(group.ready)),
        ready_replicas: default.map_or(0, |group| group.ready),
        ready: Some(format!("{ready}/{desired}")),
        selector: default_selector(&cluster.name_any()),
        scheduler: Some(scheduler_status(snapshot, previous, link)),
        groups,
    }
}

/// The phase, in dask-kubernetes' meaning. `Running` is never left: clients would take the cluster for broken.
fn phase(
    snapshot: &ClusterSnapshot,
    obstacles: &[PartObstacle],
    previous: Option<ClusterPhase>,
) -> ClusterPhase {
    if obstacles.iter().any(|obstacle| obstacle.obstacle.reason == Reason::InvalidName) {
        return ClusterPhase::Error;
    }
    let service = snapshot.service.as_deref().filter(|service| belongs(service, snapshot));
    match (previous, service) {
        (Some(ClusterPhase::Running), _) => ClusterPhase::Running,
        (_, None) => ClusterPhase::Created,
        (_, Some(service)) if awaits_load_balancer(service) => ClusterPhase::Pending,
        (_, Some(_)) => ClusterPhase::Running,
    }
}

pub(super) fn belongs(service: &ServiceRecord, snapshot: &ClusterSnapshot) -> bool {
    service.owner_uid.as_deref() == snapshot.cluster.metadata.uid.as_deref()
}

fn awaits_load_balancer(service: &ServiceRecord) -> bool {
    service.spec.type_.as_deref() == Some("LoadBalancer") && !service.has_ingress
}

/// The scheduler pod that counts: the newest that is not on its way out.
pub(super) fn scheduler_pod(snapshot: &ClusterSnapshot) -> Option<&PodRecord> {
    snapshot.scheduler_pods.iter().map(AsRef::as_ref).rfind(|pod| pod.state != PodState::Terminating)
}

fn scheduler_finding(
    snapshot: &ClusterSnapshot,
    link: &LinkView,
    obstacles: &[PartObstacle],
    previous: &DaskClusterStatus,
) -> Finding {
    let in_the_way = |part| match part {
        Part::Cluster | Part::Service | Part::Deployment => true,
        // Of the ConfigMap the condition ModulesReady tells: pods run without it.
        Part::ConfigMap | Part::DefaultGroup => false,
    };
    obstacle_finding(obstacles.iter().filter(|obstacle| in_the_way(obstacle.part)))
        .or_else(|| pod_problem(snapshot))
        .or_else(|| replica_failure(snapshot))
        .or_else(|| load_balancer(snapshot))
        .or_else(|| service::finding(snapshot, link, previous))
        .or_else(|| pod_progress(snapshot))
        .unwrap_or_else(|| (Some(true), Reason::AllReady, "the scheduler is ready".to_owned()))
}

/// The reason of the first obstacle, and the words of all.
fn obstacle_finding<'a>(obstacles: impl Iterator<Item = &'a PartObstacle>) -> Option<Finding> {
    let obstacles: Vec<&Obstacle> = obstacles.map(|obstacle| &obstacle.obstacle).collect();
    let first = obstacles.first()?;
    let messages: Vec<&str> = obstacles.iter().map(|obstacle| obstacle.message.as_str()).collect();
    Some((Some(false), first.reason, messages.join("; ")))
}

fn pod_problem(snapshot: &ClusterSnapshot) -> Option<Finding> {
    let pod = scheduler_pod(snapshot).filter(|pod| pod.state != PodState::Ready)?;
    let ended = pod.problem.as_ref().is_none_or(|problem| problem.reason == Reason::CrashLoop);
    if let Some(message) = scheduler_exit::message(snapshot).filter(|_| ended) {
        return Some((Some(false), Reason::SchedulerExited, message));
    }
    pod.problem.as_ref().map(|problem| (Some(false), problem.reason, problem.message.clone()))
}

/// The Deployment cannot make its pod; its message is the API server's.
fn replica_failure(snapshot: &ClusterSnapshot) -> Option<Finding> {
    if scheduler_pod(snapshot).is_some() {
        return None;
    }
    let message = snapshot.deployment.as_ref()?.replica_failure.as_ref()?;
    let reason =
        if message.contains("exceeded quota") { Reason::QuotaExceeded } else { Reason::AdmissionRefused };
    Some((Some(false), reason, format!("the scheduler's pod cannot be created: {message}")))
}

fn load_balancer(snapshot: &ClusterSnapshot) -> Option<Finding> {
    let service = snapshot.service.as_deref().filter(|service| awaits_load_balancer(service))?;
    let message = format!("Service \"{}\" has no load balancer address yet", service.name);
    Some((Some(false), Reason::WaitingForLoadBalancer, message))
}

fn pod_progress(snapshot: &ClusterSnapshot) -> Option<Finding> {
    match scheduler_pod(snapshot) {
        None => Some((Some(false), Reason::Starting, "the scheduler's pod is being created".to_owned())),
        Some(pod) if pod.state == PodState::Ready => None,
        Some(pod) => Some((Some(false), Reason::Starting, format!("pod \"{}\" is starting", pod.name))),
    }
}

/// What the groups say of their workers: the first problem, or how far they are.
fn workers_finding(
    snapshot: &ClusterSnapshot,
    obstacles: &[PartObstacle],
    ready: i32,
    desired: i32,
) -> Finding {
    let default_group = obstacles.iter().filter(|obstacle| obstacle.part == Part::DefaultGroup);
    if let Some(finding) = obstacle_finding(default_group) {
        return finding;
    }
    let type_: &str = ConditionType::WorkersReady.into();
    for members in &snapshot.groups {
        let conditions = members.group.status.iter().flat_map(|status| &status.conditions);
        let problem = conditions
            .filter(|condition| condition.type_ == type_ && condition.status == "False")
            .find_map(|condition| Some((condition.reason.parse::<Reason>().ok()?, &condition.message)))
            .filter(|(reason, _)| reason.is_problem());
        if let Some((reason, message)) = problem {
            return (Some(false), reason, format!("group \"{}\": {message}", members.group.name_any()));
        }
    }
    if desired == 0 {
        return (Some(true), Reason::ScaledToZero, "no workers are wanted".to_owned());
    }
    let message = format!("{ready} of {desired} workers are ready");
    match ready.cmp(&desired) {
        std::cmp::Ordering::Less => (Some(false), Reason::Starting, message),
        std::cmp::Ordering::Equal => (Some(true), Reason::AllReady, message),
        std::cmp::Ordering::Greater => (Some(true), Reason::Scaling, message),
    }
}

/// Ready when both are; otherwise the one that is not, the scheduler before the workers.
fn summary_finding(scheduler: &Finding, workers: &Finding) -> Finding {
    let blocking = [scheduler, workers].into_iter().find(|finding| finding.0 != Some(true));
    blocking.cloned().unwrap_or_else(|| (Some(true), Reason::AllReady, workers.2.clone()))
}

/// Whether the scheduler answers. It says nothing about whether the cluster is ready: an operator that cannot reach a
/// scheduler need not be the fault of the cluster.
fn reachable_finding(snapshot: &ClusterSnapshot, link: &LinkView, previous: &DaskClusterStatus) -> Finding {
    let ready = scheduler_pod(snapshot).is_some_and(|pod| pod.state == PodState::Ready);
    reachability(link, ready).or_else(|| standing_finding(previous)).unwrap_or_else(|| {
        (None, Reason::SchedulerNotRunning, "the scheduler has not been asked yet".to_owned())
    })
}

/// What was found about the scheduler before this operator could ask it.
fn standing_finding(previous: &DaskClusterStatus) -> Option<Finding> {
    let type_: &str = ConditionType::SchedulerReachable.into();
    let condition = previous.conditions.iter().find(|condition| condition.type_ == type_)?;
    let status = match condition.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    };
    Some((status, condition.reason.parse().ok()?, condition.message.clone()))
}

fn scheduler_status(
    snapshot: &ClusterSnapshot,
    previous: &DaskClusterStatus,
    link: &LinkView,
) -> SchedulerStatus {
    let (id, started_at) = incarnation::identity(previous, link);
    let address = scheduler_address(&snapshot.cluster);
    let containers = &snapshot.cluster.spec.scheduler.spec.containers;
    let pod = scheduler_pod(snapshot);
    SchedulerStatus {
        address: Some(address.to_string()),
        dashboard: dashboard_port(&snapshot.cluster.spec.scheduler)
            .map(|port| dashboard::url(&address, port, main_container(containers, Role::Scheduler))),
        pod: pod.map(|pod| pod.name.to_string()),
        restarts: pod.map_or(0, |pod| pod.restarts),
        id,
        started_at,
    }
}

fn default_selector(cluster: &str) -> Option<String> {
    let name: ClusterName = cluster.parse().ok()?;
    name.default_group().parse().ok().map(|group: dask_operator_api::GroupName| group.worker_selector())
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
