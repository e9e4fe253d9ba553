//! What this process remembers of each group from one reconciliation to the next. All of it can be lost: a restart of
//! the operator costs a slower start, or an Event.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dask_operator_api::WorkerFailures;

use crate::cluster_cache::ObjectKey;

/// Names of removed workers that are kept for an Event.
const MOST_NAMES: usize = 10;

/// What happened to each group since it was last at rest.
#[derive(Debug, Default)]
pub struct Progress {
    groups: Mutex<HashMap<ObjectKey, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    uid: String,
    /// Creations in a row that did not fail, while more are wanted.
    in_a_row: usize,
    change: SizeChange,
    /// The size at which the group was last at rest.
    size: Option<i32>,
    failures: Option<WorkerFailures>,
}

/// The workers that came and went between two times of rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SizeChange {
    /// How many were created, also in place of others.
    pub(super) created: usize,
    /// How many were removed because there were too many.
    pub(super) removed: usize,
    /// Names of the first of these.
    pub(super) names: Vec<String>,
    /// By how much the wanted number is larger.
    pub(super) growth: i64,
}

impl Progress {
    /// How many creations succeeded in a row.
    pub(super) fn in_a_row(&self, group: &ObjectKey, uid: &str) -> usize {
        self.groups().get(group).filter(|entry| entry.uid == uid).map_or(0, |entry| entry.in_a_row)
    }

    /// So many workers were created in a group that had `size` before, and whether one of the creations failed.
    pub(super) fn created(&self, group: &ObjectKey, uid: &str, size: i32, count: usize, failed: bool) {
        let mut groups = self.groups();
        let entry = entry_of(&mut groups, group, uid);
        entry.size.get_or_insert(size);
        entry.in_a_row = if failed { 0 } else { entry.in_a_row.saturating_add(count) };
        entry.change.created = entry.change.created.saturating_add(count);
    }

    /// No more workers are to be created: the next ones begin slowly again.
    pub(super) fn complete(&self, group: &ObjectKey) {
        if let Some(entry) = self.groups().get_mut(group) {
            entry.in_a_row = 0;
        }
    }

    /// These workers were removed because there were too many.
    pub(super) fn removed<'a>(&self, group: &ObjectKey, uid: &str, names: impl Iterator<Item = &'a str>) {
        let mut groups = self.groups();
        let change = &mut entry_of(&mut groups, group, uid).change;
        for name in names {
            change.removed = change.removed.saturating_add(1);
            if change.names.len() < MOST_NAMES {
                change.names.push(name.to_owned());
            }
        }
    }

    /// The group is at rest with this wanted number; returns what changed since it last was.
    pub(super) fn at_rest(&self, group: &ObjectKey, uid: &str, wanted: i32) -> SizeChange {
        let mut groups = self.groups();
        let entry = entry_of(&mut groups, group, uid);
        let before = entry.size.replace(wanted).unwrap_or(wanted);
        let growth = i64::from(wanted) - i64::from(before);
        SizeChange { growth, ..std::mem::take(&mut entry.change) }
    }

    /// Remembers the newest record of failures, in case the status cannot be written.
    pub(super) fn failed(&self, group: &ObjectKey, uid: &str, failures: Option<&WorkerFailures>) {
        if let Some(failures) = failures {
            entry_of(&mut self.groups(), group, uid).failures = Some(failures.clone());
        }
    }

    /// The newest record of failures: this, or one of this process that was not written.
    pub(super) fn failures(
        &self,
        group: &ObjectKey,
        uid: &str,
        written: Option<&WorkerFailures>,
    ) -> Option<WorkerFailures> {
        let groups = self.groups();
        let own =
            groups.get(group).filter(|entry| entry.uid == uid).and_then(|entry| entry.failures.as_ref());
        let is_newer =
            |own: &&WorkerFailures| written.is_none_or(|written| written.last_time.0 < own.last_time.0);
        own.filter(is_newer).or(written).cloned()
    }

    /// Forgets a group that is gone.
    pub(super) fn forget(&self, group: &ObjectKey) {
        self.groups().remove(group);
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<ObjectKey, Entry>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of a group; of another one with its name nothing is kept.
fn entry_of<'a>(groups: &'a mut HashMap<ObjectKey, Entry>, group: &ObjectKey, uid: &str) -> &'a mut Entry {
    let entry = groups.entry(group.clone()).or_default();
    if entry.uid != uid {
        *entry = Entry { uid: uid.to_owned(), ..Entry::default() };
    }
    entry
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn key() -> ObjectKey {
        ObjectKey::new("ns", "g")
    }

    #[test]
    fn the_pace_is_kept_until_a_failure_or_the_end() {
        let progress = Progress::default();
        progress.created(&key(), "a", 0, 300, false);
        progress.created(&key(), "a", 300, 200, false);
        assert_eq!((progress.in_a_row(&key(), "a"), progress.in_a_row(&key(), "b")), (500, 0));
        progress.created(&key(), "a", 500, 7, true);
        assert_eq!(progress.in_a_row(&key(), "a"), 0);
        progress.created(&key(), "a", 507, 7, false);
        progress.complete(&key());
        assert_eq!(progress.in_a_row(&key(), "a"), 0);
    }

    #[test]
    fn what_changed_is_told_once_when_it_is_over() {
        let progress = Progress::default();
        progress.created(&key(), "a", 0, 500, false);
        progress.created(&key(), "a", 500, 3, true);
        progress.created(&key(), "a", 503, 97, false);
        let filled = progress.at_rest(&key(), "a", 600);
        assert_eq!((filled.created, filled.growth), (600, 600));
        assert_eq!(progress.at_rest(&key(), "a", 600), SizeChange::default(), "nothing since");
        progress.removed(&key(), "a", ["w-1", "w-2"].into_iter());
        progress.removed(&key(), "a", (3..100).map(|_| "w-x"));
        let shrunk = progress.at_rest(&key(), "a", 501);
        assert_eq!((shrunk.removed, shrunk.growth, shrunk.names.len()), (99, -99, MOST_NAMES));
        assert_eq!(shrunk.names[..2], ["w-1", "w-2"]);
        progress.created(&key(), "a", 500, 1, false);
        assert_eq!(progress.at_rest(&key(), "a", 501).growth, 0, "one in place of another");
        progress.forget(&key());
        assert_eq!(progress.at_rest(&key(), "a", 501).growth, 0, "it was so before this process");
    }

    #[test]
    fn failures_that_could_not_be_written_are_not_forgotten() {
        let record = |second| WorkerFailures {
            consecutive: 1,
            pods: vec![],
            last_reason: "PodFailed".to_owned(),
            last_message: "words".to_owned(),
            last_time: Time(Timestamp::from_second(second).unwrap()),
            retry_after: Time(Timestamp::from_second(second).unwrap()),
        };
        let progress = Progress::default();
        assert_eq!(progress.failures(&key(), "a", Some(&record(1))), Some(record(1)));
        progress.failed(&key(), "a", Some(&record(5)));
        progress.failed(&key(), "a", None);
        assert_eq!(progress.failures(&key(), "a", Some(&record(1))), Some(record(5)));
        assert_eq!(progress.failures(&key(), "a", Some(&record(9))), Some(record(9)), "of another process");
        assert_eq!(progress.failures(&key(), "a", None), Some(record(5)));
        assert_eq!(progress.failures(&key(), "b", None), None, "a group that was made again");
    }
}
