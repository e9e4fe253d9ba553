//! What stands in the way of an object, and when it is worth trying again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dask_operator_api::Reason;
use jiff::Timestamp;

use crate::cluster_cache::ObjectKey;

/// First pause after a refusal; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Pause while a stranger's object has the name: it goes only when a person makes it go.
const NAME_TAKEN_PAUSE: Duration = Duration::from_secs(30);

/// Something that only a person can put out of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The reason, for condition, Event and metric.
    pub reason: Reason,
    /// What is in the way and how to remove it.
    pub message: String,
}

impl Obstacle {
    /// An obstacle with this reason and message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Somebody else's object has the name of a child of `parent`: a stranger's, or one of an earlier owner that is
    /// being collected.
    #[must_use]
    pub fn name_taken(parent: &str, kind: &str, name: &str, owner_uid: Option<&str>) -> Self {
        if owner_uid.is_some() {
            let message =
                format!("{kind} \"{name}\" belongs to an earlier owner and has to be deleted first");
            return Self::new(Reason::WaitingForDeletion, message);
        }
        let message = format!(
            "{kind} \"{name}\" exists but does not belong to this {parent}; delete it, or create the {parent} under \
             another name"
        );
        Self::new(Reason::NameTaken, message)
    }
}

/// A write that the API server refused, not to be tried again for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingRefusal {
    /// What the API server said.
    pub obstacle: Obstacle,
    /// How long to wait from now.
    pub wait: Duration,
}

#[derive(Debug)]
struct Entry {
    obstacle: Obstacle,
    generation: Option<i64>,
    refusals: u32,
    retry_at: Timestamp,
}

/// The refusals that stand, by object. Forgotten at a restart, which only costs one more try.
#[derive(Debug, Default)]
pub struct Obstacles {
    entries: Mutex<HashMap<ObjectKey, Entry>>,
}

impl Obstacles {
    /// The refusal that still stands for this generation of the object's spec.
    pub fn standing(
        &self,
        key: &ObjectKey,
        generation: Option<i64>,
        now: Timestamp,
    ) -> Option<StandingRefusal> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(key)?;
        let wait = Duration::try_from(entry.retry_at - now).ok().filter(|wait| !wait.is_zero())?;
        (entry.generation == generation).then(|| StandingRefusal { obstacle: entry.obstacle.clone(), wait })
    }

    /// Remembers a refusal and returns how long to wait before the next try.
    pub fn refused(
        &self,
        key: &ObjectKey,
        generation: Option<i64>,
        obstacle: Obstacle,
        now: Timestamp,
    ) -> Duration {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let before = entries.get(key).filter(|entry| entry.generation == generation);
        let refusals = before.map_or(0, |entry| entry.refusals);
        let wait = match obstacle.reason {
            Reason::NameTaken => NAME_TAKEN_PAUSE,
            _ => FIRST_PAUSE.saturating_mul(1 << refusals.min(10)).min(LONGEST_PAUSE),
        };
        let retry_at = now + wait;
        entries.insert(key.clone(), Entry { obstacle, generation, refusals: refusals + 1, retry_at });
        wait
    }

    /// Remembers what was seen to stand in the way; since it is looked at anew each time, it bars no try.
    pub fn observed(&self, key: &ObjectKey, generation: Option<i64>, obstacle: Obstacle, now: Timestamp) {
        let entry = Entry { obstacle, generation, refusals: 0, retry_at: now };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), entry);
    }

    /// What stood in the way last, until it is cleared.
    pub fn last(&self, key: &ObjectKey) -> Option<Obstacle> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).map(|entry| entry.obstacle.clone())
    }

    /// The object's writes went through, or it is gone.
    pub fn clear(&self, key: &ObjectKey) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn quota() -> Obstacle {
        Obstacle::new(Reason::QuotaExceeded, "no room")
    }

    #[test]
    fn pauses_grow_to_a_minute() {
        let (obstacles, key) = (Obstacles::default(), ObjectKey::new("ns", "g"));
        let waits: Vec<u64> =
            (0..8).map(|_| obstacles.refused(&key, Some(1), quota(), at(0)).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn a_name_that_is_taken_is_not_asked_for_often() {
        let taken = Obstacle::new(Reason::NameTaken, "a stranger's");
        let wait = Obstacles::default().refused(&ObjectKey::new("ns", "c"), Some(1), taken, at(0));
        assert_eq!(wait.as_secs(), 30);
    }

    #[test]
    fn a_refusal_stands_until_its_time_or_an_edit() {
        let (obstacles, key) = (Obstacles::default(), ObjectKey::new("ns", "g"));
        obstacles.refused(&key, Some(1), quota(), at(0));
        let standing = obstacles.standing(&key, Some(1), at(1)).unwrap();
        assert_eq!((standing.obstacle, standing.wait), (quota(), Duration::from_secs(1)));
        assert_eq!(obstacles.standing(&key, Some(1), at(2)), None, "its time has come");
        assert_eq!(obstacles.standing(&key, Some(2), at(1)), None, "the spec was edited");
        assert_eq!(obstacles.standing(&ObjectKey::new("ns", "other"), Some(1), at(1)), None);
    }

    #[test]
    fn an_edit_or_success_starts_afresh() {
        let (obstacles, key) = (Obstacles::default(), ObjectKey::new("ns", "g"));
        obstacles.refused(&key, Some(1), quota(), at(0));
        obstacles.refused(&key, Some(1), quota(), at(2));
        assert_eq!(obstacles.refused(&key, Some(2), quota(), at(3)).as_secs(), 2);
        obstacles.clear(&key);
        assert_eq!(obstacles.standing(&key, Some(2), at(3)), None);
    }
}
