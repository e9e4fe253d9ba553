//! The rules of the election. Pure: time is an argument.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// Duration written on release, in seconds: the least that the API server accepts.
const RELEASED_FOR: i32 = 1;

/// How long what lasts. Safe if the clocks of two machines do not differ in speed by more than
/// `lease` / `renew_deadline`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others wait after the last renewal that they saw.
    pub lease: Duration,
    /// How long the leader leads after its last successful renewal. Shorter than `lease`.
    pub renew_deadline: Duration,
    /// Pause between two tries.
    pub retry: Duration,
}

impl Default for Timing {
    /// As in client-go and the controllers of Kubernetes.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A record of the Lease, and when this process saw it first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Observation {
    pub(super) record: LeaseSpec,
    pub(super) at: Instant,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nobody holds the Lease: write a record as its new holder.
    Acquire,
    /// This process holds it: write when it was renewed.
    Renew,
    /// Somebody else holds it, until then at least.
    Wait(Instant),
}

/// Notes what was read. An unchanged record keeps the time at which it was first seen; a Lease that is gone keeps
/// the record of its last holder, who may not have noticed yet.
pub(super) fn observe(
    previous: Option<Observation>,
    lease: Option<&Lease>,
    now: Instant,
) -> Option<Observation> {
    let Some(lease) = lease else { return previous };
    let record = lease.spec.clone().unwrap_or_default();
    Some(previous.filter(|seen| seen.record == record).unwrap_or(Observation { record, at: now }))
}

/// What the candidate `me` does next, after `observed` was brought up to date with `lease`.
pub(super) fn evaluate(
    lease: Option<&Lease>,
    me: &str,
    observed: Option<&Observation>,
    timing: &Timing,
    now: Instant,
) -> Action {
    let Some(observed) = observed else { return Action::Acquire };
    let holder = observed.record.holder_identity.as_deref().unwrap_or_default();
    if holder == me {
        return if lease.is_some() { Action::Renew } else { Action::Acquire };
    }
    let promised = observed.record.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let expires = observed.at + promised.map_or(timing.lease, Duration::from_secs);
    if holder.is_empty() || expires <= now { Action::Acquire } else { Action::Wait(expires) }
}

/// The Lease to write for an action: `lease` with a new record, in the version that was read.
pub(super) fn held(lease: Option<&Lease>, me: &str, timing: &Timing, wall: Timestamp) -> Lease {
    let mut lease = lease.cloned().unwrap_or_default();
    let old = lease.spec.take();
    let transitions = old.as_ref().and_then(|record| record.lease_transitions);
    let holds = old.as_ref().is_some_and(|record| record.holder_identity.as_deref() == Some(me));
    let acquired = old.as_ref().and_then(|record| record.acquire_time.clone()).filter(|_| holds);
    let changes_holder = old.is_some() && !holds;
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(i32::try_from(timing.lease.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: Some(acquired.unwrap_or(MicroTime(wall))),
        renew_time: Some(MicroTime(wall)),
        lease_transitions: Some(transitions.unwrap_or(0).saturating_add(i32::from(changes_holder))),
        ..old.unwrap_or_default()
    });
    lease
}

/// The Lease without a holder, so that the next one need not wait.
pub(super) fn released(lease: &Lease, wall: Timestamp) -> Lease {
    let mut lease = lease.clone();
    lease.spec = Some(LeaseSpec {
        holder_identity: None,
        lease_duration_seconds: Some(RELEASED_FOR),
        acquire_time: Some(MicroTime(wall)),
        renew_time: Some(MicroTime(wall)),
        ..lease.spec.unwrap_or_default()
    });
    lease
}

#[cfg(test)]
mod tests {
    use kube::api::ObjectMeta;
    use proptest::prelude::*;

    use super::*;

    const WALL: &str = "2026-11-23T10:00:00Z";

    fn wall() -> Timestamp {
        WALL.parse().unwrap()
    }

    fn lease(holder: Option<&str>, seconds: i32) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some("7".to_owned()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: holder.map(ToOwned::to_owned),
                lease_duration_seconds: Some(seconds),
                lease_transitions: Some(3),
                acquire_time: Some(MicroTime(wall() - Duration::from_secs(100))),
                renew_time: Some(MicroTime(wall())),
                ..LeaseSpec::default()
            }),
        }
    }

    /// What the candidate `me` does `later` after it first saw this lease.
    fn after(lease: Option<&Lease>, later: u64) -> (Action, Instant) {
        let start = Instant::now();
        let seen = observe(None, lease, start);
        let now = start + Duration::from_secs(later);
        let seen = observe(seen, lease, now);
        (evaluate(lease, "me", seen.as_ref(), &Timing::default(), now), start)
    }

    #[test]
    fn a_lease_of_nobody_is_acquired_at_once() {
        assert_eq!(after(None, 0).0, Action::Acquire);
        assert_eq!(after(Some(&lease(None, 15)), 0).0, Action::Acquire);
        assert_eq!(after(Some(&lease(Some(""), 15)), 0).0, Action::Acquire);
        assert_eq!(after(Some(&Lease::default()), 0).0, Action::Acquire);
    }

    #[test]
    fn an_own_lease_is_renewed_even_after_a_restart() {
        assert_eq!(after(Some(&lease(Some("me"), 15)), 0).0, Action::Renew);
        assert_eq!(after(Some(&lease(Some("me"), 15)), 100).0, Action::Renew);
    }

    #[test]
    fn the_lease_of_another_expires_from_when_it_was_seen() {
        let foreign = lease(Some("other"), 15);
        let (action, start) = after(Some(&foreign), 14);
        assert_eq!(action, Action::Wait(start + Duration::from_secs(15)));
        assert_eq!(after(Some(&foreign), 15).0, Action::Acquire);
        let short = lease(Some("other"), 5);
        assert_eq!(
            after(Some(&short), 5).0,
            Action::Acquire,
            "the holder promised to lead no longer than that"
        );
    }

    #[test]
    fn a_renewal_starts_the_wait_afresh() {
        let (first, mut second) = (lease(Some("other"), 15), lease(Some("other"), 15));
        second.spec.as_mut().unwrap().renew_time = Some(MicroTime(wall() + Duration::from_secs(2)));
        let start = Instant::now();
        let seen = observe(None, Some(&first), start);
        let later = start + Duration::from_secs(10);
        let seen = observe(seen, Some(&second), later);
        let action = evaluate(Some(&second), "me", seen.as_ref(), &Timing::default(), later);
        assert_eq!(action, Action::Wait(later + Duration::from_secs(15)));
    }

    #[test]
    fn a_deleted_lease_does_not_end_the_term_of_its_holder() {
        let start = Instant::now();
        let seen = observe(None, Some(&lease(Some("other"), 15)), start);
        let later = start + Duration::from_secs(3);
        let seen = observe(seen, None, later);
        let action = evaluate(None, "me", seen.as_ref(), &Timing::default(), later);
        assert_eq!(action, Action::Wait(start + Duration::from_secs(15)));
        let own = observe(None, Some(&lease(Some("me"), 15)), start);
        assert_eq!(evaluate(None, "me", own.as_ref(), &Timing::default(), later), Action::Acquire);
    }

    #[test]
    fn taking_over_counts_a_transition() {
        let taken = held(Some(&lease(Some("other"), 5)), "me", &Timing::default(), wall());
        assert_eq!(
            taken.metadata.resource_version.as_deref(),
            Some("7"),
            "only in the version that was read"
        );
        let expected = LeaseSpec {
            holder_identity: Some("me".to_owned()),
            lease_duration_seconds: Some(15),
            acquire_time: Some(MicroTime(wall())),
            renew_time: Some(MicroTime(wall())),
            lease_transitions: Some(4),
            ..LeaseSpec::default()
        };
        assert_eq!(taken.spec, Some(expected));
    }

    #[test]
    fn renewing_keeps_when_it_was_acquired() {
        let later = wall() + Duration::from_mins(1);
        let renewed = held(Some(&lease(Some("me"), 15)), "me", &Timing::default(), later).spec.unwrap();
        assert_eq!(renewed.lease_transitions, Some(3));
        assert_eq!(renewed.acquire_time, lease(Some("me"), 15).spec.unwrap().acquire_time);
        assert_eq!(renewed.renew_time, Some(MicroTime(later)));
        let first = held(None, "me", &Timing::default(), wall()).spec.unwrap();
        assert_eq!((first.lease_transitions, first.acquire_time), (Some(0), Some(MicroTime(wall()))));
    }

    #[test]
    fn a_released_lease_has_no_holder() {
        let free = released(&lease(Some("me"), 15), wall());
        assert_eq!(free.metadata.resource_version.as_deref(), Some("7"));
        let record = free.spec.clone().unwrap();
        assert_eq!((record.holder_identity, record.lease_duration_seconds), (None, Some(1)));
        assert_eq!(record.lease_transitions, Some(3));
        assert_eq!(after(Some(&free), 0).0, Action::Acquire);
    }

    proptest! {
        /// Whatever another machine's clock says, the wait depends on the own clock alone.
        #[test]
        fn the_time_in_the_record_does_not_matter(skew in -1_000_000_i64..1_000_000, later in 0_u64..15) {
            let mut foreign = lease(Some("other"), 15);
            foreign.spec.as_mut().unwrap().renew_time = Some(MicroTime(Timestamp::from_second(skew).unwrap()));
            let (action, start) = after(Some(&foreign), later);
            prop_assert_eq!(action, Action::Wait(start + Duration::from_secs(15)));
        }
    }
}
