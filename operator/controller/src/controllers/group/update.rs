//! How an edit of a group's worker template reaches its running workers. Pure: no client, no clock.
//!
//! A worker keeps the digest of the template that it was made from. One without digest, of an earlier operator, counts
//! as current. Outdated workers that hold nothing are replaced at once; running ones are marked, a few at a time, and
//! go as all marked workers do: when the scheduler has confirmed that nothing is left on them. As with workers that are
//! one too many, those that the scheduler protects stay until it does not, for a shuffle begins anew when one of its
//! workers leaves, and those that cannot be told among the scheduler's workers stay until they can.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::{DrainTimeoutAction, Reason, UpdatePolicy, UpdateStrategy};

use super::kept;
use super::known::Known;
use super::removal::{Cause, Finding, Marking, Object, Removal};
use super::unit::{Standing, standing};
use crate::cluster_cache::records::{PodRecord, PodState};
use crate::cluster_cache::snapshot::GroupMembers;

/// How soon to look again for workers that are kept.
const POLL: Duration = Duration::from_secs(5);

/// What an edited template asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Update {
    /// Outdated workers that never ran.
    pub(super) remove: Vec<Removal>,
    /// Outdated workers that are to be drained.
    pub(super) mark: Vec<Marking>,
    /// Why those that are next are kept.
    pub(super) kept: Option<Finding>,
    /// When to look again without being woken.
    pub(super) requeue_after: Option<Duration>,
}

/// Decides which outdated workers go now; `hash` is the digest of the group's template.
///
/// Counted as away are workers that are missing or not ready, and those that still drain: neither capacity nor the
/// number of pods strays from what is wanted by more than `maxUnavailable`.
#[must_use]
pub(super) fn update(members: &GroupMembers, hash: &str, policy: &UpdatePolicy, known: Known) -> Update {
    let mut result = Update::default();
    if policy.strategy() == UpdateStrategy::OnDelete {
        return result;
    }
    let (running, idle): (Vec<_>, Vec<_>) =
        outdated(members, hash).filter(|pod| pod.drain.is_none()).partition(|pod| pod.running);
    result.remove = idle.into_iter().map(|pod| removal(pod)).collect();

    let draining = members.pods().filter(|pod| pod.is_live() && pod.drain.is_some()).count();
    let ready = |pod: &&Arc<PodRecord>| pod.state == PodState::Ready && pod.drain.is_none();
    let missing = members.desired().saturating_sub(members.pods().filter(ready).count());
    let free = policy.max_unavailable().saturating_sub(draining);
    let away = policy.max_unavailable().saturating_sub(missing.max(draining));
    if free == 0 || running.is_empty() {
        return result;
    }
    let (going, kept) = choose(running, known, policy);
    if going.is_empty() {
        result.kept = why(&kept, known);
        result.requeue_after = Some(POLL);
    }
    // Those that are outdated and not ready are missing already: to replace them takes nothing away.
    let (broken, mut working): (Vec<_>, Vec<_>) =
        going.into_iter().partition(|pod| pod.state != PodState::Ready);
    working.sort_by_key(|pod| (pod.ordinal, Reverse(pod.created)));
    let chosen = broken.into_iter().chain(working.into_iter().take(away)).take(free);
    result.mark =
        chosen.map(|pod| Marking { pod: Arc::clone(pod), reason: Reason::TemplateChanged }).collect();
    result
}

type Pods<'a> = Vec<&'a Arc<PodRecord>>;

/// Parts running workers into those that may go and those that are kept.
fn choose<'a>(running: Pods<'a>, known: Known, policy: &UpdatePolicy) -> (Pods<'a>, Pods<'a>) {
    // Whoever wants workers to be deleted when their time has run out wants the time to begin.
    let hasty = policy.drain_timeout_action() == DrainTimeoutAction::Delete;
    match known {
        Known::NoScheduler => (running, Vec::new()),
        Known::Nothing(_) if hasty => (running, Vec::new()),
        Known::Nothing(_) => (Vec::new(), running),
        Known::Members(members) => {
            let of = |pod: &Arc<PodRecord>| standing(pod, members);
            let (going, kept): (Vec<_>, Vec<_>) =
                running.into_iter().partition(|pod| of(pod) < Standing::Unknown);
            if !going.is_empty() || !hasty {
                return (going, kept);
            }
            kept.into_iter().partition(|pod| of(pod) == Standing::Unknown && members.considered(&pod.uid))
        }
    }
}

/// Why none of these outdated workers may go; `None` if the scheduler is only about to be asked.
fn why(kept: &[&Arc<PodRecord>], known: Known) -> Option<Finding> {
    let members = match known {
        Known::Members(members) => members,
        Known::Nothing(failure) => return failure.map(|failure| kept::unanswered(failure, kept.len())),
        Known::NoScheduler => return None,
    };
    let of = |wanted: Standing| kept.iter().filter(move |pod| standing(pod, members) == wanted);
    let protected: Vec<&str> = of(Standing::Protected).map(|pod| &*pod.name).collect();
    kept::protected(&protected).or_else(|| {
        let first = of(Standing::Unknown).find(|pod| members.considered(&pod.uid))?;
        Some(Finding::new(Reason::DrainUnconfirmed, kept::unknown(&first.name, members)))
    })
}

/// Whether any worker is of another template.
#[must_use]
pub(super) fn is_outdated(members: &GroupMembers, hash: &str) -> bool {
    outdated(members, hash).next().is_some()
}

/// Condition `Updating`: whether workers are being replaced because their template was edited. `scaling` is what
/// keeps workers that are to go.
#[must_use]
pub(super) fn finding(
    members: &GroupMembers,
    hash: &str,
    policy: &UpdatePolicy,
    scaling: Option<&Finding>,
) -> (bool, Finding) {
    let outdated: Vec<_> = outdated(members, hash).collect();
    let Some(first) = outdated.first() else {
        return (false, Finding::new(Reason::UpToDate, "all workers are of the current template"));
    };
    let (count, all) = (outdated.len(), members.pods().filter(|pod| pod.is_live()).count());
    let tally = format!("{count} of {all} workers are of an older template");
    if policy.strategy() == UpdateStrategy::OnDelete {
        let message = format!("{tally}, such as \"{}\", and stay until they are deleted", first.name);
        return (false, Finding::new(Reason::UpdatedOnDelete, message));
    }
    let kept = scaling
        .filter(|scaling| matches!(scaling.reason, Reason::WorkerProtected | Reason::DrainUnconfirmed));
    let message = match outdated.iter().filter(|pod| pod.drain.is_some()).collect::<Vec<_>>().as_slice() {
        [] => match kept {
            Some(kept) => format!("{tally}; {}", kept.message),
            None => format!("{tally}; they are replaced when enough of the others are ready"),
        },
        [one] => format!("{tally}; \"{}\" is being replaced", one.name),
        [one, rest @ ..] => format!("{tally}; \"{}\" and {} more are being replaced", one.name, rest.len()),
    };
    (true, Finding::new(Reason::TemplateChanged, message))
}

/// Live workers that were made from another template.
fn outdated<'a>(members: &'a GroupMembers, hash: &'a str) -> impl Iterator<Item = &'a Arc<PodRecord>> {
    let other = move |pod: &&Arc<PodRecord>| pod.template_hash.as_deref().is_some_and(|own| own != hash);
    members.workers.iter().filter(|pod| pod.is_live()).filter(other)
}

fn removal(pod: &PodRecord) -> Removal {
    Removal {
        object: Object::Pod,
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        // It may have begun to run in the meantime.
        version: Some(pod.resource_version),
        cause: Cause::Outdated,
    }
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
