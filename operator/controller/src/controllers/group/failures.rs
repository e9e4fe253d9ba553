//! Failed workers and how soon they are replaced.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::{Reason, WorkerFailures};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::backoff::doubled;
use crate::cluster_cache::records::{PodRecord, PodState};

/// A worker that lived this long did not fail because of its template; and a group without failures for this
/// long starts afresh. The kubelet forgets crash loops after the same time.
const QUIET: Duration = Duration::from_mins(10);
/// Pause before the second replacement in a row; it doubles up to [`LONGEST_PAUSE`]. The first one is at once.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// Longest pause, the kubelet's own.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Most names of failed pods in the record: the status has to fit into a request, and 100,000 names would not.
const MOST_NAMES: usize = 500;

/// Whether a failure says something of the template, so that the replacement would fail alike.
///
/// A worker that was lost with its node or lived long is replaced at once.
pub(super) fn slows_down(worker: &PodRecord, now: Timestamp) -> bool {
    let lost = worker.problem.as_ref().is_some_and(|problem| problem.reason == Reason::PodLost);
    let lived = Duration::try_from(now - worker.created).unwrap_or_default();
    worker.state == PodState::Failed && !lost && lived < QUIET
}

/// The record of failures after looking at the workers: unchanged, unless one failed that was not counted yet.
///
/// All that fail together count once. A restart of the operator does not change the pace, because the record
/// lives in the group's status.
pub(super) fn observe(
    previous: Option<&WorkerFailures>,
    workers: &[Arc<PodRecord>],
    now: Timestamp,
) -> Option<WorkerFailures> {
    // A worker that was to go ends as it should.
    let failed =
        || workers.iter().filter(|worker| worker.state == PodState::Failed && worker.drain.is_none());
    let named: HashSet<&str> =
        previous.iter().flat_map(|previous| &previous.pods).map(String::as_str).collect();
    // Where not all names fit, those that were there before count as counted.
    let earlier = previous.filter(|previous| previous.pods.len() >= MOST_NAMES);
    let counted = |worker: &PodRecord| {
        named.contains(&*worker.name) || earlier.is_some_and(|previous| worker.created < previous.last_time.0)
    };
    let Some(last) = failed().filter(|worker| !counted(worker)).max_by_key(|worker| worker.ordinal) else {
        let mut unchanged = previous?.clone();
        unchanged.pods = names(failed());
        // No pause is longer than this: the clock went back, or another one wrote the time.
        let longest = pause(unchanged.consecutive);
        if Duration::try_from(unchanged.retry_after.0 - now).is_ok_and(|wait| wait > longest) {
            (unchanged.last_time, unchanged.retry_after) = (Time(now), Time(now + longest));
        }
        return Some(unchanged);
    };
    let slow = failed().any(|worker| !counted(worker) && slows_down(worker, now));
    let recent = previous.filter(|previous| !is_quiet(previous, now));
    let before = recent.map_or(0, |previous| previous.consecutive);
    let consecutive = before.max(0).saturating_add(i32::from(slow));
    let retry_after = match recent {
        Some(recent) if !slow => recent.retry_after.clone(),
        _ => Time(now + pause(consecutive)),
    };
    let (reason, message) = last.problem.as_ref().map_or_else(
        || (Reason::PodFailed, format!("pod \"{}\" failed", last.name)),
        |problem| (problem.reason, problem.message.clone()),
    );
    Some(WorkerFailures {
        consecutive,
        pods: names(failed()),
        last_reason: reason.to_string(),
        last_message: message,
        last_time: Time(now),
        retry_after,
    })
}

fn names<'a>(workers: impl Iterator<Item = &'a Arc<PodRecord>>) -> Vec<String> {
    workers.take(MOST_NAMES).map(|worker| worker.name.to_string()).collect()
}

fn is_quiet(previous: &WorkerFailures, now: Timestamp) -> bool {
    Duration::try_from(now - previous.retry_after.0).is_ok_and(|since| since >= QUIET)
}

fn pause(consecutive: i32) -> Duration {
    match u32::try_from(consecutive.saturating_sub(2)) {
        Ok(doublings) => doubled(FIRST_PAUSE, doublings, LONGEST_PAUSE),
        Err(_) => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::group::testing::{at, failed, worker};

    /// Lets one worker after the other fail, each right after its replacement was allowed.
    fn fail_in_a_row(times: i64) -> Vec<i64> {
        let mut record = None;
        let mut now = at(0);
        let mut pauses = Vec::new();
        for ordinal in 1..=times {
            let workers = [failed(ordinal, Reason::PodFailed, now)];
            let next = observe(record.as_ref(), &workers, now).unwrap();
            pauses.push((next.retry_after.0 - now).get_seconds());
            now = next.retry_after.0;
            record = Some(next);
        }
        pauses
    }

    #[test]
    fn the_first_is_replaced_at_once_and_the_pace_falls() {
        assert_eq!(fail_in_a_row(8), [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn all_that_fail_together_count_once_and_only_once() {
        let workers = [failed(1, Reason::PodFailed, at(0)), failed(2, Reason::OutOfMemory, at(0))];
        let first = observe(None, &workers, at(5)).unwrap();
        assert_eq!((first.consecutive, first.last_reason.as_str()), (1, "OutOfMemory"));
        assert_eq!(observe(Some(&first), &workers, at(6)).unwrap(), first);
    }

    #[test]
    fn replaced_pods_are_struck_from_the_list() {
        let workers = [failed(1, Reason::PodFailed, at(0))];
        let first = observe(None, &workers, at(5)).unwrap();
        let after = observe(Some(&first), &[worker(2, PodState::Ready)], at(6)).unwrap();
        assert_eq!(after, WorkerFailures { pods: vec![], ..first });
    }

    #[test]
    fn lost_nodes_and_long_lives_do_not_slow_down() {
        let lost = [failed(1, Reason::PodLost, at(0))];
        let record = observe(None, &lost, at(5)).unwrap();
        assert_eq!((record.consecutive, record.retry_after.0), (0, at(5)));
        assert!(!slows_down(&lost[0], at(5)));
        let old = failed(2, Reason::WorkerExited, at(0));
        assert!(slows_down(&old, at(599)));
        assert!(!slows_down(&old, at(600)));
    }

    #[test]
    fn a_quiet_time_is_forgiven() {
        let first = observe(None, &[failed(1, Reason::PodFailed, at(0))], at(0)).unwrap();
        let second = observe(Some(&first), &[failed(2, Reason::PodFailed, at(1))], at(1)).unwrap();
        assert_eq!(second.consecutive, 2);
        let later = at(11 + 600);
        let third = observe(Some(&second), &[failed(3, Reason::PodFailed, later)], later).unwrap();
        assert_eq!(third.consecutive, 1);
    }

    #[test]
    fn a_clock_that_goes_back_stretches_no_pause() {
        let mut record = observe(None, &[failed(1, Reason::PodFailed, at(0))], at(0)).unwrap();
        record.consecutive = 4;
        record.retry_after = Time(at(40));
        let failed = [failed(1, Reason::PodFailed, at(0))];
        assert_eq!(observe(Some(&record), &failed, at(0)).unwrap(), record);
        let back = at(-7_200);
        let after = observe(Some(&record), &failed, back).unwrap();
        assert_eq!((after.retry_after.0 - back).get_seconds(), 40, "the pause that four failures have");
        assert_eq!(observe(Some(&after), &failed, at(-7_190)).unwrap(), after, "it is written once");
    }

    #[test]
    fn a_record_is_small_however_many_fail_and_none_counts_twice() {
        let workers: Vec<_> = (1..=20_000).map(|ordinal| failed(ordinal, Reason::PodFailed, at(0))).collect();
        let first = observe(None, &workers, at(5)).unwrap();
        assert_eq!((first.consecutive, first.pods.len()), (1, MOST_NAMES));
        let second = observe(Some(&first), &workers[100..], at(6)).unwrap();
        assert_eq!((second.consecutive, second.pods.len()), (1, MOST_NAMES));
        let last = observe(Some(&second), &workers[19_990..], at(7)).unwrap();
        assert_eq!((last.consecutive, last.pods.len()), (1, 10));
    }

    #[test]
    fn a_record_that_somebody_wrote_does_no_harm() {
        let workers = [failed(1, Reason::PodFailed, at(0))];
        let good = observe(None, &workers, at(0)).unwrap();
        for consecutive in [i32::MIN, -1, i32::MAX] {
            let bad = WorkerFailures { consecutive, pods: vec![], ..good.clone() };
            let next = observe(Some(&bad), &workers, at(1)).unwrap();
            assert!((next.retry_after.0 - at(1)).get_seconds() <= 300, "{consecutive}: {next:?}");
        }
    }

    #[test]
    fn no_failures_no_record() {
        assert_eq!(observe(None, &[worker(1, PodState::Ready)], at(0)), None);
    }
}
