//! The objects that are there but cannot be read, so that their owners can be told. Pure.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::sync::watch;

use super::ObjectKey;
use super::table::WatchNumber;

/// An object that is there but cannot be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Unreadable {
    /// Which.
    pub object: ObjectReference,
    /// Why.
    pub error: String,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Unreadables {
    entries: HashMap<(&'static str, ObjectKey), Entry>,
    news: watch::Sender<()>,
}

#[derive(Debug)]
struct Entry {
    watch: WatchNumber,
    /// Whether the list that is under way has not shown it so far.
    missing: bool,
    unreadable: Unreadable,
}

impl Unreadables {
    /// Learns when there is another one.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Unreadable> {
        self.entries.values().map(|entry| &entry.unreadable)
    }

    /// An object of this kind cannot be read.
    pub(super) fn add(
        &mut self,
        kind: &'static str,
        watch: WatchNumber,
        key: ObjectKey,
        unreadable: Unreadable,
    ) {
        let entry = Entry { watch, missing: false, unreadable };
        let before = self.entries.insert((kind, key.clone()), entry);
        if before.map(|entry| entry.unreadable).as_ref()
            != self.entries.get(&(kind, key)).map(|entry| &entry.unreadable)
        {
            self.news.send_replace(());
        }
    }

    /// It can be read, or is gone.
    pub(super) fn remove(&mut self, kind: &'static str, key: &ObjectKey) {
        if !self.entries.is_empty() {
            self.entries.remove(&(kind, key.clone()));
        }
    }

    /// A watch lists all objects of its kind.
    pub(super) fn list_begins(&mut self, kind: &'static str, watch: WatchNumber) {
        for ((_, _), entry) in
            self.entries.iter_mut().filter(|((k, _), entry)| (*k, entry.watch) == (kind, watch))
        {
            entry.missing = true;
        }
    }

    /// It has listed them: what it has not shown is gone.
    pub(super) fn list_ends(&mut self, kind: &'static str, watch: WatchNumber) {
        self.entries.retain(|(k, _), entry| (*k, entry.watch) != (kind, watch) || !entry.missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreadable(error: &str) -> Unreadable {
        Unreadable { object: ObjectReference::default(), error: error.to_owned() }
    }

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    fn errors(all: &Unreadables) -> Vec<&str> {
        let mut errors: Vec<_> = all.iter().map(|unreadable| unreadable.error.as_str()).collect();
        errors.sort_unstable();
        errors
    }

    #[test]
    fn one_that_can_be_read_again_or_is_gone_is_forgotten() {
        let mut all = Unreadables::default();
        all.add("A", 0, key("a"), unreadable("a"));
        all.add("B", 0, key("a"), unreadable("b"));
        all.remove("A", &key("a"));
        all.remove("A", &key("never there"));
        assert_eq!(errors(&all), ["b"]);
    }

    #[test]
    fn a_list_drops_what_it_does_not_show() {
        let mut all = Unreadables::default();
        all.add("A", 0, key("gone"), unreadable("gone"));
        all.add("A", 0, key("there"), unreadable("there"));
        all.add("A", 1, key("elsewhere"), unreadable("elsewhere"));
        all.add("B", 0, key("gone"), unreadable("another kind"));
        all.list_begins("A", 0);
        all.add("A", 0, key("there"), unreadable("there"));
        assert_eq!(errors(&all).len(), 4, "nothing is gone before the list is complete");
        all.list_ends("A", 0);
        assert_eq!(errors(&all), ["another kind", "elsewhere", "there"]);
    }

    #[test]
    fn only_what_is_new_is_news() {
        let mut all = Unreadables::default();
        let mut news = all.news();
        let mut changed = |all: &mut Unreadables, error| {
            all.add("A", 0, key("a"), unreadable(error));
            let changed = news.has_changed().unwrap();
            news.mark_unchanged();
            changed
        };
        assert!(changed(&mut all, "too many"));
        assert!(!changed(&mut all, "too many"));
        assert!(changed(&mut all, "another"));
    }
}
