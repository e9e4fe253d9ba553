//! Workers that run and are of no use: those of a scheduler that is gone, which never joined its successor, and those
//! that the scheduler gives no tasks any more. Pure: no client, no clock.
//!
//! Dask's workers do not connect again: they end, and their container or pod is started anew. One that hangs instead
//! is ready in Kubernetes' eyes and known to nobody. It is marked and so replaced, and deleted when the scheduler has
//! told twice more that it knows nothing of it; if it joins after all, it is drained. The same becomes of a worker that
//! was fenced and whose mark is gone: Dask cannot take a fence back.

use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::{ConditionType, DaskCluster, Reason, UpdatePolicy};
use jiff::Timestamp;

use super::known::fresh_sample;
use super::removal::{Finding, Marking};
use crate::cluster_cache::records::{PodRecord, PodState};
use crate::cluster_cache::snapshot::GroupMembers;
use crate::scheduler_link::{LinkView, Sample};

/// How long workers have to join a new scheduler.
pub(super) const JOINING: Duration = Duration::from_secs(30);
/// How old a list of workers may be.
const FRESH: Duration = Duration::from_secs(15);
/// How long after the start of a new scheduler anybody can still be found to be stranded by it.
const AFTERMATH: Duration = Duration::from_mins(10);
/// How soon to look again for workers that may be stranded.
const POLL: Duration = Duration::from_secs(5);

/// What becomes of workers that are of no use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Useless {
    /// Pods to mark.
    pub(super) mark: Vec<Marking>,
    /// What is going on; `None` if nobody is stranded.
    pub(super) finding: Option<Finding>,
    /// When to look again.
    pub(super) requeue_after: Option<Duration>,
}

impl Useless {
    /// Whether workers may be stranded, by a scheduler that has been restarted.
    pub(super) fn is_under_way(&self) -> bool {
        self.requeue_after.is_some()
    }
}

/// Decides which of them are replaced now: never more than `maxUnavailable` are away because of it.
#[must_use]
pub(super) fn useless(
    members: &GroupMembers,
    cluster: &DaskCluster,
    link: &LinkView,
    policy: &UpdatePolicy,
    now: Timestamp,
) -> Useless {
    let mut result = stranded(members, cluster, link, now);
    let fenced = fenced(members, link, now);
    result.mark.extend(fenced.map(|pod| Marking { pod: Arc::clone(pod), reason: Reason::WorkerReplaced }));
    result.mark.truncate(policy.max_unavailable().saturating_sub(away(members)));
    result
}

/// Workers that are missing, not ready or draining.
fn away(members: &GroupMembers) -> usize {
    let (mut ready, mut draining) = (0, 0);
    for pod in members.pods().filter(|pod| pod.is_live()) {
        match (&pod.drain, pod.state) {
            (Some(_), _) => draining += 1,
            (None, PodState::Ready) => ready += 1,
            (None, _) => {}
        }
    }
    members.desired().saturating_sub(ready).max(draining)
}

/// Workers that the scheduler gives no tasks, though nobody drains them.
fn fenced<'a>(
    members: &'a GroupMembers,
    link: &'a LinkView,
    now: Timestamp,
) -> impl Iterator<Item = &'a Arc<PodRecord>> {
    let sample = fresh_sample(link, now).filter(|sample| link.failure.is_none() && !sample.fenced.is_empty());
    let is_fenced = move |pod: &PodRecord| sample.is_some_and(|sample| sample.fenced.contains(&pod.uid));
    members.pods().filter(move |pod| pod.is_live() && pod.running && pod.drain.is_none() && is_fenced(pod))
}

/// The stranded workers, in the order of their ordinals, as marks, and what is said of them.
fn stranded(members: &GroupMembers, cluster: &DaskCluster, link: &LinkView, now: Timestamp) -> Useless {
    let Some(sample) = link.sample.as_deref().filter(|sample| restarted(cluster, sample)) else {
        return Useless::default();
    };
    let Some(started) = sample.started else { return Useless::default() };
    if since(started, now) > AFTERMATH && !is_under_way(members) {
        return Useless::default();
    }
    let again = Useless { requeue_after: Some(POLL), ..Useless::default() };
    let known = sample.members.as_deref().filter(|known| {
        let taken = known.taken.unwrap_or(sample.taken);
        link.failure.is_none() && since(taken, now) <= FRESH && since(started, taken) >= JOINING
    });
    let Some(known) = known else { return again };
    let settled = |pod: &&Arc<PodRecord>| is_settled(pod, started, known.taken.unwrap_or(sample.taken));
    let mut lost: Vec<&Arc<PodRecord>> =
        members.workers.iter().filter(settled).filter(|pod| known.knows_nobody_of(&pod.uid)).collect();
    lost.sort_by_key(|pod| pod.ordinal);
    let Some(first) = lost.first() else { return again };
    let words = format!(
        "{} workers, such as \"{}\", have not joined the restarted scheduler",
        lost.len(),
        first.name
    );
    // If nobody has joined, it is not the workers that are broken, and whatever they hold is all there is.
    if known.registered == 0 {
        let words =
            format!("{words}, nor has any other, so they are kept; look at their logs, or delete their pods");
        return Useless { finding: Some(Finding::new(Reason::WorkerStranded, words)), ..again };
    }
    let finding = Finding::new(Reason::WorkerStranded, format!("{words} and are replaced"));
    let mark = |pod: &Arc<PodRecord>| Marking { pod: Arc::clone(pod), reason: Reason::WorkerStranded };
    Useless { mark: lost.into_iter().map(mark).collect(), finding: Some(finding), ..again }
}

/// Whether this scheduler took the place of another one.
fn restarted(cluster: &DaskCluster, sample: &Sample) -> bool {
    let Some(status) = &cluster.status else { return false };
    let lost: &str = ConditionType::SchedulerLostState.into();
    let told =
        status.conditions.iter().any(|condition| condition.type_ == lost && condition.status == "True");
    let id = status.scheduler.as_ref().and_then(|scheduler| scheduler.id.as_deref());
    told || id.is_some_and(|id| *id != *sample.scheduler_id)
}

/// Whether the status says that stranded workers are being replaced, a few at a time.
fn is_under_way(members: &GroupMembers) -> bool {
    let (scaling, stranded): (&str, &str) = (ConditionType::Scaling.into(), Reason::WorkerStranded.into());
    let mut conditions = members.group.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.type_ == scaling && condition.reason == stranded)
}

/// Whether a worker of an earlier scheduler has had the time to join this one.
fn is_settled(pod: &PodRecord, started: Timestamp, taken: Timestamp) -> bool {
    // A container that was started anew a moment ago is still joining.
    let settled = pod.ready_since.is_some_and(|ready| since(ready, taken) >= JOINING);
    pod.state == PodState::Ready && pod.drain.is_none() && pod.created < started && settled
}

/// The time from one moment to a later one; none if it is not later.
pub(super) fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later - earlier).unwrap_or_default()
}

#[cfg(test)]
#[path = "stranded_tests.rs"]
mod tests;
