//! When a scheduler is asked next. Pure.

use std::time::Duration;

use crate::backoff::doubled;

/// While a worker is to go: its drain moves with each round.
const DRAINING: Duration = Duration::from_millis(250);
/// While something is decided on the answers, or there is work.
const WATCHED: Duration = Duration::from_secs(1);
/// While the scheduler refuses to let go of those that are to go.
const REFUSED: Duration = Duration::from_secs(2);
/// Nothing happens.
const IDLE: Duration = Duration::from_secs(5);
/// Pauses between tries to reach a scheduler double up to this.
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// The same for one whose answers cost something and are of no use: too long, too slow, or not Dask's.
const LONGEST_COSTLY_RETRY: Duration = Duration::from_mins(2);
/// Of the time of a link, what the decoding of answers may take at most: one in this many parts. An ordinary answer is
/// decoded in less than 0.1 ms, a list of 10,000 workers in some 100 ms.
const DECODING_SHARE: u32 = 20;
/// Longest pause because of the decoding.
const LONGEST_REST: Duration = Duration::from_mins(1);

/// What is going on in a cluster.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// A pod is marked, or a group is above its size.
    pub(super) shrinking: bool,
    /// Somebody decides on the answers: an autoscaler, or an idle timeout that is near.
    pub(super) watched: bool,
    /// It has something to do.
    pub(super) busy: bool,
    /// All pods that are to go were refused, so there is nothing to follow step by step.
    pub(super) refused: bool,
}

/// The time until the next round; `jitter` from 0 to 1 spreads the clusters.
pub(super) fn interval(pace: Pace, jitter: f64) -> Duration {
    let Pace { shrinking, watched, busy, refused } = pace;
    let base = match () {
        () if shrinking && refused => REFUSED,
        () if shrinking => DRAINING,
        () if watched || busy => WATCHED,
        () => IDLE,
    };
    base.mul_f64(0.9 + 0.1 * jitter)
}

/// The time until the next try after this many failures in a row.
pub(super) fn retry(failures: u32, costly: bool, jitter: f64) -> Duration {
    let longest = if costly { LONGEST_COSTLY_RETRY } else { LONGEST_RETRY };
    let doubled = doubled(DRAINING, failures.saturating_sub(1), longest);
    doubled.mul_f64(0.5 + 0.5 * jitter)
}

/// The least time until the next round after the answers of one took this long to decode.
pub(super) fn rest(decoding: Duration) -> Duration {
    decoding.saturating_mul(DECODING_SHARE).min(LONGEST_REST)
}

/// The least time between two lists of workers: standard Dask makes one with everything it knows of each of them,
/// 8 µs of the scheduler's time a worker, the telemetry module a fifth of it.
pub(super) fn list_interval(workers: usize, telemetry: bool) -> Duration {
    match (workers, telemetry) {
        (0..=200, _) => Duration::ZERO,
        (_, true) => Duration::from_secs(1),
        (_, false) => Duration::from_secs(10),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::rest(Pace::default(), 5_000)]
    #[case::busy(Pace { busy: true, ..Pace::default() }, 1_000)]
    #[case::watched(Pace { watched: true, ..Pace::default() }, 1_000)]
    #[case::shrinking(Pace { shrinking: true, watched: true, busy: true, refused: false }, 250)]
    #[case::refused(Pace { shrinking: true, watched: true, busy: true, refused: true }, 2_000)]
    #[case::refused_before(Pace { refused: true, ..Pace::default() }, 5_000)]
    fn the_more_depends_on_it_the_more_often(#[case] pace: Pace, #[case] milliseconds: u64) {
        let longest = Duration::from_millis(milliseconds);
        assert_eq!(interval(pace, 1.0), longest);
        assert_eq!(interval(pace, 0.0), longest.mul_f64(0.9));
    }

    #[test]
    fn tries_become_rare() {
        let pauses: Vec<u128> = (1..=9).map(|failures| retry(failures, false, 1.0).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
        assert_eq!(retry(1, false, 0.0).as_millis(), 125);
        assert_eq!(retry(u32::MAX, false, 1.0).as_secs(), 15);
        assert_eq!(retry(u32::MAX, true, 1.0).as_secs(), 120);
    }

    #[test]
    fn whoever_costs_much_is_asked_rarely() {
        assert_eq!(rest(Duration::from_micros(80)), Duration::from_micros(1_600), "an ordinary answer");
        assert_eq!(rest(Duration::from_millis(100)), Duration::from_secs(2), "10,000 workers");
        assert_eq!(rest(Duration::from_mins(1)), LONGEST_REST);
    }

    #[rstest]
    #[case(200, false, 0)]
    #[case(201, true, 1)]
    #[case(201, false, 10)]
    fn long_lists_are_rare(#[case] workers: usize, #[case] telemetry: bool, #[case] seconds: u64) {
        assert_eq!(list_interval(workers, telemetry).as_secs(), seconds);
    }
}
