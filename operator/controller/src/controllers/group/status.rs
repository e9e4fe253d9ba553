//! The status of a group, from what was observed. Pure: no client, no clock.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use dask_operator_api::{
    ConditionType, Conditions, DaskWorkerGroupStatus, GroupName, Reason, WorkerFailures,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::removal::Finding;
use super::update;
use crate::cluster_cache::records::PodState;
use crate::cluster_cache::snapshot::{Awaited, GroupMembers, GroupSnapshot};
use crate::controllers::Obstacle;
use crate::controllers::counts::WorkerCounts;

/// How long a failure is told while its replacement starts.
const RECENT: SignedDuration = SignedDuration::from_mins(10);

/// What is told besides what the snapshot shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// What keeps the operator from creating what is missing.
    pub obstacle: Option<&'a Obstacle>,
    /// The record of failures.
    pub failures: Option<&'a WorkerFailures>,
    /// What is known about workers that have to go.
    pub shrinking: Option<&'a Finding>,
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
    let Told { obstacle, failures, shrinking, template_hash } = *told;
    let group = &snapshot.members.group;
    let policy = snapshot.cluster.as_ref().map(|cluster| cluster.spec.update_policy()).unwrap_or_default();
    let (updating, update) = update::finding(&snapshot.members, template_hash, &policy);
    let counts = WorkerCounts::of_group(&snapshot.members);
    let (scaling, why, words) = scaling(group.spec.worker.replicas, counts, shrinking);
    let (ready, reason, message) = finding(snapshot, counts, obstacle, failures, now);
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
fn scaling(desired: i32, counts: WorkerCounts, shrinking: Option<&Finding>) -> (bool, Reason, String) {
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
    obstacle: Option<&Obstacle>,
    failures: Option<&WorkerFailures>,
    now: Timestamp,
) -> (bool, Reason, String) {
    let members = &snapshot.members;
    let desired = members.group.spec.worker.replicas;
    let live = counts.live();
    let tally = format!("{} of {desired} workers are ready", counts.ready);
    if let Some(obstacle) = obstacle {
        let message =
            if live > 0 { format!("{tally}; {}", obstacle.message) } else { obstacle.message.clone() };
        return (false, obstacle.reason, message);
    }
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
            format!("{tally}; {} are being removed", live - desired),
        ),
        (true, _) if desired == 0 => (true, Reason::ScaledToZero, "no workers are wanted".to_owned()),
        (true, _) => (true, Reason::AllReady, tally),
        (false, _) => (false, Reason::Starting, starting(tally, failures, now)),
    }
}

/// While a replacement starts, what it replaces is told.
fn starting(tally: String, failures: Option<&WorkerFailures>, now: Timestamp) -> String {
    match failures.filter(|failures| now.duration_since(failures.last_time.0) < RECENT) {
        Some(failures) => format!("{tally}; before: {}", failures.last_message),
        None => tally,
    }
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
