use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Thing {
    uid: String,
    version: u64,
}

impl Versioned for Thing {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn resource_version(&self) -> u64 {
        self.version
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

fn thing(uid: &str, version: u64) -> Thing {
    Thing { uid: uid.to_owned(), version }
}

fn applied(name: &str, uid: &str, version: u64) -> Delivery<Thing> {
    Delivery::Applied(key(name), Some(thing(uid, version)), version)
}

fn deleted(name: &str, uid: &str, version: u64) -> Delivery<Thing> {
    Delivery::Deleted(key(name), uid.into(), version)
}

fn list(
    table: &mut Table<Thing>,
    watch: WatchNumber,
    things: &[(&str, &str, u64)],
    version: u64,
) -> Vec<Change<Thing>> {
    table.deliver(watch, Delivery::ListBegins);
    for (name, uid, version) in things {
        table.deliver(watch, Delivery::Listed(key(name), Some(thing(uid, *version))));
    }
    table.deliver(watch, Delivery::ListEnds(version))
}

/// A table whose only watch has listed nothing yet, at version 10.
fn empty() -> (Table<Thing>, WatchNumber) {
    let mut table = Table::default();
    let watch = table.add_watch(None);
    list(&mut table, watch, &[], 10);
    (table, watch)
}

fn contents(table: &Table<Thing>) -> Vec<(String, String, u64)> {
    let mut contents: Vec<_> =
        table.iter().map(|(key, thing)| (key.name.to_string(), thing.uid.clone(), thing.version)).collect();
    contents.sort();
    contents
}

fn change(name: &str, before: Option<Thing>, after: Option<Thing>) -> Change<Thing> {
    Change { key: key(name), before, after }
}

#[test]
fn it_is_ready_when_every_watch_has_listed() {
    let mut table = Table::<Thing>::default();
    assert!(!table.is_ready(), "nothing watches");
    let (a, b) = (table.add_watch(Some("a")), table.add_watch(Some("b")));
    list(&mut table, a, &[], 1);
    table.deliver(b, Delivery::ListBegins);
    assert!(!table.is_ready());
    table.deliver(b, Delivery::ListEnds(1));
    assert!(table.is_ready());
}

#[test]
fn watches_report_changes() {
    let (mut table, watch) = empty();
    assert_eq!(table.deliver(watch, applied("x", "1", 11)), [change("x", None, Some(thing("1", 11)))]);
    let modified = table.deliver(watch, applied("x", "1", 12));
    assert_eq!(modified, [change("x", Some(thing("1", 11)), Some(thing("1", 12)))]);
    assert_eq!(table.deliver(watch, deleted("x", "1", 13)), [change("x", Some(thing("1", 12)), None)]);
    assert_eq!(table.deliver(watch, deleted("x", "1", 13)), [], "it is gone already");
}

#[test]
fn an_older_version_never_replaces_a_newer_one() {
    let (mut table, watch) = empty();
    table.written(key("x"), thing("1", 20));
    assert_eq!(table.deliver(watch, applied("x", "1", 11)), []);
    assert_eq!(table.written(key("x"), thing("1", 15)), None);
    assert_eq!(table.deliver(watch, applied("x", "1", 20)), [], "the same again is no change");
    assert_eq!(contents(&table), [("x".into(), "1".into(), 20)]);
}

#[test]
fn a_list_that_cannot_contain_an_own_write_does_not_drop_it() {
    let (mut table, watch) = empty();
    table.written(key("x"), thing("1", 20));
    assert_eq!(list(&mut table, watch, &[], 19), []);
    assert_eq!(contents(&table), [("x".into(), "1".into(), 20)]);
    assert_eq!(list(&mut table, watch, &[], 20), [change("x", Some(thing("1", 20)), None)]);
}

#[test]
fn an_own_write_before_the_first_list_is_kept_until_the_list_knows() {
    let mut table = Table::default();
    let watch = table.add_watch(None);
    table.written(key("x"), thing("1", 5));
    table.written(key("y"), thing("2", 15));
    list(&mut table, watch, &[], 10);
    assert_eq!(contents(&table), [("y".into(), "2".into(), 15)]);
}

#[test]
fn a_deletion_that_overtakes_the_reply_leaves_no_ghost() {
    let (mut table, watch) = empty();
    table.deliver(watch, applied("x", "1", 11));
    table.deliver(watch, deleted("x", "1", 12));
    assert_eq!(table.written(key("x"), thing("1", 11)), None);
    assert_eq!(contents(&table), []);
}

#[test]
fn an_object_that_left_the_selection_and_came_back_stays() {
    let (mut table, watch) = empty();
    table.deliver(watch, applied("x", "1", 11));
    table.written(key("x"), thing("1", 13));
    assert_eq!(table.deliver(watch, deleted("x", "1", 12)), []);
    assert_eq!(contents(&table), [("x".into(), "1".into(), 13)]);
}

#[test]
fn an_own_write_that_the_watch_passes_without_showing_is_dropped() {
    let (mut table, watch) = empty();
    table.written(key("x"), thing("1", 20));
    assert_eq!(table.deliver(watch, Delivery::Reached(19)), []);
    assert_eq!(table.deliver(watch, Delivery::Reached(20)), [change("x", Some(thing("1", 20)), None)]);
}

#[test]
fn an_own_write_that_the_watch_showed_stays() {
    let (mut table, watch) = empty();
    table.written(key("x"), thing("1", 20));
    table.written(key("x"), thing("1", 22));
    for version in [20, 22] {
        assert_eq!(table.deliver(watch, applied("x", "1", version)), [], "it is known already");
    }
    assert_eq!(table.deliver(watch, Delivery::Reached(30)), []);
    assert_eq!(contents(&table), [("x".into(), "1".into(), 22)]);
}

#[test]
fn a_name_may_pass_to_a_new_object() {
    let (mut table, watch) = empty();
    table.deliver(watch, applied("x", "old", 11));
    table.written(key("x"), thing("new", 13));
    assert_eq!(table.deliver(watch, deleted("x", "old", 12)), [], "only the old one went");
    assert_eq!(contents(&table), [("x".into(), "new".into(), 13)]);
    assert_eq!(table.deliver(watch, Delivery::Reached(13)), [change("x", Some(thing("new", 13)), None)]);
}

#[test]
fn a_list_finds_what_went_and_came_in_the_gap() {
    let (mut table, watch) = empty();
    for (name, version) in [("gone", 11), ("kept", 12), ("old", 13)] {
        table.deliver(watch, applied(name, name, version));
    }
    let changes =
        list(&mut table, watch, &[("kept", "kept", 12), ("old", "old", 21), ("came", "came", 22)], 30);
    let mut keys: Vec<_> = changes.iter().map(|change| &*change.key.name).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["came", "gone", "old"], "what stayed as it was is no change");
    assert_eq!(contents(&table).len(), 3);
}

#[test]
fn a_list_that_breaks_off_changes_nothing() {
    let (mut table, watch) = empty();
    table.deliver(watch, applied("x", "1", 11));
    table.deliver(watch, Delivery::ListBegins);
    table.deliver(watch, Delivery::Listed(key("half"), Some(thing("2", 12))));
    assert_eq!(contents(&table).len(), 1);
    list(&mut table, watch, &[("x", "1", 11)], 13);
    assert_eq!(contents(&table), [("x".into(), "1".into(), 11)]);
}

#[test]
fn what_cannot_be_read_stays_as_it_was() {
    let (mut table, watch) = empty();
    table.deliver(watch, applied("x", "1", 11));
    assert_eq!(table.deliver(watch, Delivery::Applied(key("x"), None, 12)), []);
    table.deliver(watch, Delivery::ListBegins);
    table.deliver(watch, Delivery::Listed(key("x"), None));
    assert_eq!(table.deliver(watch, Delivery::ListEnds(20)), []);
    assert_eq!(contents(&table), [("x".into(), "1".into(), 11)]);
    table.deliver(watch, deleted("x", "1", 21));
    assert_eq!(contents(&table), []);
}

#[test]
fn a_watch_of_one_namespace_leaves_the_others_alone() {
    let mut table = Table::default();
    let (a, b) = (table.add_watch(Some("a")), table.add_watch(Some("b")));
    let in_a = ObjectKey::new("a", "x");
    for watch in [a, b] {
        list(&mut table, watch, &[], 10);
    }
    table.deliver(a, Delivery::Applied(in_a.clone(), Some(thing("1", 11)), 11));
    assert_eq!(list(&mut table, b, &[], 50), []);
    assert!(table.get(&in_a).is_some());
    assert!(
        table.written(ObjectKey::new("a", "y"), thing("2", 12)).is_some(),
        "only the watch of `b` is past 12"
    );
    assert_eq!(table.written(ObjectKey::new("c", "z"), thing("3", 99)), None, "nobody watches it");
}

#[test]
fn a_storage_restored_from_a_backup_is_believed() {
    let (mut table, watch) = empty();
    table.deliver(watch, applied("x", "1", 900));
    table.deliver(watch, applied("y", "2", 901));
    table.written(key("z"), thing("3", 950));
    list(&mut table, watch, &[("x", "1", 300)], 500);
    assert_eq!(contents(&table), [("x".into(), "1".into(), 300)]);
    table.deliver(watch, applied("x", "1", 501));
    assert_eq!(contents(&table), [("x".into(), "1".into(), 501)]);
}

#[test]
fn amending_needs_the_right_object() {
    let (mut table, watch) = empty();
    table.deliver(watch, applied("x", "1", 11));
    assert_eq!(table.amend(&key("x"), "2", |_| {}), None);
    assert_eq!(table.amend(&key("y"), "1", |_| {}), None);
    let amended = table.amend(&key("x"), "1", |thing| thing.version = 0);
    assert_eq!(amended, Some(change("x", Some(thing("1", 11)), Some(thing("1", 0)))));
}

/// Something that happens in the world, or between it and the table.
#[derive(Clone, Copy, Debug)]
enum Step {
    Create {
        name: u8,
        own: bool,
    },
    Modify {
        name: u8,
        own: bool,
    },
    Delete {
        name: u8,
    },
    /// One of the replies to own writes arrives.
    Reply(usize),
    /// The watch shows the next event.
    Show,
    Bookmark,
    /// The watch breaks; then a list begins, is read, and ends.
    List,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_u8, any::<bool>()).prop_map(|(name, own)| Step::Create { name, own }),
        2 => (0..4_u8, any::<bool>()).prop_map(|(name, own)| Step::Modify { name, own }),
        2 => (0..4_u8).prop_map(|name| Step::Delete { name }),
        3 => any::<usize>().prop_map(Step::Reply),
        5 => Just(Step::Show),
        1 => Just(Step::Bookmark),
        2 => Just(Step::List),
    ]
}

/// An API server, a watch of it that lags behind, and replies on their way.
#[derive(Default)]
struct World {
    version: u64,
    objects: BTreeMap<u8, Thing>,
    log: Vec<(u64, Delivery<Thing>)>,
    shown: usize,
    replies: Vec<(u8, Thing)>,
    /// The version of a list that was read but has not ended.
    list: Option<u64>,
    listing: bool,
    /// Own writes whose reply has arrived.
    known: Vec<(u8, Thing)>,
}

impl World {
    fn name(name: u8) -> ObjectKey {
        key(&name.to_string())
    }

    fn write(&mut self, name: u8, uid: String, own: bool) {
        self.version += 1;
        let thing = Thing { uid, version: self.version };
        self.objects.insert(name, thing.clone());
        self.log.push((self.version, Delivery::Applied(Self::name(name), Some(thing.clone()), self.version)));
        if own {
            self.replies.push((name, thing));
        }
    }

    fn take(&mut self, step: Step, table: &mut Table<Thing>, watch: WatchNumber) {
        match step {
            Step::Create { name, own } if !self.objects.contains_key(&name) => {
                self.write(name, format!("uid-{}", self.version), own);
            }
            Step::Modify { name, own } => {
                if let Some(uid) = self.objects.get(&name).map(|thing| thing.uid.clone()) {
                    self.write(name, uid, own);
                }
            }
            Step::Delete { name } => {
                if let Some(thing) = self.objects.remove(&name) {
                    self.version += 1;
                    let event = Delivery::Deleted(Self::name(name), thing.uid.as_str().into(), self.version);
                    self.log.push((self.version, event));
                }
            }
            Step::Reply(n) if !self.replies.is_empty() => {
                let (name, thing) = self.replies.remove(n % self.replies.len());
                table.written(Self::name(name), thing.clone());
                self.known.push((name, thing));
            }
            Step::Show if !self.listing && self.shown < self.log.len() => {
                table.deliver(watch, self.log[self.shown].1.clone());
                self.shown += 1;
            }
            Step::Bookmark if !self.listing && self.shown == self.log.len() => {
                table.deliver(watch, Delivery::Reached(self.version));
            }
            Step::List => self.list(table, watch),
            Step::Create { .. } | Step::Reply(_) | Step::Show | Step::Bookmark => {}
        }
    }

    /// The next stage of a list.
    fn list(&mut self, table: &mut Table<Thing>, watch: WatchNumber) {
        if !self.listing {
            table.deliver(watch, Delivery::ListBegins);
            self.listing = true;
        } else if let Some(version) = self.list.take() {
            table.deliver(watch, Delivery::ListEnds(version));
            self.shown = self.log.iter().take_while(|(at, _)| *at <= version).count();
            self.listing = false;
        } else {
            for (name, thing) in &self.objects {
                table.deliver(watch, Delivery::Listed(Self::name(*name), Some(thing.clone())));
            }
            self.list = Some(self.version);
        }
    }

    /// Whoever wrote something and got the reply sees it, or something newer, until it is deleted.
    fn reads_its_own_writes(&self, table: &Table<Thing>) -> Result<(), TestCaseError> {
        for (name, written) in &self.known {
            if self.objects.get(name).is_some_and(|thing| thing.uid == written.uid) {
                let seen = table.get(&Self::name(*name));
                prop_assert!(
                    seen.is_some_and(|seen| seen.uid == written.uid && seen.version >= written.version),
                    "wrote {written:?} to {name} but see {seen:?}"
                );
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_interleaving_ends_in_the_final_state(steps in prop::collection::vec(step(), 0..60)) {
        let mut table = Table::default();
        let watch = table.add_watch(None);
        let mut world = World::default();
        while !table.is_ready() {
            world.list(&mut table, watch);
        }
        for step in steps {
            world.take(step, &mut table, watch);
            world.reads_its_own_writes(&table)?;
        }
        while world.listing {
            world.list(&mut table, watch);
        }
        while !world.replies.is_empty() {
            world.take(Step::Reply(0), &mut table, watch);
        }
        while world.shown < world.log.len() {
            world.take(Step::Show, &mut table, watch);
        }
        world.take(Step::Bookmark, &mut table, watch);
        let expected: Vec<_> =
            world.objects.iter().map(|(name, thing)| (name.to_string(), thing.uid.clone(), thing.version)).collect();
        prop_assert_eq!(contents(&table), expected);
        prop_assert!(table.watches[watch].ahead.is_empty());
    }
}
