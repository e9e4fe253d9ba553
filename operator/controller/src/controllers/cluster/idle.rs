//! Whether a cluster has been idle for too long. Pure: no client, no clock.
//!
//! Since when it has been idle is the scheduler's word, by the scheduler's clock; how late it is, is this operator's.
//! A clock that is off by seconds moves the end by seconds. One that is far behind cannot end a new cluster: nothing
//! is idle for longer than it exists.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cluster_cache::snapshot::{ClusterSnapshot, job_of, runner_of};
use crate::scheduler_link::{Idleness, LinkView, Sample};

/// An answer to a question that was asked longer ago says nothing about now: two rounds of a link that somebody waits
/// for. A scheduler that is taking in a large graph answers nothing for up to half a minute.
const FRESH: SignedDuration = SignedDuration::from_secs(2);
/// How soon to look again for an answer to a question that was asked after the end.
const NEXT_ROUND: Duration = Duration::from_secs(1);
/// How soon to look again while the scheduler does not answer; its next answer wakes.
const AGAIN: Duration = Duration::from_secs(5);
/// How much later than its start a scheduler may say that it is idle since, if it never had anything to do.
const FROM_THE_START: SignedDuration = SignedDuration::from_secs(1);

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

/// Since when the scheduler has been idle, if it has just said so and nothing is known against it.
pub(super) fn says_idle(link: &LinkView, now: Timestamp) -> Option<Timestamp> {
    let sample = link.sample.as_deref()?;
    let Idleness::Since(since) = sample.idleness else { return None };
    // A clock that was set back makes an old answer look as if it came from the future.
    let fresh = now.duration_since(sample.asked).abs() <= FRESH && link.failure.is_none();
    fresh.then_some(since)
}

/// Compares `spec.idleTimeout` with what the scheduler said last. What ends a cluster is the answer to a question that
/// was asked after the time was over.
pub(super) fn check(snapshot: &ClusterSnapshot, link: &LinkView, now: Timestamp) -> Idle {
    let cluster = &*snapshot.cluster;
    if cluster.spec.idle_timeout <= 0 || cluster.metadata.deletion_timestamp.is_some() {
        return Idle::No;
    }
    let Some(sample) = link.sample.as_deref() else { return Idle::No };
    let Idleness::Since(said) = sample.idleness else { return Idle::No };
    let Some(expected) = work_expected(snapshot, sample, said) else { return Idle::No };
    let since = said.max(expected);
    let Ok(end) = since.checked_add(SignedDuration::from_secs(cluster.spec.idle_timeout)) else {
        return Idle::No;
    };
    if now <= end {
        // The end itself is still in time.
        let rest = Duration::try_from(end.duration_since(now)).unwrap_or_default();
        return Idle::Until(rest + Duration::from_millis(1));
    }
    if link.failure.is_some() {
        return Idle::Until(AGAIN);
    }
    if says_idle(link, now).is_some() && sample.asked > end {
        Idle::TooLong(since)
    } else {
        Idle::Until(NEXT_ROUND)
    }
}

/// From when on work can be expected at the earliest: the creation of the cluster. A job's cluster has to wait for the
/// job's program, which may do other things before it has work for the cluster; `None` until then.
fn work_expected(snapshot: &ClusterSnapshot, sample: &Sample, said: Timestamp) -> Option<Timestamp> {
    let created = snapshot.cluster.metadata.creation_timestamp.as_ref().map_or(said, |time| time.0);
    let Some(job) = job_of(&snapshot.cluster) else { return Some(created) };
    let started = runner_of(job, snapshot.runner.as_deref())?.started?;
    let never_worked = sample.started.is_some_and(|begin| said.duration_since(begin) <= FROM_THE_START);
    (!never_worked).then(|| created.max(started))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dask_operator_api::Reason;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use rstest::rstest;

    use super::*;
    use crate::cluster_cache::records::{PodState, RunnerPhase};
    use crate::controllers::cluster::testing::{at, made, of_job};
    use crate::controllers::job::testing::runner;
    use crate::scheduler_link::{LinkFailure, testing};

    /// A cluster that was made at 0 and may be idle for so long.
    fn timed(timeout: i64) -> ClusterSnapshot {
        with_timeout(made(PodState::Ready), timeout)
    }

    fn with_timeout(mut snapshot: ClusterSnapshot, timeout: i64) -> ClusterSnapshot {
        let cluster = Arc::make_mut(&mut snapshot.cluster);
        cluster.spec.idle_timeout = timeout;
        cluster.metadata.creation_timestamp = Some(Time(at(0)));
        snapshot
    }

    fn link(idleness: Idleness, asked: i64) -> LinkView {
        testing::heard(Sample {
            asked: at(asked),
            taken: at(asked),
            idleness,
            ..testing::sample("Scheduler-1")
        })
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

    #[rstest]
    #[case::asked_after_the_end(161, 162, Idle::TooLong(at(100)))]
    #[case::asked_before_the_end(159, 161, Idle::Until(NEXT_ROUND))]
    #[case::asked_at_the_end(160, 161, Idle::Until(NEXT_ROUND))]
    #[case::no_answer_since(161, 164, Idle::Until(NEXT_ROUND))]
    #[case::the_clock_was_set_back(10_000, 170, Idle::Until(NEXT_ROUND))]
    fn only_an_answer_to_a_question_of_after_the_end_counts(
        #[case] asked: i64,
        #[case] now: i64,
        #[case] expected: Idle,
    ) {
        assert_eq!(check(&timed(60), &link(Idleness::Since(at(100)), asked), at(now)), expected);
    }

    #[test]
    fn a_link_that_fails_ends_nothing() {
        let failure = LinkFailure {
            reason: Reason::SchedulerUnreachable,
            message: "no answer".to_owned(),
            since: at(999),
        };
        let failing = LinkView { failure: Some(failure), ..link(Idleness::Since(at(100)), 1_000) };
        assert_eq!(check(&timed(60), &failing, at(1_000)), Idle::Until(AGAIN));
        assert_eq!(says_idle(&failing, at(1_000)), None);
    }

    #[test]
    fn a_cluster_that_goes_already_is_left() {
        let mut cluster = timed(60);
        Arc::make_mut(&mut cluster.cluster).metadata.deletion_timestamp = Some(Time(at(0)));
        assert_eq!(check(&cluster, &link(Idleness::Since(at(0)), 1_000), at(1_000)), Idle::No);
    }

    #[test]
    fn the_cluster_of_a_job_is_not_idle_before_its_program_has_started() {
        let idle = link(Idleness::Since(at(-10)), 1_000);
        let snapshot = |runner| with_timeout(of_job(runner), 60);
        assert_eq!(check(&snapshot(None), &idle, at(1_000)), Idle::No);
        assert_eq!(check(&snapshot(Some(runner(RunnerPhase::Pending))), &idle, at(1_000)), Idle::No);
        let late = crate::cluster_cache::records::RunnerRecord {
            started: Some(at(990)),
            ..runner(RunnerPhase::Running)
        };
        assert_eq!(check(&snapshot(Some(late)), &idle, at(1_000)), millis(50_001));
        let started = snapshot(Some(runner(RunnerPhase::Running)));
        assert_eq!(check(&started, &idle, at(1_000)), Idle::TooLong(at(5)));
    }

    #[test]
    fn the_cluster_of_a_job_is_not_idle_before_it_ever_had_work() {
        let started = with_timeout(of_job(Some(runner(RunnerPhase::Running))), 60);
        let heard = |since| {
            testing::heard(Sample {
                asked: at(1_000),
                started: Some(at(2)),
                idleness: Idleness::Since(at(since)),
                ..testing::sample("Scheduler-1")
            })
        };
        assert_eq!(check(&started, &heard(2), at(1_000)), Idle::No, "the program does other things first");
        assert_eq!(check(&started, &heard(100), at(1_000)), Idle::TooLong(at(100)));
    }
}
