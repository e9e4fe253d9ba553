//! The objects of one kind, as watches and own writes report them.
//!
//! Two sources tell of an object: a watch, in the order in which things happened but late, and the replies to
//! own writes, at once but in any order. The table ends up as the API server is, whatever the interleaving:
//!
//! * An older resource version never replaces a newer one.
//! * A list replaces all that was known when it began. What was written since may be missing from it, so that
//!   is kept.
//! * An object whose deletion was seen does not come back by the late reply to a write.
//! * An own write that no watch confirms in time calls for a new list ([`Table::own_write_overdue`]): it is
//!   the only way to tell a slow watch from an object that went before the watch could show it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::ObjectKey;
use super::tombstones::Tombstones;

/// What the table must know of an object.
pub(super) trait Versioned: Clone {
    /// UID.
    fn uid(&self) -> &str;
    /// Resource version; greater is later.
    fn resource_version(&self) -> u64;
}

/// What a watch delivers. The record is `None` if the object is there but cannot be read.
#[derive(Clone, Debug)]
pub(super) enum Delivery<R> {
    /// A list begins.
    ListBegins,
    /// An object of the list.
    Listed(ObjectKey, Option<R>),
    /// The list is complete.
    ListEnds,
    /// An object was created or changed.
    Applied(ObjectKey, Option<R>),
    /// The object with this UID was deleted.
    Deleted(ObjectKey, Box<str>),
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
    tombstones: Tombstones,
    /// Counts what happens, to tell what a list can contain.
    events: u64,
}

#[derive(Debug)]
struct Entry<R> {
    record: R,
    /// The event that brought it.
    event: u64,
    own_write: OwnWrite,
}

/// Whether a watch has shown the object, or only the reply to an own write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum OwnWrite {
    Confirmed,
    Recent,
    Overdue,
}

#[derive(Debug)]
struct Watch<R> {
    /// The one namespace it watches; `None` for all.
    namespace: Option<Arc<str>>,
    listed_once: bool,
    list: Option<List<R>>,
}

#[derive(Debug)]
struct List<R> {
    began: u64,
    records: HashMap<ObjectKey, R>,
    unreadable: HashSet<ObjectKey>,
}

impl<R> Default for Table<R> {
    fn default() -> Self {
        Self { entries: HashMap::new(), watches: Vec::new(), tombstones: Tombstones::default(), events: 0 }
    }
}

impl<R: Versioned> Table<R> {
    /// Adds a watch of one namespace, or of all.
    pub(super) fn add_watch(&mut self, namespace: Option<&str>) -> WatchNumber {
        self.watches.push(Watch { namespace: namespace.map(Arc::from), listed_once: false, list: None });
        self.watches.len() - 1
    }

    /// Whether every watch has delivered its first list.
    pub(super) fn is_ready(&self) -> bool {
        !self.watches.is_empty() && self.watches.iter().all(|watch| watch.listed_once)
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&R> {
        self.entries.get(key).map(|entry| &entry.record)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &R)> {
        self.entries.iter().map(|(key, entry)| (key, &entry.record))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes what a watch delivers.
    pub(super) fn deliver(&mut self, watch: WatchNumber, delivery: Delivery<R>) -> Vec<Change<R>> {
        self.events += 1;
        match delivery {
            Delivery::ListBegins => {
                let list = List { began: self.events, records: HashMap::new(), unreadable: HashSet::new() };
                self.watches[watch].list = Some(list);
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
            Delivery::ListEnds => self.take_over(watch),
            // What was known of an object that has become unreadable is kept.
            Delivery::Applied(_, None) => Vec::new(),
            Delivery::Applied(key, Some(record)) => {
                self.insert(key, record, OwnWrite::Confirmed).into_iter().collect()
            }
            Delivery::Deleted(key, uid) => self.remove(&key, &uid).into_iter().collect(),
        }
    }

    /// Takes the reply to an own write.
    pub(super) fn written(&mut self, key: ObjectKey, record: R) -> Option<Change<R>> {
        self.events += 1;
        if self.tombstones.contains(record.uid()) {
            return None;
        }
        self.insert(key, record, OwnWrite::Recent)
    }

    /// Changes the record of an object without news of its version; only if it still has this UID.
    pub(super) fn amend(&mut self, key: &ObjectKey, uid: &str, amend: impl FnOnce(&mut R)) -> Option<Change<R>> {
        let entry = self.entries.get_mut(key).filter(|entry| entry.record.uid() == uid)?;
        let before = entry.record.clone();
        amend(&mut entry.record);
        Some(Change { key: key.clone(), before: Some(before), after: Some(entry.record.clone()) })
    }

    /// Whether an own write stayed unconfirmed since the last call; to be called every some seconds. If so,
    /// the watch is to be started anew with a list.
    pub(super) fn own_write_overdue(&mut self, watch: WatchNumber) -> bool {
        let namespace = self.watches[watch].namespace.clone();
        let mut overdue = false;
        for (key, entry) in &mut self.entries {
            if namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace) {
                match entry.own_write {
                    OwnWrite::Confirmed => {}
                    OwnWrite::Recent => entry.own_write = OwnWrite::Overdue,
                    OwnWrite::Overdue => overdue = true,
                }
            }
        }
        overdue
    }

    fn insert(&mut self, key: ObjectKey, record: R, own_write: OwnWrite) -> Option<Change<R>> {
        let event = self.events;
        if let Some(entry) = self.entries.get_mut(&key) {
            if entry.record.resource_version() >= record.resource_version() {
                if own_write == OwnWrite::Confirmed && entry.record.uid() == record.uid() {
                    entry.own_write = OwnWrite::Confirmed;
                }
                return None;
            }
            let before = std::mem::replace(&mut entry.record, record.clone());
            entry.event = event;
            entry.own_write = own_write;
            return Some(Change { key, before: Some(before), after: Some(record) });
        }
        self.entries.insert(key.clone(), Entry { record: record.clone(), event, own_write });
        Some(Change { key, before: None, after: Some(record) })
    }

    fn remove(&mut self, key: &ObjectKey, uid: &str) -> Option<Change<R>> {
        self.tombstones.add(uid);
        self.entries.get(key).filter(|entry| entry.record.uid() == uid)?;
        let entry = self.entries.remove(key)?;
        Some(Change { key: key.clone(), before: Some(entry.record), after: None })
    }

    /// Lets a complete list replace what was known when it began.
    fn take_over(&mut self, watch: WatchNumber) -> Vec<Change<R>> {
        let watch = &mut self.watches[watch];
        watch.listed_once = true;
        let (Some(list), namespace) = (watch.list.take(), watch.namespace.clone()) else { return Vec::new() };

        let covers = |key: &ObjectKey| namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace);
        let missing = self.entries.iter().filter(|(key, entry)| {
            covers(key)
                && entry.event < list.began
                && !list.records.contains_key(*key)
                && !list.unreadable.contains(*key)
        });
        let missing: Vec<_> = missing.map(|(key, entry)| (key.clone(), entry.record.uid().to_owned())).collect();
        let mut changes: Vec<_> = missing.iter().filter_map(|(key, uid)| self.remove(key, uid)).collect();

        for (key, record) in list.records {
            // A list knows better than anything older, even when the versions say otherwise: they start
            // afresh when the API server's storage is restored from a backup.
            let before = self.entries.get(&key).filter(|entry| entry.event < list.began);
            if before.is_some_and(|entry| entry.record.resource_version() > record.resource_version()) {
                let before = self.entries.remove(&key).map(|entry| entry.record);
                changes.extend(self.insert(key, record, OwnWrite::Confirmed).map(|c| Change { before, ..c }));
            } else {
                changes.extend(self.insert(key, record, OwnWrite::Confirmed));
            }
        }
        changes
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
