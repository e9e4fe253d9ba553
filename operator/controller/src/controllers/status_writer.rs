//! Status writes: only changes, not too often, and never from a stale view.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cluster_cache::ObjectKey;
use crate::writer::Lane;

/// How soon a status has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// At once: what it tells of is about to be deleted, or somebody waits for it.
    AtOnce,
    /// The phase changes.
    Phase,
    /// Counts or conditions change.
    Routine,
    /// The same, but the worker pods that are being created come first.
    AfterWorkers,
}

impl Urgency {
    /// Least time since the last write of the same object's status.
    #[must_use]
    pub fn interval(self) -> Duration {
        match self {
            Self::AtOnce => Duration::ZERO,
            Self::Phase => PHASE_INTERVAL,
            Self::Routine | Self::AfterWorkers => ROUTINE_INTERVAL,
        }
    }

    /// What the write competes with.
    #[must_use]
    pub fn lane(self) -> Lane {
        match self {
            Self::AtOnce | Self::Phase | Self::Routine => Lane::Urgent,
            Self::AfterWorkers => Lane::Bulk,
        }
    }
}

/// Least time between two writes of one object's status, unless the phase changes.
const ROUTINE_INTERVAL: Duration = Duration::from_millis(500);
/// How long a phase stands at least, so that clients which poll see the phases in dask-kubernetes' order.
/// Far below the second within which `Running` is promised.
const PHASE_INTERVAL: Duration = Duration::from_millis(400);

/// How long an own write counts for more than what the cache shows. A watch catches up within seconds; if it shows an
/// older version for longer, the API server's storage was restored from a backup and versions began anew.
const MEMORY: Duration = Duration::from_secs(30);

/// What was written last for one object.
#[derive(Clone, Debug)]
struct Written<S> {
    uid: String,
    resource_version: u64,
    status: S,
    at: Instant,
}

/// Remembers the last written status of each object of a kind, because the cache shows it only later.
#[derive(Debug)]
pub struct StatusMemory<S> {
    written: Mutex<HashMap<ObjectKey, Written<S>>>,
}

impl<S> Default for StatusMemory<S> {
    fn default() -> Self {
        Self { written: Mutex::default() }
    }
}

impl<S: Clone + Default> StatusMemory<S> {
    /// The newest known status of the object: the cached one, or the one that this process wrote since.
    pub fn newest(&self, key: &ObjectKey, uid: &str, cached_version: u64, cached: Option<&S>) -> S {
        self.newest_at(key, uid, cached_version, cached, Instant::now())
    }

    fn newest_at(
        &self,
        key: &ObjectKey,
        uid: &str,
        cached_version: u64,
        cached: Option<&S>,
        now: Instant,
    ) -> S {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let is_newer = |last: &&Written<S>| {
            let recent = now.saturating_duration_since(last.at) < MEMORY;
            last.uid == uid && last.resource_version > cached_version && recent
        };
        match written.get(key).filter(is_newer) {
            Some(last) => last.status.clone(),
            None => cached.cloned().unwrap_or_default(),
        }
    }

    /// How long a write has to wait so that it comes no sooner than `interval` after the last one.
    pub fn wait(&self, key: &ObjectKey, uid: &str, interval: Duration, now: Instant) -> Option<Duration> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let last = written.get(key).filter(|last| last.uid == uid)?;
        interval.checked_sub(now.saturating_duration_since(last.at)).filter(|wait| !wait.is_zero())
    }

    /// Remembers a write that the API server answered.
    pub fn written(&self, key: &ObjectKey, uid: &str, resource_version: u64, status: S, now: Instant) {
        let entry = Written { uid: uid.to_owned(), resource_version, status, at: now };
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), entry);
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ObjectKey {
        ObjectKey::new("ns", "c")
    }

    #[test]
    fn the_own_write_wins_until_the_cache_has_caught_up() {
        let memory = StatusMemory::<i32>::default();
        assert_eq!(memory.newest(&key(), "uid", 5, Some(&1)), 1);
        memory.written(&key(), "uid", 7, 2, Instant::now());
        assert_eq!(memory.newest(&key(), "uid", 5, Some(&1)), 2, "the cache is older");
        assert_eq!(memory.newest(&key(), "uid", 7, Some(&2)), 2);
        assert_eq!(memory.newest(&key(), "uid", 9, Some(&3)), 3, "somebody wrote since");
    }

    #[test]
    fn a_storage_that_was_restored_wins_in_the_end() {
        let memory = StatusMemory::<i32>::default();
        let start = Instant::now();
        memory.written(&key(), "uid", 700, 2, start);
        let newest =
            |seconds| memory.newest_at(&key(), "uid", 5, Some(&1), start + Duration::from_secs(seconds));
        assert_eq!((newest(0), newest(29)), (2, 2));
        assert_eq!((newest(30), newest(3_600)), (1, 1), "versions began anew, and 5 is what there is");
    }

    #[test]
    fn an_object_made_again_starts_afresh() {
        let memory = StatusMemory::<i32>::default();
        let now = Instant::now();
        memory.written(&key(), "old", 7, 2, now);
        assert_eq!(memory.newest(&key(), "new", 8, None), 0);
        assert_eq!(memory.wait(&key(), "new", ROUTINE_INTERVAL, now), None);
    }

    #[test]
    fn writes_are_spaced() {
        let memory = StatusMemory::<i32>::default();
        let now = Instant::now();
        assert_eq!(memory.wait(&key(), "uid", ROUTINE_INTERVAL, now), None, "the first goes at once");
        memory.written(&key(), "uid", 7, 2, now);
        let later = now + Duration::from_millis(100);
        assert_eq!(memory.wait(&key(), "uid", ROUTINE_INTERVAL, later), Some(Duration::from_millis(400)));
        assert_eq!(memory.wait(&key(), "uid", ROUTINE_INTERVAL, now + ROUTINE_INTERVAL), None);
        memory.forget(&key());
        assert_eq!(memory.wait(&key(), "uid", ROUTINE_INTERVAL, later), None);
    }
}
