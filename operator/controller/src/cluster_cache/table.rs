//! The objects of one kind, as watches and own writes report them.
//!
//! Two sources tell of an object: a watch, in order but late, and the replies to own writes, at once but in
//! any order. Resource versions put them in one order. A watch stands at a position: the greatest version up
//! to which it has shown everything. So
//!
//! * a reply at or below the position is no news: if the object is not in the table, it is gone again;
//! * a reply above it is kept, even through a list that cannot contain it yet, until the watch gets there;
//! * whatever a list does not contain, and is not younger than the list, is gone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::ObjectKey;

/// What the table must know of an object.
pub(super) trait Versioned: Clone {
    /// UID.
    fn uid(&self) -> &str;
    /// Resource version; greater is later.
    fn resource_version(&self) -> u64;
}

/// What a watch delivers. A record is `None` if the object is there but cannot be read.
#[derive(Clone, Debug)]
pub(super) enum Delivery<R> {
    /// A list begins.
    ListBegins,
    /// An object of the list.
    Listed(ObjectKey, Option<R>),
    /// The list is complete; it shows the state at this version.
    ListEnds(u64),
    /// An object was created or changed, at this version.
    Applied(ObjectKey, Option<R>, u64),
    /// The object with this UID was deleted, at this version.
    Deleted(ObjectKey, Box<str>, u64),
    /// Everything up to this version was delivered.
    Reached(u64),
}

/// One change of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change<R> {
    /// Whose.
    pub(super) key: ObjectKey,
    /// The record before, if there was one.
    pub(super) before: Option<R>,
    /// The record after, if there is one.
    pub(super) after: Option<R>,
}

/// Number of a watch among those that fill one table.
pub(super) type WatchNumber = usize;

#[derive(Debug)]
pub(super) struct Table<R> {
    entries: HashMap<ObjectKey, Entry<R>>,
    watches: Vec<Watch<R>>,
}

#[derive(Debug)]
struct Entry<R> {
    record: R,
    /// Whether a watch has shown this version, rather than only the reply to an own write.
    shown: bool,
}

#[derive(Debug)]
struct Watch<R> {
    /// The one namespace it watches; `None` for all.
    namespace: Option<Arc<str>>,
    /// The version up to which it has shown everything; `None` before the first list.
    position: Option<u64>,
    list: Option<List<R>>,
    /// Own writes above the position, by version.
    ahead: BTreeMap<u64, ObjectKey>,
}

#[derive(Debug)]
struct List<R> {
    records: HashMap<ObjectKey, R>,
    unreadable: HashSet<ObjectKey>,
}

impl<R> Watch<R> {
    fn covers(&self, key: &ObjectKey) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace)
    }
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { entries: HashMap::new(), watches: Vec::new() }
    }
}

impl<R: Versioned> Table<R> {
    /// Adds a watch of one namespace, or of all. No two watches cover the same namespace.
    pub(super) fn add_watch(&mut self, namespace: Option<&str>) -> WatchNumber {
        let namespace = namespace.map(Arc::from);
        self.watches.push(Watch { namespace, position: None, list: None, ahead: BTreeMap::new() });
        self.watches.len() - 1
    }

    /// Whether every watch has delivered its first list.
    pub(super) fn is_ready(&self) -> bool {
        !self.watches.is_empty() && self.watches.iter().all(|watch| watch.position.is_some())
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&R> {
        self.entries.get(key).map(|entry| &entry.record)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &R)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.record))
    }

    /// Takes what a watch delivers.
    pub(super) fn deliver(&mut self, watch: WatchNumber, delivery: Delivery<R>) -> Vec<Change<R>> {
        match delivery {
            Delivery::ListBegins => {
                self.watches[watch].list = Some(List { records: HashMap::new(), unreadable: HashSet::new() });
                Vec::new()
            }
            Delivery::Listed(key, record) => {
                if let Some(list) = &mut self.watches[watch].list {
                    match record {
                        Some(record) => drop(list.records.insert(key, record)),
                        None => drop(list.unreadable.insert(key)),
                    }
                }
                Vec::new()
            }
            Delivery::ListEnds(version) => self.take_over(watch, version),
            Delivery::Applied(key, record, version) => {
                // Of an object that has become unreadable the last readable record is kept.
                let change = record.and_then(|record| self.insert(key, record, true));
                self.reach(watch, version, change.into_iter().collect())
            }
            Delivery::Deleted(key, uid, version) => {
                let meant = |entry: &Entry<R>| {
                    entry.record.uid() == &*uid && entry.record.resource_version() <= version
                };
                let change = self.remove(&key, meant);
                self.reach(watch, version, change.into_iter().collect())
            }
            Delivery::Reached(version) => self.reach(watch, version, Vec::new()),
        }
    }

    /// Takes the reply to an own write.
    pub(super) fn written(&mut self, key: ObjectKey, record: R) -> Option<Change<R>> {
        let watch = self.watches.iter_mut().find(|watch| watch.covers(&key))?;
        let version = record.resource_version();
        if watch.position.is_some_and(|position| version <= position) {
            return None;
        }
        watch.ahead.insert(version, key.clone());
        self.insert(key, record, false)
    }

    /// Changes the record of an object without news of its version; only if it still has this UID.
    pub(super) fn amend(
        &mut self,
        key: &ObjectKey,
        uid: &str,
        amend: impl FnOnce(&mut R),
    ) -> Option<Change<R>> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.record.uid() == uid)?;
        let before = entry.record.clone();
        amend(&mut entry.record);
        Some(Change { key: key.clone(), before: Some(before), after: Some(entry.record.clone()) })
    }

    fn insert(&mut self, key: ObjectKey, record: R, shown: bool) -> Option<Change<R>> {
        let Some(entry) = self.entries.get_mut(&key) else {
            self.entries.insert(key.clone(), Entry { record: record.clone(), shown });
            return Some(Change { key, before: None, after: Some(record) });
        };
        let (known, new) = (entry.record.resource_version(), record.resource_version());
        if known >= new {
            entry.shown |= shown && known == new;
            return None;
        }
        entry.shown = shown;
        let before = std::mem::replace(&mut entry.record, record.clone());
        Some(Change { key, before: Some(before), after: Some(record) })
    }

    fn remove(&mut self, key: &ObjectKey, condition: impl Fn(&Entry<R>) -> bool) -> Option<Change<R>> {
        self.entries.get(key).filter(|entry| condition(entry))?;
        let entry = self.entries.remove(key)?;
        Some(Change { key: key.clone(), before: Some(entry.record), after: None })
    }

    /// Moves the watch to this version. Own writes that it has passed without showing them are gone, or were
    /// changed on their way so that the watch does not select them.
    fn reach(&mut self, watch: WatchNumber, version: u64, mut changes: Vec<Change<R>>) -> Vec<Change<R>> {
        let watch = &mut self.watches[watch];
        watch.position = watch.position.max(Some(version));
        let mut passed = Vec::new();
        while let Some(first) = watch.ahead.first_entry().filter(|first| *first.key() <= version) {
            passed.push(first.remove_entry());
        }
        for (version, key) in passed {
            changes.extend(
                self.remove(&key, |entry| !entry.shown && entry.record.resource_version() == version),
            );
        }
        changes
    }

    /// Lets a complete list replace all that is not younger than it.
    fn take_over(&mut self, number: WatchNumber, version: u64) -> Vec<Change<R>> {
        let watch = &mut self.watches[number];
        let Some(list) = watch.list.take() else { return Vec::new() };
        // Versions start afresh when the API server's storage is restored from a backup.
        let restored = watch.position.is_some_and(|position| position > version);
        if restored {
            watch.ahead.clear();
            watch.position = None;
        }

        let watch = &self.watches[number];
        let covered = self.entries.iter().filter(|(key, _)| watch.covers(key));
        let outdated = covered.filter(|(key, entry)| {
            let listed = list.records.contains_key(*key) || list.unreadable.contains(*key);
            if restored {
                !list.unreadable.contains(*key)
            } else {
                !listed && entry.record.resource_version() <= version
            }
        });
        let outdated: Vec<ObjectKey> = outdated.map(|(key, _)| key.clone()).collect();
        let mut changes: Vec<_> = outdated.iter().filter_map(|key| self.remove(key, |_| true)).collect();
        changes.extend(list.records.into_iter().filter_map(|(key, record)| self.insert(key, record, true)));
        self.reach(number, version, changes)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
