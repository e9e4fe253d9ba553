//! Workers that are ready and never join their scheduler, or are gone from it while their pod goes on. Pure: no client,
//! no clock.
//!
//! What keeps them is in general not theirs alone (an address, a port, a network policy, TLS), and a new pod would have
//! the same, so they are named and nothing is done to them.

use std::time::Duration;

use dask_operator_api::{ConditionType, DaskWorkerGroupStatus, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::removal::Finding;
use crate::cluster_cache::records::PodRecord;
use crate::cluster_cache::snapshot::GroupMembers;
use crate::pods::invocation::{Role, main_container};
use crate::scheduler_link::{LinkView, is_expected};

/// How long what was found stays while the scheduler does not answer. Later nothing is known any more.
const STANDING: Duration = Duration::from_mins(5);

/// Whether the workers of a group have joined their scheduler.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Joining {
    /// Nobody is known to be missing.
    #[default]
    Nobody,
    /// Some are.
    Missing(Finding),
    /// It is being found out, and what the status says stays until then. In the given time it does no longer.
    Unknown(Option<Duration>),
}

impl Joining {
    /// What is known of the workers of this group.
    #[must_use]
    pub(super) fn of(members: &GroupMembers, link: &LinkView, now: Timestamp) -> Self {
        let mut expected = members.pods().filter(|pod| is_expected(pod, now)).peekable();
        if expected.peek().is_none() {
            return Self::Nobody;
        }
        if let Some(failure) = &link.failure {
            let passed = Duration::try_from(now - failure.since).unwrap_or_default();
            let left = STANDING.checked_sub(passed).filter(|left| !left.is_zero());
            return left.map_or(Self::Nobody, |left| Self::Unknown(Some(left)));
        }
        let Some(absent) = link.sample.as_ref().and_then(|sample| sample.absent.as_ref()) else {
            return Self::Unknown(None);
        };
        let mut missing: Vec<_> = expected.filter(|pod| absent.contains(&pod.uid)).collect();
        missing.sort_by_key(|pod| (pod.ordinal, &pod.name));
        match missing.first() {
            Some(first) => Self::Missing(named(members, missing.len(), first)),
            None => Self::Nobody,
        }
    }

    /// When what the status says is to be looked at again.
    #[must_use]
    pub(super) fn look_again(&self, status: &DaskWorkerGroupStatus) -> Option<Duration> {
        match self {
            Self::Unknown(left) => left.filter(|_| standing(status).is_some()),
            Self::Nobody | Self::Missing(_) => None,
        }
    }
}

/// The condition of a status that names workers that have not joined.
pub(super) fn standing(status: &DaskWorkerGroupStatus) -> Option<&Condition> {
    let (type_, reason): (&str, &str) = (ConditionType::WorkersReady.into(), Reason::WorkersNotJoined.into());
    status.conditions.iter().find(|condition| condition.type_ == type_ && condition.reason == reason)
}

fn named(members: &GroupMembers, count: usize, first: &PodRecord) -> Finding {
    let group = &members.group;
    let namespace = group.namespace().unwrap_or_default();
    let container = main_container(&group.spec.worker.spec.containers, Role::Worker);
    let container = container.map(|container| format!(" -c {}", container.name)).unwrap_or_default();
    let name = &first.name;
    let words = format!(
        "the scheduler knows no worker of {count} of them, such as \"{name}\", though their pods have been ready for \
         more than a minute; `kubectl logs -n {namespace} {name}{container}` tells why; check DASK_SCHEDULER_ADDRESS \
         and the port in it, NetworkPolicies, and that scheduler and workers both use TLS or both do not"
    );
    Finding::new(Reason::WorkersNotJoined, words)
}

#[cfg(test)]
#[path = "joining_tests.rs"]
mod tests;
