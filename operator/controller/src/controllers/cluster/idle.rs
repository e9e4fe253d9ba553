//! Whether a cluster has been idle for too long. Pure: no client, no clock.
//!
//! Since when it has been idle is the scheduler's word, by the scheduler's clock; how late it is, is this operator's.
//! A clock that is off by seconds moves the end by seconds. One that is far behind cannot end a new cluster: nothing
//! is idle for longer than it exists.

use std::time::Duration;

use dask_operator_api::DaskCluster;
use jiff::{SignedDuration, Timestamp};

use crate::scheduler_link::{Idleness, LinkView};

/// What a scheduler said longer ago counts no more: several of its link's slowest rounds.
const FRESH: SignedDuration = SignedDuration::from_secs(30);
/// How soon to look again while it is not known whether the scheduler is idle still.
const AGAIN: Duration = Duration::from_secs(5);

/// What idleness asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// Nothing, as far as is known.
    No,
    /// To look again after this time.
    Until(Duration),
    /// To delete the cluster, which has been idle since then.
    TooLong(Timestamp),
}

/// Compares `spec.idleTimeout` with what the scheduler said last.
pub(super) fn check(cluster: &DaskCluster, link: &LinkView, now: Timestamp) -> Idle {
    if cluster.spec.idle_timeout <= 0 || cluster.metadata.deletion_timestamp.is_some() {
        return Idle::No;
    }
    let Some(sample) = &link.sample else { return Idle::No };
    let Idleness::Since(said) = sample.idleness else { return Idle::No };
    let created = cluster.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let since = created.map_or(said, |created| said.max(created));
    let Ok(end) = since.checked_add(SignedDuration::from_secs(cluster.spec.idle_timeout)) else {
        return Idle::No;
    };
    if now <= end {
        // The end itself is still in time.
        let rest = Duration::try_from(end.duration_since(now)).unwrap_or_default();
        return Idle::Until(rest + Duration::from_millis(1));
    }
    if link.failure.is_some() || now.duration_since(sample.taken) > FRESH {
        return Idle::Until(AGAIN);
    }
    Idle::TooLong(since)
}

#[cfg(test)]
mod tests {
    use dask_operator_api::Reason;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use rstest::rstest;

    use super::*;
    use crate::controllers::cluster::testing::{at, cluster};
    use crate::scheduler_link::{LinkFailure, Sample, testing};

    /// A cluster that was made at 0 and may be idle for so long.
    fn timed(timeout: i64) -> DaskCluster {
        let mut cluster = cluster("simple");
        cluster.spec.idle_timeout = timeout;
        cluster.metadata.creation_timestamp = Some(Time(at(0)));
        cluster
    }

    fn link(idleness: Idleness, taken: i64) -> LinkView {
        testing::heard(Sample { taken: at(taken), idleness, ..testing::sample("Scheduler-1") })
    }

    const fn millis(millis: u64) -> Idle {
        Idle::Until(Duration::from_millis(millis))
    }

    #[rstest]
    #[case::long_enough(60, 100, 161, Idle::TooLong(at(100)))]
    #[case::exactly(60, 100, 160, millis(1))]
    #[case::not_yet(60, 100, 110, millis(50_001))]
    #[case::never(0, 100, 10_000, Idle::No)]
    #[case::negative(-1, 100, 10_000, Idle::No)]
    #[case::for_ever(i64::MAX, 100, 10_000, Idle::No)]
    #[case::the_schedulers_clock_is_ahead(60, 200, 161, millis(99_001))]
    #[case::the_schedulers_clock_is_far_behind(60, -10_000, 30, millis(30_001))]
    #[case::idle_from_the_beginning(60, -10_000, 61, Idle::TooLong(at(0)))]
    fn idle_since(#[case] timeout: i64, #[case] since: i64, #[case] now: i64, #[case] expected: Idle) {
        let link = link(Idleness::Since(at(since)), now);
        assert_eq!(check(&timed(timeout), &link, at(now)), expected);
    }

    #[rstest]
    #[case(Idleness::Busy)]
    #[case(Idleness::Unknown)]
    fn not_known_to_be_idle(#[case] idleness: Idleness) {
        assert_eq!(check(&timed(60), &link(idleness, 10_000), at(10_000)), Idle::No);
        assert_eq!(check(&timed(60), &LinkView::default(), at(10_000)), Idle::No);
    }

    #[test]
    fn old_news_end_nothing() {
        let idle = Idleness::Since(at(100));
        assert_eq!(check(&timed(60), &link(idle, 970), at(1_000)), Idle::TooLong(at(100)));
        assert_eq!(check(&timed(60), &link(idle, 969), at(1_000)), Idle::Until(AGAIN));
        let failure = LinkFailure {
            reason: Reason::SchedulerUnreachable,
            message: "no answer".to_owned(),
            since: at(999),
        };
        let failing = LinkView { failure: Some(failure), ..link(idle, 1_000) };
        assert_eq!(check(&timed(60), &failing, at(1_000)), Idle::Until(AGAIN));
    }

    #[test]
    fn a_cluster_that_goes_already_is_left() {
        let mut cluster = timed(60);
        cluster.metadata.deletion_timestamp = Some(Time(at(0)));
        assert_eq!(check(&cluster, &link(Idleness::Since(at(0)), 1_000), at(1_000)), Idle::No);
    }
}
