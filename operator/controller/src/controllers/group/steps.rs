//! The writes of one reconciliation, one purpose after the other: what fails for one skips no other.

use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::paced::Outcome;
use crate::cluster_cache::ObjectKey;
use crate::controllers::Obstacles;
use crate::controllers::obstacle::{Obstacle, Purpose};
use crate::controllers::reconcile::ReconcileError;

/// How soon to decide again after something had changed before it could be written: its watch shows it by then.
const CHANGED_PAUSE: Duration = Duration::from_millis(500);

/// What the writes so far came to.
#[derive(Debug)]
pub(super) struct Steps<'a> {
    obstacles: &'a Obstacles,
    key: &'a ObjectKey,
    object: &'a ObjectMeta,
    now: Instant,
    /// When to look again.
    wait: Option<Duration>,
    /// The first failure that is over soon.
    failure: Option<ReconcileError>,
}

impl<'a> Steps<'a> {
    /// Nothing was written yet.
    pub(super) fn new(
        obstacles: &'a Obstacles,
        key: &'a ObjectKey,
        object: &'a ObjectMeta,
        now: Instant,
    ) -> Self {
        Self { obstacles, key, object, now, wait: None, failure: None }
    }

    /// Carries out the writes for one purpose if there are any, and no refusal of theirs stands; keeps what was refused
    /// for the conditions, and other failures for the end.
    pub(super) async fn take(
        &mut self,
        purpose: Purpose,
        is_due: bool,
        writes: impl Future<Output = Outcome>,
    ) -> Outcome {
        if !is_due {
            self.obstacles.cleared(self.key, purpose);
            return Outcome::default();
        }
        if let Some(standing) = self.obstacles.standing(self.key, self.object, purpose, self.now) {
            self.look_again(standing.wait);
            return Outcome::default();
        }
        let mut outcome = writes.await;
        match outcome.refused.clone() {
            Some(obstacle) => self.refused(purpose, obstacle),
            None if outcome.failure.is_none() => self.obstacles.cleared(self.key, purpose),
            None => {}
        }
        if outcome.left {
            self.look_again(Duration::ZERO);
        }
        if outcome.changed {
            self.look_again(CHANGED_PAUSE);
        }
        if let Some(failure) = outcome.failure.take() {
            self.fail(failure);
        }
        outcome
    }

    /// Remembers what only a person can put out of the way.
    pub(super) fn refused(&mut self, purpose: Purpose, obstacle: Obstacle) {
        let wait = self.obstacles.refused(self.key, self.object, purpose, obstacle, Instant::now());
        self.look_again(wait);
    }

    /// Remembers the first failure, or that the object itself is gone, which matters more.
    pub(super) fn fail(&mut self, failure: impl Into<ReconcileError>) {
        let failure = failure.into();
        let gone = |failure: &ReconcileError| failure.means_gone("DaskWorkerGroup", self.key);
        if self.failure.is_none() || gone(&failure) {
            self.failure = Some(failure);
        }
    }

    /// Looks again at the latest after this time.
    pub(super) fn look_again(&mut self, wait: Duration) {
        self.wait = self.wait.into_iter().chain([wait]).min();
    }

    /// Whether the object itself turned out to be gone.
    pub(super) fn is_gone(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.means_gone("DaskWorkerGroup", self.key))
    }

    /// When to look again, or the first failure.
    ///
    /// # Errors
    /// The first failure.
    pub(super) fn end(self) -> Result<Option<Duration>, ReconcileError> {
        self.failure.map_or(Ok(self.wait), Err)
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
