//! When the scheduler is asked again to retire what it did not retire. Pure.
//!
//! Dask logs two lines for each refusal, and a worker that holds an actor, or the only copy of a result, is refused for
//! hours. So pauses grow, and end when something changes that could make the scheduler agree.

use std::time::Duration;

use jiff::Timestamp;

use crate::backoff::doubled;

/// The first pause after a refusal, and the least at any time.
const FIRST: Duration = Duration::from_secs(5);
/// The longest pause after a refusal.
const LONGEST: Duration = Duration::from_mins(5);
/// The first pause after a call that was not answered, or with an error.
const FIRST_FAILURE: Duration = Duration::from_secs(1);
/// The longest pause after such calls.
const LONGEST_FAILURE: Duration = Duration::from_mins(1);

/// What a refusal may depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Circumstances {
    /// Other running workers, which could take the data.
    pub(super) others: usize,
    /// Workers of the pod.
    pub(super) workers: usize,
    /// Results that they hold.
    pub(super) keys: u64,
    /// Actors that they hold.
    pub(super) actors: u64,
}

/// The refusals and failures of one pod's drain in a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Refusals {
    times: u32,
    failures: u32,
    last: Option<(Timestamp, Circumstances)>,
}

impl Refusals {
    /// The scheduler refused; gives the time before which it is not asked again.
    pub(super) fn refused(&mut self, under: Circumstances, now: Timestamp) -> Timestamp {
        self.times = if self.is_other(under) { 1 } else { self.times.saturating_add(1) };
        self.failures = 0;
        self.last = Some((now, under));
        now + doubled(FIRST, self.times.saturating_sub(1), LONGEST)
    }

    /// The call was not answered, or with an error; gives the time before which it is not made again.
    pub(super) fn failed(&mut self, now: Timestamp) -> Timestamp {
        self.failures = self.failures.saturating_add(1);
        now + doubled(FIRST_FAILURE, self.failures.saturating_sub(1), LONGEST_FAILURE)
    }

    /// Takes what is the case now; gives the time before which nothing is to be asked after all, if something changed
    /// since the last refusal.
    pub(super) fn look(&self, under: Circumstances) -> Option<Timestamp> {
        let (at, _) = self.last.filter(|_| self.is_other(under))?;
        Some(at + FIRST)
    }

    /// The scheduler agreed.
    pub(super) fn agreed(&mut self) {
        *self = Self::default();
    }

    /// Whether something has changed that a refusal may depend on. More results on the same worker explain no change
    /// of mind.
    fn is_other(&self, now: Circumstances) -> bool {
        self.last.is_some_and(|(_, then)| {
            let fewer_keys = now.keys == 0 && then.keys > 0;
            fewer_keys || (now.others, now.workers, now.actors) != (then.others, then.workers, then.actors)
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    const LONELY: Circumstances = Circumstances { others: 0, workers: 1, keys: 3, actors: 0 };

    /// The pauses of refusals that follow one after the other.
    fn pauses(refusals: &mut Refusals, count: usize, under: Circumstances) -> Vec<i64> {
        let pause = |_| refusals.refused(under, at(0)).duration_since(at(0)).as_secs();
        (0..count).map(pause).collect()
    }

    #[test]
    fn refusals_become_rare() {
        let mut refusals = Refusals::default();
        assert_eq!(pauses(&mut refusals, 8, LONELY), [5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(refusals.look(LONELY), None, "nothing has changed");
        refusals.agreed();
        assert_eq!(pauses(&mut refusals, 1, LONELY), [5]);
    }

    #[test]
    fn calls_that_are_not_answered_become_rare() {
        let mut refusals = Refusals::default();
        let pauses: Vec<_> = (0..8).map(|_| refusals.failed(at(0)).duration_since(at(0)).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        refusals.refused(LONELY, at(0));
        assert_eq!(refusals.failed(at(0)), at(1), "it had answered");
    }

    #[rstest]
    #[case::a_worker_joined(Circumstances { others: 1, ..LONELY }, true)]
    #[case::the_results_went(Circumstances { keys: 0, ..LONELY }, true)]
    #[case::an_actor_came(Circumstances { actors: 1, ..LONELY }, true)]
    #[case::one_of_its_workers_went(Circumstances { workers: 0, ..LONELY }, true)]
    #[case::one_more_result(Circumstances { keys: 4, ..LONELY }, false)]
    #[case::one_result_less(Circumstances { keys: 2, ..LONELY }, false)]
    fn a_change_ends_a_long_pause(#[case] changed: Circumstances, #[case] ends: bool) {
        let mut refusals = Refusals::default();
        pauses(&mut refusals, 7, LONELY);
        assert_eq!(refusals.look(changed), ends.then(|| at(5)));
        assert_eq!(pauses(&mut refusals, 1, changed), [if ends { 5 } else { 300 }]);
    }

    #[test]
    fn circumstances_that_change_all_the_time_are_asked_for_every_five_seconds_at_most() {
        let mut refusals = Refusals::default();
        let mut now = at(0);
        for others in 0..20 {
            let under = Circumstances { others, ..LONELY };
            let next = refusals.refused(under, now);
            assert!(next >= now + FIRST);
            let other = refusals.look(Circumstances { others: others + 1, ..LONELY });
            assert_eq!(other, Some(now + FIRST));
            now = next;
        }
    }
}
