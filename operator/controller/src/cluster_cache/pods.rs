//! Pods, by owner and by the cluster whose scheduler they are.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use dask_operator_api::{DrainIntent, labels};

use super::ObjectKey;
use super::intern::Interner;
use super::pod_state::PodLife;
use super::records::{PodRecord, PodState, RunnerRecord};
use super::runner;
use super::table::{Change, Delivery, Table, Versioned, WatchNumber};
use super::wire_pod::{ContainerStatus, PodStatus, WirePod};

/// IP address families.
const FAMILIES: usize = 2;

/// A pod, and the labels that say whom it concerns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodEntry {
    pub(super) record: Arc<PodRecord>,
    /// Label `dask.org/cluster-name`.
    pub(super) cluster: Option<Arc<str>>,
    /// Label `dask.org/workergroup-name`.
    pub(super) group: Option<Arc<str>>,
    pub(super) role: Role,
    /// More of what is neither scheduler nor worker.
    pub(super) runner: Option<Arc<RunnerRecord>>,
}

/// What a pod is for, by its label `dask.org/component`, and for a scheduler by its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Scheduler,
    Worker,
    Other,
}

impl PodEntry {
    /// What is kept of a pod.
    pub(super) fn new(pod: &WirePod, strings: &mut Interner) -> Self {
        let metadata = &pod.metadata;
        let life = PodLife::of(pod);
        let mut shared = |string: &Option<String>| string.as_deref().map(|string| strings.get(string));
        let record = PodRecord {
            name: metadata.name().into(),
            uid: metadata.uid().into(),
            resource_version: metadata.resource_version(),
            owner_uid: shared(&metadata.controller_uid),
            ordinal: metadata.ordinal,
            template_hash: shared(&metadata.template_hash),
            metadata_hash: shared(&metadata.metadata_hash),
            drain: metadata.drain.as_deref().map(|value| Box::new(DrainIntent::from_annotation(value))),
            node: shared(&pod.spec.node_name),
            ip: pod.status.pod_ip.as_deref().map(Into::into),
            other_ips: other_ips(&pod.status),
            running: pod.status.container_statuses.iter().any(ContainerStatus::is_running),
            created: metadata.created.unwrap_or_default(),
            state: life.state,
            ready_since: life.ready_since,
            problem: life.problem.map(Box::new),
            restarts: life.restarts,
            last_termination: life.last_termination.map(Box::new),
            startup: life.startup,
            worker_ended: life.worker_ended,
        };
        let role = match metadata.component.as_deref() {
            Some(labels::SCHEDULER) if metadata.is_scheduler() => Role::Scheduler,
            Some(labels::WORKER) => Role::Worker,
            _ => Role::Other,
        };
        Self {
            cluster: shared(&metadata.cluster),
            group: shared(&metadata.group),
            role,
            runner: (role == Role::Other).then(|| Arc::new(runner::record(pod, &record))),
            record: Arc::new(record),
        }
    }

    /// Whether nothing differs but the version.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        let mut record = PodRecord::clone(&self.record);
        record.resource_version = other.record.resource_version;
        record == *other.record
            && (&self.cluster, &self.group, self.role) == (&other.cluster, &other.group, other.role)
            && self.runner == other.runner
    }

    /// The cluster whose scheduler it is.
    fn scheduled_cluster(&self) -> Option<&Arc<str>> {
        self.cluster.as_ref().filter(|_| self.role == Role::Scheduler)
    }

    /// The cluster whose workers wait for this pod, which is called `key`, to exist.
    pub(super) fn awaited_by(&self, key: &ObjectKey) -> Option<ObjectKey> {
        match self.role {
            Role::Scheduler if self.record.is_live() => {
                self.cluster.as_ref().map(|cluster| key.sibling(cluster.clone()))
            }
            Role::Other => key.job_of_runner(),
            Role::Scheduler | Role::Worker => None,
        }
    }

    /// The group that the Python operator made it for.
    fn foreign_group(&self) -> Option<&Arc<str>> {
        self.group.as_ref().filter(|_| self.role == Role::Worker && self.record.ordinal.is_none())
    }

    fn terminate(&mut self) {
        Arc::make_mut(&mut self.record).state = PodState::Terminating;
        if let Some(runner) = &mut self.runner {
            Arc::make_mut(runner).terminating = true;
        }
    }
}

/// The addresses besides the first; a pod has one of each family.
fn other_ips(status: &PodStatus) -> Box<[Box<str>]> {
    let others = status.pod_ips.iter().filter(|address| status.pod_ip.as_ref() != Some(&address.ip));
    others.take(FAMILIES).map(|address| address.ip.as_str().into()).collect()
}

impl Versioned for PodEntry {
    fn uid(&self) -> &str {
        &self.record.uid
    }

    fn resource_version(&self) -> u64 {
        self.record.resource_version
    }
}

/// Pods by name.
type ByName = BTreeMap<Arc<str>, Arc<PodRecord>>;

/// All pods.
#[derive(Debug, Default)]
pub(super) struct Pods {
    table: Table<PodEntry>,
    by_owner: HashMap<Arc<str>, ByName>,
    schedulers: HashMap<ObjectKey, ByName>,
    /// Workers without an ordinal by group, which are those of the Python operator.
    without_ordinal: HashMap<ObjectKey, ByName>,
    /// UIDs of pods whose deletion the API server accepted: whatever a late event says, they are on their way.
    deleted: HashSet<Box<str>>,
}

impl Pods {
    pub(super) fn add_watch(&mut self, namespace: Option<&str>) -> WatchNumber {
        self.table.add_watch(namespace)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.table.is_ready()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PodEntry> {
        self.table.iter().map(|(_, entry)| entry)
    }

    /// The pod of this name, if it is neither scheduler nor worker.
    pub(super) fn runner(&self, key: &ObjectKey) -> Option<&Arc<RunnerRecord>> {
        self.table.get(key)?.runner.as_ref()
    }

    /// Pods whose controlling owner has this UID, by name.
    pub(super) fn of_owner(&self, uid: &str) -> Vec<Arc<PodRecord>> {
        self.by_owner.get(uid).map(|pods| pods.values().cloned().collect()).unwrap_or_default()
    }

    /// Pods of this cluster's scheduler, oldest first.
    pub(super) fn schedulers_of(&self, cluster: &ObjectKey) -> Vec<Arc<PodRecord>> {
        let mut pods: Vec<_> =
            self.schedulers.get(cluster).into_iter().flat_map(BTreeMap::values).cloned().collect();
        pods.sort_by_key(|pod| pod.created);
        pods
    }

    /// Workers labelled for this group that have no ordinal, in order of name.
    pub(super) fn without_ordinal(&self, group: &ObjectKey) -> Vec<Arc<PodRecord>> {
        self.without_ordinal.get(group).map(|pods| pods.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn deliver(
        &mut self,
        watch: WatchNumber,
        delivery: Delivery<PodEntry>,
    ) -> Vec<Change<PodEntry>> {
        let changes = self.table.deliver(watch, delivery);
        changes.into_iter().map(|change| self.settle(change)).collect()
    }

    pub(super) fn created(&mut self, key: ObjectKey, entry: PodEntry) -> Option<Change<PodEntry>> {
        let change = self.table.written(key, entry)?;
        Some(self.settle(change))
    }

    /// Whether nothing is left of any pod.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let nothing_left = self.by_owner.is_empty()
            && self.schedulers.is_empty()
            && self.without_ordinal.is_empty()
            && self.deleted.is_empty();
        self.table.iter().next().is_none() && nothing_left
    }

    /// Marks a pod whose deletion the API server accepted.
    pub(super) fn deleted(&mut self, key: &ObjectKey, uid: &str) -> Option<Change<PodEntry>> {
        let change = self.table.amend(key, uid, PodEntry::terminate)?;
        self.deleted.insert(uid.into());
        Some(self.settle(change))
    }

    /// Brings everything else in line with a change of the table.
    fn settle(&mut self, mut change: Change<PodEntry>) -> Change<PodEntry> {
        if let Some(after) = &mut change.after
            && self.deleted.contains(&after.record.uid)
        {
            after.terminate();
            self.table.amend(&change.key, &after.record.uid, PodEntry::terminate);
        }
        if let Some(before) = &change.before {
            if change.after.as_ref().is_none_or(|after| after.record.uid != before.record.uid) {
                self.deleted.remove(&before.record.uid);
            }
            let name = &change.key.name;
            if let Some(owner) = &before.record.owner_uid {
                take(&mut self.by_owner, owner.clone(), name);
            }
            if let Some(cluster) = before.scheduled_cluster() {
                take(&mut self.schedulers, change.key.sibling(cluster.clone()), name);
            }
            if let Some(group) = before.foreign_group() {
                take(&mut self.without_ordinal, change.key.sibling(group.clone()), name);
            }
        }
        if let Some(after) = &change.after {
            let (name, record) = (change.key.name.clone(), after.record.clone());
            if let Some(owner) = &after.record.owner_uid {
                self.by_owner.entry(owner.clone()).or_default().insert(name.clone(), record.clone());
            }
            if let Some(group) = after.foreign_group() {
                let pods = self.without_ordinal.entry(change.key.sibling(group.clone())).or_default();
                pods.insert(name.clone(), record.clone());
            }
            if let Some(cluster) = after.scheduled_cluster() {
                self.schedulers.entry(change.key.sibling(cluster.clone())).or_default().insert(name, record);
            }
        }
        change
    }
}

fn take<K: Eq + Hash>(map: &mut HashMap<K, ByName>, place: K, name: &Arc<str>) {
    if let Entry::Occupied(mut pods) = map.entry(place) {
        pods.get_mut().remove(name);
        if pods.get().is_empty() {
            pods.remove();
        }
    }
}
