//! How an edit of a group's worker template reaches its running workers. Pure: no client, no clock.
//!
//! A worker keeps the digest of the template that it was made from. One without digest, of an earlier operator, counts
//! as current. Outdated workers that hold nothing are replaced at once; running ones are marked, a few at a time, and
//! go as all marked workers do: when the scheduler has confirmed that nothing is left on them.

use std::cmp::Reverse;
use std::sync::Arc;

use dask_operator_api::{Reason, UpdatePolicy, UpdateStrategy};

use super::removal::{Cause, Finding, Marking, Object, Removal};
use crate::cluster_cache::records::{PodRecord, PodState};
use crate::cluster_cache::snapshot::GroupMembers;

/// What an edited template asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Update {
    /// Outdated workers that never ran.
    pub(super) remove: Vec<Removal>,
    /// Outdated workers that are to be drained.
    pub(super) mark: Vec<Marking>,
}

/// Decides which outdated workers go now; `hash` is the digest of the group's template.
///
/// Counted as away are workers that are missing or not ready, and those that still drain: neither capacity nor the
/// number of pods strays from what is wanted by more than `maxUnavailable`.
#[must_use]
pub(super) fn update(members: &GroupMembers, hash: &str, policy: &UpdatePolicy) -> Update {
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
    // Those that are outdated and not ready are missing already: to replace them takes nothing away.
    let (broken, mut working): (Vec<_>, Vec<_>) =
        running.into_iter().partition(|pod| pod.state != PodState::Ready);
    let free = policy.max_unavailable().saturating_sub(draining);
    let away = policy.max_unavailable().saturating_sub(missing.max(draining));
    working.sort_by_key(|pod| (pod.ordinal, Reverse(pod.created)));
    let chosen = broken.into_iter().chain(working.into_iter().take(away)).take(free);
    result.mark =
        chosen.map(|pod| Marking { pod: Arc::clone(pod), reason: Reason::TemplateChanged }).collect();
    result
}

/// Whether any worker is of another template.
#[must_use]
pub(super) fn is_outdated(members: &GroupMembers, hash: &str) -> bool {
    outdated(members, hash).next().is_some()
}

/// Condition `Updating`: whether workers are being replaced because their template was edited.
#[must_use]
pub(super) fn finding(members: &GroupMembers, hash: &str, policy: &UpdatePolicy) -> (bool, Finding) {
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
    let message = match outdated.iter().filter(|pod| pod.drain.is_some()).collect::<Vec<_>>().as_slice() {
        [] => format!("{tally}; they are replaced when enough of the others are ready"),
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
