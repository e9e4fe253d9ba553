//! The status of a group, from what was observed. Pure: no client, no clock.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use dask_operator_api::{
    ConditionType, Conditions, DaskWorkerGroupStatus, GroupName, Reason, WorkerFailures,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::joining::{Joining, standing};
use super::removal::Finding;
use super::update;
use crate::cluster_cache::records::PodState;
use crate::cluster_cache::snapshot::{Awaited, GroupMembers, GroupSnapshot};
use crate::controllers::Obstacle;
use crate::controllers::counts::WorkerCounts;
use crate::controllers::obstacle::Purpose;

/// How long a failure is told while its replacement starts.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// What is told besides what the snapshot shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// What is in the way of what, what matters most first.
    pub obstacles: &'a [(Purpose, Obstacle)],
    /// The record of failures.
    pub failures: Option<&'a WorkerFailures>,
    /// What is known about workers that have to go.
    pub shrinking: Option<&'a Finding>,
    /// Whether the workers have joined their scheduler.
    pub joining: Option<&'a Joining>,
    /// Digest of the group's worker template.
    pub template_hash: &'a str,
}

/// The status that describes `snapshot`.
#[must_use]
pub fn status(
    snapshot: &GroupSnapshot,
    told: &Told,
    previous: &DaskWorkerGroupStatus,
    now: Timestamp,
) -> DaskWorkerGroupStatus {
    let Told { obstacles, failures, shrinking, template_hash, .. } = *told;
    let group = &snapshot.members.group;
    let policy = snapshot.cluster.as_ref().map(|cluster| cluster.spec.update_policy()).unwrap_or_default();
    let (updating, update) = update::finding(&snapshot.members, template_hash, &policy, shrinking);
    let counts = WorkerCounts::of_group(&snapshot.members);
    let (scaling, why, words) = scaling(group.spec.worker.replicas, counts, shrinking, obstacles);
    let found = finding(snapshot, counts, failures, now);
    let found = with_joining(found, &tally(counts, group.spec.worker.replicas), told, previous);
    let (ready, reason, message) = with_obstacles(found, counts, group.spec.worker.replicas, obstacles);
    let time = Time(now);
    let used = snapshot.members.workers.iter().filter_map(|worker| worker.ordinal);
    DaskWorkerGroupStatus {
        conditions: Conditions::new(&previous.conditions, group.metadata.generation, &time)
            .set(ConditionType::WorkersReady, Some(ready), reason, &message)
            .set(ConditionType::Scaling, Some(scaling), why, &words)
            .set(ConditionType::Updating, Some(updating), update.reason, &update.message)
            .build(),
        observed_generation: group.metadata.generation,
        replicas: counts.live(),
        ready_replicas: counts.ready,
        selector: group.name_any().parse::<GroupName>().ok().map(|name| name.worker_selector()),
        highest_ordinal: used.chain([previous.highest_ordinal]).max().unwrap_or(0),
        failures: failures.cloned(),
    }
}

/// Condition `Scaling`: whether workers come or go, and why one that should go is kept.
fn scaling(
    desired: i32,
    counts: WorkerCounts,
    shrinking: Option<&Finding>,
    obstacles: &[(Purpose, Obstacle)],
) -> (bool, Reason, String) {
    let of_leaving = |purpose| matches!(purpose, Purpose::Deletion | Purpose::Mark | Purpose::Unmark);
    if let Some((_, obstacle)) = obstacles.iter().find(|(purpose, _)| of_leaving(*purpose)) {
        return (true, Reason::Scaling, obstacle.message.clone());
    }
    if let Some(finding) = shrinking {
        return (true, finding.reason, finding.message.clone());
    }
    let desired = desired.max(0);
    if counts.live() == desired {
        return (false, Reason::AtDesiredSize, format!("{desired} workers are wanted"));
    }
    (true, Reason::Scaling, format!("{} of {desired} workers exist", counts.live()))
}

fn finding(
    snapshot: &GroupSnapshot,
    counts: WorkerCounts,
    failures: Option<&WorkerFailures>,
    now: Timestamp,
) -> (bool, Reason, String) {
    let members = &snapshot.members;
    let desired = members.group.spec.worker.replicas;
    let live = counts.live();
    let tally = tally(counts, desired);
    if live < desired
        && let Some(awaited) = snapshot.awaited()
    {
        let (reason, pod) = match awaited {
            Awaited::Scheduler => (Reason::WaitingForScheduler, "the pod of their scheduler"),
            Awaited::Runner => (Reason::WaitingForRunner, "the runner of their job"),
        };
        let message =
            format!("{tally}; workers are created when {pod} exists, so that they do not take its room");
        return (false, reason, message);
    }
    if live < desired
        && let Some(failures) = failures.filter(|failures| failures.retry_after.0 > now)
    {
        let reason = failures.last_reason.parse().unwrap_or(Reason::PodFailed);
        let message = format!(
            "{tally}; {}; {} failures in a row, the next try is at {}",
            failures.last_message,
            failures.consecutive,
            failures.retry_after.0.strftime("%Y-%m-%dT%H:%M:%SZ"),
        );
        return (false, reason, message);
    }
    if let Some((reason, count, message)) = commonest_problem(members) {
        let message = if count > 1 {
            format!("{tally}; {count} workers, such as: {message}")
        } else {
            format!("{tally}; {message}")
        };
        return (false, reason, message);
    }
    match (counts.ready == desired, live > desired) {
        (_, true) => (
            counts.ready >= desired,
            Reason::Scaling,
            format!("{tally}; {} are being removed", live.saturating_sub(desired)),
        ),
        (true, _) if desired == 0 => (true, Reason::ScaledToZero, "no workers are wanted".to_owned()),
        (true, _) => (true, Reason::AllReady, tally),
        (false, _) => (false, Reason::Starting, starting(tally, failures, now)),
    }
}

/// Workers that have not joined their scheduler are of no use, however ready their pods are. A problem that pods have by
/// themselves comes first.
fn with_joining(
    found: (bool, Reason, String),
    tally: &str,
    told: &Told,
    previous: &DaskWorkerGroupStatus,
) -> (bool, Reason, String) {
    if found.1.is_problem() {
        return found;
    }
    match told.joining {
        None | Some(Joining::Nobody) => found,
        Some(Joining::Missing(finding)) => (false, finding.reason, format!("{tally}; {}", finding.message)),
        Some(Joining::Unknown(_)) => match standing(previous).filter(|_| told.obstacles.is_empty()) {
            Some(condition) => (false, Reason::WorkersNotJoined, condition.message.clone()),
            None => found,
        },
    }
}

/// While a replacement starts, what it replaces is told.
fn starting(tally: String, failures: Option<&WorkerFailures>, now: Timestamp) -> String {
    match failures.filter(|failures| now.duration_since(failures.last_time.0) < RECENT) {
        Some(failures) => format!("{tally}; before: {}", failures.last_message),
        None => tally,
    }
}

/// Condition `WorkersReady` with all that is in the way: it is false if what is missing cannot be made, and otherwise as
/// the workers are.
fn with_obstacles(
    (ready, reason, message): (bool, Reason, String),
    counts: WorkerCounts,
    desired: i32,
    obstacles: &[(Purpose, Obstacle)],
) -> (bool, Reason, String) {
    let Some((first, obstacle)) = obstacles.first() else { return (ready, reason, message) };
    let named = Obstacle::named(obstacles.iter().map(|(_, obstacle)| obstacle));
    if *first != Purpose::Creation {
        let reason = if reason.is_problem() { reason } else { obstacle.reason };
        return (ready, reason, format!("{message}; {named}"));
    }
    let mut words = if counts.live() > 0 { format!("{}; {named}", tally(counts, desired)) } else { named };
    if reason.is_problem() {
        // The pods that there are have a problem of their own.
        let own = message.strip_prefix(&tally(counts, desired)).unwrap_or(&message);
        words.push_str(own);
    }
    (false, obstacle.reason, words)
}

fn tally(counts: WorkerCounts, desired: i32) -> String {
    format!("{} of {desired} workers are ready", counts.ready)
}

/// The problem that most workers have, how many have it, and the words of the first of them.
fn commonest_problem(members: &GroupMembers) -> Option<(Reason, usize, &str)> {
    let mut by_reason: BTreeMap<Reason, (usize, &str)> = BTreeMap::new();
    let not_ready = members.pods().filter(|worker| worker.state < PodState::Ready);
    for problem in not_ready.filter_map(|worker| worker.problem.as_ref()) {
        by_reason.entry(problem.reason).or_insert((0, &problem.message)).0 += 1;
    }
    let (reason, (count, message)) = by_reason.into_iter().min_by_key(|(_, (count, _))| Reverse(*count))?;
    Some((reason, count, message))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
