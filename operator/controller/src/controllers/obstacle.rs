//! What stands in the way of an object, and when it is worth trying again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dask_operator_api::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::backoff::doubled;
use crate::cluster_cache::ObjectKey;

/// First pause after a refusal; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Pause while a stranger's object has the name: it goes only when a person makes it go.
const NAME_TAKEN_PAUSE: Duration = Duration::from_secs(30);
/// Most bytes of one obstacle's words where several are named together, so that a condition, which holds 1,000 bytes,
/// has room for more than one.
const MOST_WORDS: usize = 400;

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

    /// A message cut to [`MOST_WORDS`] bytes.
    #[must_use]
    pub fn cut(message: &str) -> &str {
        &message[..message.floor_char_boundary(MOST_WORDS)]
    }

    /// The words of these obstacles in their order; of several, each is cut to [`MOST_WORDS`] bytes.
    pub fn named<'a>(obstacles: impl IntoIterator<Item = &'a Self>) -> String {
        let mut words: Vec<&str> = Vec::new();
        for obstacle in obstacles {
            if !words.contains(&&*obstacle.message) {
                words.push(&obstacle.message);
            }
        }
        match words.as_slice() {
            [only] => (*only).to_owned(),
            several => several.iter().map(|message| Self::cut(message)).collect::<Vec<_>>().join("; "),
        }
    }
}

/// What a write is for, and so what its refusal is in the way of. The first matters most, and is named first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// What the spec asks for is made.
    Creation,
    /// The object gets its owner, with which it goes.
    Adoption,
    /// What is not wanted any more is deleted.
    Deletion,
    /// Workers are marked, so that they are drained.
    Mark,
    /// Workers' marks are taken off.
    Unmark,
    /// Labels and annotations of what runs are brought up to date.
    Relabel,
    /// The status is written.
    Status,
}

/// A write that the API server refused, not to be tried again for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandingRefusal {
    /// What the API server said.
    pub obstacle: Obstacle,
    /// How long to wait from now.
    pub wait: Duration,
}

/// The refusals of one object.
#[derive(Debug, Default)]
struct Entry {
    uid: Option<String>,
    refusals: BTreeMap<Purpose, Refusal>,
    /// What a person was told: an Event for each, once.
    told: BTreeMap<Purpose, Reason>,
}

#[derive(Debug)]
struct Refusal {
    obstacle: Obstacle,
    generation: Option<i64>,
    count: u32,
    retry_at: Instant,
}

/// The refusals that stand, by object and what they are in the way of. Forgotten at a restart, which only costs one more
/// try. They count for one object, not for another that was made under its name, and the time is the process' own, which
/// never goes back.
#[derive(Debug, Default)]
pub struct Obstacles {
    entries: Mutex<HashMap<ObjectKey, Entry>>,
}

impl Obstacles {
    /// The refusal that still stands for this object and this generation of its spec.
    pub fn standing(
        &self,
        key: &ObjectKey,
        object: &ObjectMeta,
        purpose: Purpose,
        now: Instant,
    ) -> Option<StandingRefusal> {
        let entries = self.entries();
        let entry = entries.get(key).filter(|entry| entry.uid == object.uid)?;
        let refusal =
            entry.refusals.get(&purpose).filter(|refusal| refusal.generation == object.generation)?;
        let wait = refusal.retry_at.checked_duration_since(now).filter(|wait| !wait.is_zero())?;
        Some(StandingRefusal { obstacle: refusal.obstacle.clone(), wait })
    }

    /// Remembers a refusal and returns how long to wait before the next try.
    pub fn refused(
        &self,
        key: &ObjectKey,
        object: &ObjectMeta,
        purpose: Purpose,
        obstacle: Obstacle,
        now: Instant,
    ) -> Duration {
        let mut entries = self.entries();
        let entry = entry_of(&mut entries, key, object);
        let before = entry.refusals.get(&purpose).filter(|refusal| refusal.generation == object.generation);
        let count = before.map_or(0, |refusal| refusal.count);
        let wait = match obstacle.reason {
            Reason::NameTaken => NAME_TAKEN_PAUSE,
            _ => doubled(FIRST_PAUSE, count, LONGEST_PAUSE),
        };
        let refusal =
            Refusal { obstacle, generation: object.generation, count: count + 1, retry_at: now + wait };
        entry.refusals.insert(purpose, refusal);
        wait
    }

    /// Remembers what was seen to stand in the way; since it is looked at anew each time, it bars no try.
    pub fn observed(
        &self,
        key: &ObjectKey,
        object: &ObjectMeta,
        purpose: Purpose,
        obstacle: Obstacle,
        now: Instant,
    ) {
        let mut entries = self.entries();
        let refusal = Refusal { obstacle, generation: object.generation, count: 0, retry_at: now };
        entry_of(&mut entries, key, object).refusals.insert(purpose, refusal);
    }

    /// All that stands in the way of the object, what matters most first.
    pub fn all(&self, key: &ObjectKey) -> Vec<(Purpose, Obstacle)> {
        let entries = self.entries();
        let refusals = entries.get(key).into_iter().flat_map(|entry| &entry.refusals);
        refusals.map(|(purpose, refusal)| (*purpose, refusal.obstacle.clone())).collect()
    }

    /// What stood in the way last, until it is cleared: of several, what matters most.
    pub fn last(&self, key: &ObjectKey) -> Option<Obstacle> {
        let entries = self.entries();
        let (_, first) = entries.get(key)?.refusals.first_key_value()?;
        Some(first.obstacle.clone())
    }

    /// Those of these obstacles that nobody was told of yet; from now on all of them count as told.
    pub fn untold(
        &self,
        key: &ObjectKey,
        object: &ObjectMeta,
        all: &[(Purpose, Obstacle)],
    ) -> Vec<(Purpose, Obstacle)> {
        let mut entries = self.entries();
        if all.is_empty() {
            if let Some(entry) = entries.get_mut(key) {
                entry.told.clear();
            }
            return Vec::new();
        }
        let entry = entry_of(&mut entries, key, object);
        let now = all.iter().map(|(purpose, obstacle)| (*purpose, obstacle.reason)).collect();
        let before = std::mem::replace(&mut entry.told, now);
        all.iter()
            .filter(|(purpose, obstacle)| before.get(purpose) != Some(&obstacle.reason))
            .cloned()
            .collect()
    }

    /// Nothing is in the way of this any more.
    pub fn cleared(&self, key: &ObjectKey, purpose: Purpose) {
        if let Some(entry) = self.entries().get_mut(key) {
            entry.refusals.remove(&purpose);
        }
    }

    /// The object's writes went through, or it is gone.
    pub fn clear(&self, key: &ObjectKey) {
        self.entries().remove(key);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ObjectKey, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of an object; of another one with its name nothing is kept.
fn entry_of<'a>(
    entries: &'a mut HashMap<ObjectKey, Entry>,
    key: &ObjectKey,
    object: &ObjectMeta,
) -> &'a mut Entry {
    let entry = entries.entry(key.clone()).or_default();
    if entry.uid != object.uid {
        *entry = Entry { uid: object.uid.clone(), ..Entry::default() };
    }
    entry
}

#[cfg(test)]
#[path = "obstacle_tests.rs"]
mod tests;
