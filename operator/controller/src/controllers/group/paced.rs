//! Many writes of one kind: a bounded number at a time, for a bounded time, and few after a failure.
//!
//! Creations begin with one at a time and become more with each success: under a quota of 3, a wish for 10,000 pods costs
//! a handful of refused requests. The ReplicaSet controller of Kubernetes does so in batches of 1, 2, 4, … and waits for
//! the slowest of each. Here the next item begins as soon as its turn has come, under the same bound.

use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use crate::controllers::obstacle::Obstacle;
use crate::writer::WriteError;

/// How long writes of one kind begin in one reconciliation, before everything else has its turn.
pub(super) const LONGEST: Duration = Duration::from_secs(1);
/// After so many failures no more writes to single workers begin: a policy that forbids all of 10,000 costs no more, and
/// one worker that cannot be written to holds up no other.
const MOST_FAILURES: usize = 8;

/// How fast writes follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Writes that may be under way at first; with each success one more may be.
    pub(super) first: usize,
    /// Writes that may be under way at most.
    pub(super) most: usize,
    /// How many failures there may be before no more writes begin.
    pub(super) failures: usize,
    /// For how long writes begin.
    pub(super) time: Duration,
}

impl Pace {
    /// Creations, of which one fails as all do; `succeeded` went through without a failure before.
    pub(super) fn of_creations(succeeded: usize, most: usize, time: Duration) -> Self {
        let first = succeeded.saturating_add(1).min(most);
        Self { first, most, failures: 1, time }
    }

    /// Writes to workers that exist, each of which may fail by itself.
    pub(super) fn of_workers(most: usize) -> Self {
        Self { first: most, most, failures: MOST_FAILURES, time: LONGEST }
    }
}

/// What became of one write that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It was carried out.
    Done,
    /// Its object had changed, or gone, since it was read: no failure, but to be decided again.
    Changed,
    /// It was not wanted any more when its turn came, and so are those after it.
    CalledOff,
}

/// How far the writes came.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Writes that were carried out.
    pub(super) done: usize,
    /// Whether an object had changed, or a write was called off, so that it has to be decided again.
    pub(super) changed: bool,
    /// Whether some writes did not begin because the time was over.
    pub(super) left: bool,
    /// The first thing that only a person can put out of the way.
    pub(super) refused: Option<Obstacle>,
    /// The first other failure, which is over soon.
    pub(super) failure: Option<WriteError>,
}

impl Outcome {
    /// The outcome of one write.
    pub(super) fn of(result: Result<Written, WriteError>) -> Self {
        let mut outcome = Self::default();
        outcome.add(result);
        outcome
    }

    fn add(&mut self, result: Result<Written, WriteError>) {
        match result {
            Ok(Written::Done) => self.done += 1,
            Ok(Written::Changed | Written::CalledOff) => self.changed = true,
            Err(WriteError::Refused { refusal, .. }) => {
                self.refused.get_or_insert_with(|| Obstacle::new(refusal.reason, refusal.message));
            }
            Err(error) => drop(self.failure.get_or_insert(error)),
        }
    }
}

/// Runs `work` on the items in their order at this pace, and waits for what is under way when no more begin.
pub(super) async fn paced<T, F>(
    items: impl IntoIterator<Item = T>,
    pace: Pace,
    work: impl Fn(T) -> F,
) -> Outcome
where
    F: Future<Output = Result<Written, WriteError>>,
{
    let mut items = items.into_iter().peekable();
    let mut under_way = FuturesUnordered::new();
    let mut outcome = Outcome::default();
    let (end, mut failures, mut called_off) = (Instant::now().checked_add(pace.time), 0, false);
    loop {
        let window = pace.first.saturating_add(outcome.done).min(pace.most).max(1);
        let go_on = failures < pace.failures && !called_off;
        while go_on && under_way.len() < window && items.peek().is_some() {
            if end.is_some_and(|end| Instant::now() >= end) {
                outcome.left = true;
                break;
            }
            under_way.extend(items.next().map(&work));
        }
        let Some(result) = under_way.next().await else { return outcome };
        failures += usize::from(result.is_err());
        called_off |= matches!(result, Ok(Written::CalledOff));
        outcome.add(result);
    }
}

#[cfg(test)]
#[path = "paced_tests.rs"]
mod tests;
