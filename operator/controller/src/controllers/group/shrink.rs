//! Which workers go when there are too many, and when. Pure: no client, no clock.
//!
//! A worker of which nothing runs is deleted. One that runs is only marked; the scheduler link drains what is marked,
//! and the worker is deleted when the scheduler has confirmed that nothing is left on it. What the scheduler does not
//! tell is unknown, and nothing is done on it.

use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::{DrainTimeoutAction, Reason, UpdatePolicy};
use jiff::Timestamp;

use super::kept;
use super::known::{Known, fresh_members, fresh_sample};
use super::removal::{Cause, Finding, Marking, Removal};
use super::unit::{Standing, Unit, units};
use crate::cluster_cache::records::PodRecord;
use crate::cluster_cache::snapshot::GroupMembers;
use crate::scheduler_link::{DrainProgress, LinkView};

/// How soon to look again while the scheduler is waited for, should its news not wake anybody.
const POLL: Duration = Duration::from_secs(1);

/// All that decides which workers go.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The group and its workers.
    pub members: &'a GroupMembers,
    /// Pods of the cluster's scheduler.
    pub scheduler_pods: &'a [Arc<PodRecord>],
    /// What is known from the scheduler.
    pub link: &'a LinkView,
    /// How long workers may take.
    pub policy: &'a UpdatePolicy,
    /// How long until the newest edit is old enough to take workers away for it: clients that search for the right
    /// number would lose workers that they want back a moment later.
    pub settling: Option<Duration>,
    /// Now.
    pub now: Timestamp,
}

/// What to do about workers that go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shrink {
    /// Workers to delete.
    pub remove: Vec<Removal>,
    /// Pods to mark.
    pub mark: Vec<Marking>,
    /// Pods whose mark is taken off: the scheduler refuses to retire them, and they are wanted again.
    pub unmark: Vec<Arc<PodRecord>>,
    /// Workers that count towards the wanted number.
    pub staying: usize,
    /// What is going on; `None` if nobody has to go.
    pub finding: Option<Finding>,
    /// When to look again without being woken.
    pub requeue_after: Option<Duration>,
}

/// A marked worker that cannot be deleted yet.
struct Leaving<'a> {
    unit: Unit<'a>,
    progress: Option<&'a DrainProgress>,
    /// Why it is not known what it holds, in words.
    unknown: Option<String>,
    timed_out: bool,
}

/// What was found out about the workers that were to be chosen.
#[derive(Default)]
struct Choice {
    /// Protected workers, if others could not be chosen in their place.
    protected: Vec<String>,
    /// Workers whose pods cannot be told from those of others.
    opaque: Vec<String>,
    /// Workers that wait for the scheduler's ranking.
    unranked: usize,
}

/// Decides which workers go.
#[must_use]
pub fn shrink(s: &Situation) -> Shrink {
    let unmarked = s.members.unmarked();
    let mut result = Shrink { staying: unmarked, ..Shrink::default() };
    let any_marked = s.members.pods().any(|pod| pod.is_live() && pod.drain.is_some());
    if !any_marked && unmarked <= s.members.desired() {
        return result;
    }
    let (marked, free): (Vec<_>, Vec<_>) = units(s.members).partition(Unit::is_marked);
    let mut leaving = s.go_on(marked, &mut result);

    // A refused worker goes on working, so others go in its place; if it is wanted it becomes a member again.
    let refused = leaving.iter().filter(|worker| worker.is_refused()).count();
    result.staying += refused;
    let choice = match result.staying.checked_sub(s.members.desired()).filter(|excess| *excess > 0) {
        None => {
            let (back, rest): (Vec<_>, Vec<_>) =
                leaving.into_iter().partition(|worker| worker.is_refused() && worker.unit.is_one_too_many());
            result.unmark.extend(back.iter().flat_map(|worker| worker.unit.pods.iter().copied().cloned()));
            leaving = rest;
            Choice::default()
        }
        Some(excess) if s.settling.is_some() => {
            result.requeue_after = s.settling;
            result.finding = Some(Finding::new(Reason::Scaling, format!("{excess} workers are to go")));
            Choice::default()
        }
        Some(excess) => s.choose(free, excess, &mut result),
    };
    result.finding = s.describe(&leaving, &choice, &result).or(result.finding);
    let waits = !leaving.is_empty() || !result.mark.is_empty() || choice.waits();
    result.requeue_after = result.requeue_after.into_iter().chain(waits.then_some(POLL)).min();
    result
}

impl<'a> Situation<'a> {
    /// Deletes the marked workers that can go; returns the others.
    fn go_on(&self, marked: Vec<Unit<'a>>, result: &mut Shrink) -> Vec<Leaving<'a>> {
        let sample = self.link.sample.as_deref();
        let members = fresh_members(self.link, self.now);
        let mut leaving = Vec::new();
        for unit in marked {
            let timed_out = unit.marked_since().is_some_and(|since| self.is_over(since));
            if unit.is_idle() {
                result.remove.push(unit.removal(Cause::Idle, true));
            } else if fresh_sample(self.link, self.now).is_some_and(|sample| unit.is_drained(sample)) {
                result.remove.push(unit.removal(Cause::Drained, false));
            } else if matches!(self.known(), Known::NoScheduler) {
                result.remove.push(unit.removal(Cause::SchedulerGone, false));
            } else if timed_out && self.policy.drain_timeout_action() == DrainTimeoutAction::Delete {
                let loss = unit.loss(members);
                result.remove.push(unit.removal(Cause::Forced(loss), false));
            } else {
                let unknown = members.filter(|members| unit.is_unknown(members));
                let unknown = unknown.map(|members| kept::unknown(unit.name(), members));
                leaving.push(Leaving { progress: unit.progress(sample), unit, unknown, timed_out });
            }
        }
        leaving
    }

    /// Chooses `excess` workers: idle ones are deleted, others marked.
    fn choose(&self, free: Vec<Unit<'a>>, excess: usize, result: &mut Shrink) -> Choice {
        let mut choice = Choice::default();
        let (opaque, free): (Vec<_>, Vec<_>) = free.into_iter().partition(Unit::is_opaque);
        let (mut idle, mut running): (Vec<_>, Vec<_>) = free.into_iter().partition(Unit::is_idle);
        idle.sort_by_cached_key(Unit::order);
        result.remove.extend(idle.iter().take(excess).map(|unit| unit.removal(Cause::Idle, true)));
        let excess = excess.saturating_sub(idle.len());
        if excess == 0 {
            return choice;
        }
        let members = match self.known() {
            Known::NoScheduler => {
                running.sort_by_cached_key(Unit::order);
                let gone = running.iter().take(excess);
                result.remove.extend(gone.map(|unit| unit.removal(Cause::SchedulerGone, false)));
                return choice;
            }
            // A worker that is newer than the list may be the cheapest; the next list tells.
            Known::Members(members) if !running.iter().any(|unit| unit.is_newer_than(members)) => members,
            Known::Members(_) | Known::Nothing(_) => {
                choice.unranked = excess.min(running.len());
                return choice;
            }
        };
        running.sort_by_cached_key(|unit| (!unit.is_partly_marked(), unit.standing(members), unit.order()));
        let (protected, ranked): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|unit| unit.standing(members) == Standing::Protected);
        for pod in ranked.iter().take(excess).flat_map(|unit| &unit.pods) {
            if pod.drain.is_none() {
                result.mark.push(Marking { pod: Arc::clone(pod), reason: Reason::ScaledDown });
            }
        }
        if ranked.len() < excess {
            choice.protected = protected.iter().map(|unit| unit.name().to_owned()).collect();
            choice.opaque = opaque.iter().map(|unit| unit.name().to_owned()).collect();
        }
        choice
    }

    fn known(&self) -> Known<'a> {
        Known::of(self.link, self.scheduler_pods, self.now)
    }

    fn is_over(&self, since: Timestamp) -> bool {
        Duration::try_from(self.now - since).is_ok_and(|passed| passed >= self.policy.drain_timeout())
    }

    /// The most important of what is going on.
    fn describe(&self, leaving: &[Leaving], choice: &Choice, result: &Shrink) -> Option<Finding> {
        let draining = leaving.len() + result.mark.len();
        let others = |finding: String| match draining.saturating_sub(1) {
            0 => finding,
            more => format!("{finding}; {more} more are to go"),
        };
        if let Some(late) = leaving.iter().find(|worker| worker.timed_out) {
            let limit = self.policy.drain_timeout().as_secs();
            let message = format!(
                "{}, for more than {limit} s; it is kept until it is drained, unless spec.update.drainTimeoutAction of \
                 the DaskCluster is Delete",
                late.words()
            );
            return Some(Finding::new(Reason::DrainTimedOut, others(message)));
        }
        if let Some(refused) = leaving.iter().find(|worker| worker.refusal().is_some()) {
            return Some(Finding::new(Reason::DrainRefused, others(refused.words())));
        }
        let protected: Vec<&str> = choice.protected.iter().map(String::as_str).collect();
        if let Some(finding) = kept::protected(&protected) {
            return Some(finding);
        }
        if let Some(words) = leaving.iter().find_map(|worker| worker.unknown.clone()) {
            return Some(Finding::new(Reason::DrainUnconfirmed, others(words)));
        }
        if let Some(name) = choice.opaque.first() {
            let message = format!(
                "the pod of Deployment \"{name}\" cannot be told from others by its name; delete the Deployment by hand"
            );
            return Some(Finding::new(Reason::DrainUnconfirmed, message));
        }
        let waiting = choice.unranked + draining;
        if let Some(failure) = self.link.failure.as_ref().filter(|_| waiting > 0) {
            return Some(kept::unanswered(failure, waiting));
        }
        if let Some(first) = leaving.iter().min_by_key(|worker| worker.unit.name()) {
            return Some(Finding::new(Reason::Draining, others(first.words())));
        }
        if let Some(first) = result.mark.first() {
            let message = format!("worker \"{}\" is to hand over its tasks and results", first.pod.name);
            return Some(Finding::new(Reason::Draining, others(message)));
        }
        if choice.unranked > 0 {
            let message = format!("{} workers are to go; the scheduler is asked which", choice.unranked);
            return Some(Finding::new(Reason::Draining, message));
        }
        let removed = result.remove.len();
        (removed > 0).then(|| Finding::new(Reason::Scaling, format!("{removed} workers are being removed")))
    }
}

impl Leaving<'_> {
    fn refusal(&self) -> Option<&str> {
        match self.progress {
            Some(DrainProgress::Refused { message, .. }) => Some(message),
            _ => None,
        }
    }

    /// Whether it is refused and was to go only because of the wanted number, so that it can stay. One that is fenced
    /// cannot: it would never get a task again.
    fn is_refused(&self) -> bool {
        if matches!(self.progress, Some(DrainProgress::Refused { fenced: true, .. })) {
            return false;
        }
        let reasons = self.unit.pods.iter().filter_map(|pod| pod.drain.as_ref()).map(|intent| intent.reason);
        self.refusal().is_some() && reasons.into_iter().all(|reason| reason == Reason::ScaledDown)
    }

    fn words(&self) -> String {
        if let Some(words) = &self.unknown {
            return words.clone();
        }
        let name = self.unit.name();
        match self.progress {
            None => format!("worker \"{name}\" is to hand over its tasks and results"),
            Some(DrainProgress::Fencing) => format!("worker \"{name}\" hands over its results"),
            Some(DrainProgress::Finishing { executing: 1 }) => format!("worker \"{name}\" finishes 1 task"),
            Some(DrainProgress::Finishing { executing }) => {
                format!("worker \"{name}\" finishes {executing} tasks")
            }
            Some(DrainProgress::Closing) => {
                format!("worker \"{name}\" hands over its last results and closes")
            }
            Some(DrainProgress::Refused { message, .. }) => {
                format!("the scheduler refuses to retire worker \"{name}\": {message}")
            }
            Some(DrainProgress::Drained) => {
                format!("worker \"{name}\" was drained, to be confirmed once more")
            }
        }
    }
}

impl Choice {
    fn waits(&self) -> bool {
        self.unranked > 0 || !self.protected.is_empty() || !self.opaque.is_empty()
    }
}

#[cfg(test)]
#[path = "shrink_tests.rs"]
mod tests;
