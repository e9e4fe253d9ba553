//! The labels and annotations that workers inherit, and which of them have stood for long enough to be written to
//! workers that run. Pure but for its memory: the time is an argument.
//!
//! Tools stamp what they look after: a time, a revision, a checksum, on a cluster or group every few seconds. To write
//! each stamp to each worker would be a thousand writes for one. So a key of which the value has changed a moment ago
//! counts for running workers as it was before, until it stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dask_operator_api::{DaskCluster, DaskWorkerGroup, labels};

use crate::pods::metadata;

type Map = BTreeMap<String, String>;

/// How long a value has to stand before it is written to workers that run. New workers have it at once.
const SETTLING: Duration = Duration::from_secs(10);
/// Most bytes of keys and earlier values that are remembered for a group; if more than that keeps changing, nothing is
/// written to its running workers until all of it stands.
const MOST_BYTES: usize = 16 << 10;

/// Labels and annotations of a worker, but for what differs between workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerMetadata {
    /// The labels.
    pub(super) labels: Map,
    /// The annotations.
    pub(super) annotations: Map,
}

impl WorkerMetadata {
    /// What a worker of this group is given when it is created.
    #[must_use]
    pub(super) fn of(group: &DaskWorkerGroup, cluster: &DaskCluster) -> Self {
        let meta = metadata::of_worker(group, cluster, "", "");
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.remove(labels::ORDINAL);
        annotations.remove(labels::METADATA_HASH);
        Self { labels: meta.labels.unwrap_or_default(), annotations }
    }

    /// The digest that a worker keeps of them.
    #[must_use]
    pub(super) fn digest(&self) -> String {
        metadata::digest(&self.labels, &self.annotations)
    }

    fn map(&mut self, field: Field) -> &mut Map {
        match field {
            Field::Label => &mut self.labels,
            Field::Annotation => &mut self.annotations,
        }
    }

    /// Keys of which the value is not the same here and there, with the value here.
    fn changed<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (Key, Option<&'a String>)> {
        let labels = differences(&self.labels, &other.labels);
        let annotations = differences(&self.annotations, &other.annotations);
        labels
            .map(|(key, value)| ((Field::Label, key.clone()), value))
            .chain(annotations.map(|(key, value)| ((Field::Annotation, key.clone()), value)))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Label,
    Annotation,
}

type Key = (Field, String);

fn differences<'a>(one: &'a Map, other: &'a Map) -> impl Iterator<Item = (&'a String, Option<&'a String>)> {
    let changed = one.iter().filter(|(key, value)| other.get(*key) != Some(value));
    let gone = other.keys().filter(|key| !one.contains_key(*key));
    changed.map(|(key, value)| (key, Some(value))).chain(gone.map(|key| (key, None)))
}

/// What running workers should have now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// What is written to a running worker that has something else: of values that have not stood yet, nothing.
    pub(super) metadata: WorkerMetadata,
    /// The digest of what running workers have when that is written; new workers, which have the newest values,
    /// count as having it.
    pub(super) digest: String,
    /// Whether anything is to be written to running workers at all.
    pub(super) is_known: bool,
    /// Whether the digest is another one than at the last look, so that what was refused may go through now.
    pub(super) is_new: bool,
    /// How long until the next value has stood for long enough; `None` if all have.
    pub(super) wait: Option<Duration>,
}

/// The labels and annotations of one group as they were seen last.
#[derive(Debug)]
pub(super) struct Inherited {
    group: Arc<DaskWorkerGroup>,
    cluster: Arc<DaskCluster>,
    digest: String,
    unsettled: BTreeMap<Key, Unsettled>,
    /// Too much changes to be remembered; since when it does not.
    too_much: Option<Instant>,
}

/// A value that changed a moment ago.
#[derive(Debug)]
struct Unsettled {
    since: Instant,
    /// What it was before it began to change; `None` if it was not there.
    before: Option<String>,
}

impl Inherited {
    /// What is seen first counts as standing: at a start of the operator there is nothing to compare it with.
    pub(super) fn new(group: &Arc<DaskWorkerGroup>, cluster: &Arc<DaskCluster>) -> Self {
        let (group, cluster) = (Arc::clone(group), Arc::clone(cluster));
        Self { group, cluster, digest: String::new(), unsettled: BTreeMap::new(), too_much: None }
    }

    /// Whether this is of that cluster, rather than of another one that had its name.
    pub(super) fn is_of(&self, cluster: &DaskCluster) -> bool {
        self.cluster.metadata.uid == cluster.metadata.uid
    }

    /// Looks at the group and its cluster, and says what running workers should have.
    pub(super) fn look(
        &mut self,
        group: &Arc<DaskWorkerGroup>,
        cluster: &Arc<DaskCluster>,
        now: Instant,
    ) -> Settled {
        let current = WorkerMetadata::of(group, cluster);
        if !Arc::ptr_eq(group, &self.group) || !Arc::ptr_eq(cluster, &self.cluster) {
            let earlier = WorkerMetadata::of(&self.group, &self.cluster);
            self.note(&earlier, &current, now);
            (self.group, self.cluster) = (Arc::clone(group), Arc::clone(cluster));
        }
        let left = |since: Instant| {
            SETTLING.checked_sub(now.saturating_duration_since(since)).filter(|wait| !wait.is_zero())
        };
        self.unsettled.retain(|_, value| left(value.since).is_some());
        self.too_much = self.too_much.filter(|since| left(*since).is_some());
        let since = self.unsettled.values().map(|value| value.since).chain(self.too_much);
        let wait = since.filter_map(left).min();

        let (mut had, mut metadata) = (current.clone(), current);
        for ((field, key), value) in &self.unsettled {
            match &value.before {
                Some(before) => drop(had.map(*field).insert(key.clone(), before.clone())),
                None => drop(had.map(*field).remove(key)),
            }
            metadata.map(*field).remove(key);
        }
        let digest = had.digest();
        let is_new = self.digest != digest;
        self.digest.clone_from(&digest);
        Settled { metadata, digest, is_known: self.too_much.is_none(), is_new, wait }
    }

    fn note(&mut self, earlier: &WorkerMetadata, current: &WorkerMetadata, now: Instant) {
        let mut changed = false;
        for (key, before) in earlier.changed(current) {
            changed = true;
            let entry = self.unsettled.entry(key);
            entry
                .and_modify(|value| value.since = now)
                .or_insert_with(|| Unsettled { since: now, before: before.cloned() });
        }
        let bytes =
            |(key, value): (&Key, &Unsettled)| key.1.len() + value.before.as_ref().map_or(0, String::len);
        let too_much = self.unsettled.iter().map(bytes).sum::<usize>() > MOST_BYTES;
        if too_much || (changed && self.too_much.is_some()) {
            self.unsettled.clear();
            self.too_much = Some(now);
        }
    }
}

#[cfg(test)]
#[path = "inherited_tests.rs"]
mod tests;
