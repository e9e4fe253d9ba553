//! When a failed reconciliation is tried again: the one table of pauses, and the failures of each object.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cluster_cache::ObjectKey;
use crate::telemetry::Metrics;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Somebody else changed the object at the same time.
    Conflict,
    /// The API server asked for a pause, with or without saying how long.
    Throttled(Option<Duration>),
    /// Probably over soon: a timeout, a broken connection, an error of the server.
    Transient,
    /// The API server will refuse it again until somebody changes something.
    Refused,
}

/// Pauses after consecutive failures double from `first` to `longest`.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    first: Duration,
    longest: Duration,
}

impl ErrorClass {
    /// The table of pauses.
    const fn pauses(self) -> Pauses {
        let (first, longest) = match self {
            Self::Conflict => (100, 5_000),
            Self::Throttled(_) => (1_000, 30_000),
            Self::Transient => (250, 60_000),
            Self::Refused => (5_000, 300_000),
        };
        Pauses { first: Duration::from_millis(first), longest: Duration::from_millis(longest) }
    }

    /// The pause after this many failures in a row before this one. `jitter` from 0 to 1 spreads objects that
    /// failed together.
    fn pause(self, failures: u32, jitter: f64) -> Duration {
        let Pauses { first, longest } = self.pauses();
        let doubled = doubled(first, failures, longest);
        match self {
            // Never sooner than the server asked for, within reason.
            Self::Throttled(Some(asked)) => asked.min(LONGEST_ASKED).mul_f64(1.0 + jitter / 4.0),
            _ => doubled.mul_f64(0.5 + jitter / 2.0),
        }
    }
}

/// A pause that doubles with each failure before this one, up to the longest.
pub(crate) fn doubled(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(20)).min(longest)
}

/// Longest pause that a server may ask for: a number that is a mistake would put an object to sleep for ever.
const LONGEST_ASKED: Duration = Duration::from_mins(5);

/// An entry this old is of an object that was deleted: a failing one is tried again long before.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(15);
/// How often such entries are looked for; more often would cost a look at all that fail for each failure.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

/// Those of one kind of object.
#[derive(Debug, Default)]
struct Failing {
    objects: HashMap<ObjectKey, Failures>,
    swept: Option<Instant>,
}

impl Failing {
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_INTERVAL) {
            self.swept = Some(now);
            self.objects.retain(|_, failures| now.saturating_duration_since(failures.last) < FORGOTTEN_AFTER);
        }
    }
}

/// The objects whose last reconciliation failed. Clones share them.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: Arc<Mutex<HashMap<String, Failing>>>,
    metrics: Metrics,
}

impl Backoff {
    /// No failures yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { failures: Arc::default(), metrics }
    }

    /// Notes a failure and returns how long to wait before the next try.
    #[must_use]
    pub fn next(&self, kind: &str, key: &ObjectKey, class: ErrorClass) -> Duration {
        self.next_at(kind, key, class, Instant::now(), fastrand::f64())
    }

    fn next_at(&self, kind: &str, key: &ObjectKey, class: ErrorClass, now: Instant, jitter: f64) -> Duration {
        let mut kinds = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = kinds.entry(kind.to_owned()).or_default();
        failing.sweep(now);
        let objects = &mut failing.objects;
        let failures = objects.entry(key.clone()).or_insert(Failures { count: 0, last: now });
        let pause = class.pause(failures.count, jitter);
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        self.metrics.backing_off(kind, objects.len());
        pause
    }

    /// Forgets the failures of an object: it was reconciled, or is gone.
    pub fn reset(&self, kind: &str, key: &ObjectKey) {
        let mut kinds = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failing) = kinds.get_mut(kind)
            && failing.objects.remove(key).is_some()
        {
            self.metrics.backing_off(kind, failing.objects.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const KIND: &str = "DaskCluster";

    fn backoff() -> Backoff {
        Backoff::new(Metrics::new().unwrap())
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    /// Pauses without jitter's mercy, in milliseconds.
    #[rstest]
    #[case(ErrorClass::Conflict, &[100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000])]
    #[case(ErrorClass::Throttled(None), &[1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])]
    #[case(ErrorClass::Transient, &[250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000])]
    #[case(ErrorClass::Refused, &[5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000])]
    fn the_table(#[case] class: ErrorClass, #[case] expected: &[u64]) {
        let pauses: Vec<u64> =
            (0..).map(|n| class.pause(n, 1.0)).map(as_millis).take(expected.len()).collect();
        assert_eq!(pauses, expected);
    }

    fn as_millis(pause: Duration) -> u64 {
        u64::try_from(pause.as_millis()).unwrap()
    }

    #[test]
    fn failures_count_per_kind_and_object_until_reset() {
        let (backoff, now) = (backoff(), Instant::now());
        let next = |kind, name| as_millis(backoff.next_at(kind, &key(name), ErrorClass::Transient, now, 1.0));
        assert_eq!([next(KIND, "a"), next(KIND, "a"), next(KIND, "a")], [250, 500, 1_000]);
        assert_eq!([next(KIND, "b"), next("DaskWorkerGroup", "a")], [250, 250]);
        backoff.reset(KIND, &key("a"));
        assert_eq!([next(KIND, "a"), next(KIND, "b")], [250, 500]);
    }

    #[test]
    fn failures_of_another_class_keep_the_count() {
        let (backoff, now) = (backoff(), Instant::now());
        for _ in 0..10 {
            let _ = backoff.next_at(KIND, &key("a"), ErrorClass::Transient, now, 1.0);
        }
        let pause = backoff.next_at(KIND, &key("a"), ErrorClass::Conflict, now, 1.0);
        assert_eq!(as_millis(pause), 5_000, "no fast loop between two kinds of failure");
    }

    #[test]
    fn the_gauge_follows_and_deleted_objects_are_forgotten() {
        let (backoff, start) = (backoff(), Instant::now());
        let gauge = |text: &str| backoff.metrics.render().unwrap().contains(text);
        let _ = backoff.next_at(KIND, &key("a"), ErrorClass::Refused, start, 0.0);
        let _ = backoff.next_at(KIND, &key("b"), ErrorClass::Refused, start, 0.0);
        assert!(gauge("dask_operator_reconcile_backing_off{kind=\"DaskCluster\"} 2"));
        backoff.reset(KIND, &key("a"));
        assert!(gauge("dask_operator_reconcile_backing_off{kind=\"DaskCluster\"} 1"));
        let _ = backoff.next_at(KIND, &key("c"), ErrorClass::Refused, start + FORGOTTEN_AFTER, 0.0);
        assert!(
            gauge("dask_operator_reconcile_backing_off{kind=\"DaskCluster\"} 1"),
            "b was not seen for long"
        );
    }

    #[test]
    fn a_failing_object_is_never_forgotten() {
        for class in
            [ErrorClass::Conflict, ErrorClass::Throttled(None), ErrorClass::Transient, ErrorClass::Refused]
        {
            assert!(class.pauses().longest * 2 < FORGOTTEN_AFTER);
        }
    }

    /// Tries a second in the last of 10 minutes, and the most in one second of it, by 500 objects that never succeed.
    fn tries_of_five_hundred(class: ErrorClass) -> (usize, usize) {
        let (backoff, start) = (backoff(), Instant::now());
        let mut random = fastrand::Rng::with_seed(1);
        let mut next: BTreeSet<(Instant, ObjectKey)> =
            (0..500).map(|n| (start, key(&n.to_string()))).collect();
        let mut each_second = vec![0; 600];
        while let Some((now, key)) = next.pop_first() {
            let Some(second) = each_second.get_mut(usize::try_from((now - start).as_secs()).unwrap()) else {
                break;
            };
            *second += 1;
            let pause = backoff.next_at(KIND, &key, class, now, random.f64());
            next.insert((now + pause, key));
        }
        let last = &each_second[540..];
        (last.iter().sum::<usize>() / last.len(), last.iter().copied().max().unwrap_or_default())
    }

    #[rstest]
    #[case(ErrorClass::Refused, 3)]
    #[case(ErrorClass::Transient, 12)]
    #[case(ErrorClass::Throttled(None), 23)]
    #[case(ErrorClass::Conflict, 135)]
    fn hundreds_that_fail_together_drift_apart_and_cost_little(
        #[case] class: ErrorClass,
        #[case] most: usize,
    ) {
        let (mean, peak) = tries_of_five_hundred(class);
        assert!(mean <= most, "{mean} tries a second");
        assert!(peak <= mean * 3 + 10, "{peak} tries in one second, {mean} in the mean");
    }

    #[test]
    fn a_server_that_asks_for_ages_waits_minutes() {
        let pause = ErrorClass::Throttled(Some(Duration::MAX)).pause(0, 1.0);
        assert_eq!(pause, LONGEST_ASKED.mul_f64(1.25));
        assert!(pause * 2 < FORGOTTEN_AFTER);
    }

    proptest! {
        #[test]
        fn never_sooner_than_the_server_asked(seconds in 0_u64..=300, failures in 0_u32..100, jitter in 0.0..1.0) {
            let asked = Duration::from_secs(seconds);
            let pause = ErrorClass::Throttled(Some(asked)).pause(failures, jitter);
            prop_assert!(pause >= asked && pause <= asked.mul_f64(1.25));
        }

        #[test]
        fn jitter_takes_at_most_half(failures in 0_u32..100, jitter in 0.0..1.0) {
            let full = ErrorClass::Transient.pause(failures, 1.0);
            let pause = ErrorClass::Transient.pause(failures, jitter);
            prop_assert!(pause >= full / 2 && pause <= full);
        }
    }
}
