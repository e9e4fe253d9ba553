//! All watched objects, how they hang together, and whom a change of one of them concerns. No client, no clock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use dask_operator_api::{DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup};
use kube::Resource;

use super::ObjectKey;
use super::custom::Custom;
use super::intern::Interner;
use super::legacy::Legacy;
use super::pods::{PodEntry, Pods, Role};
use super::records::{DeploymentRecord, RunnerRecord, ServiceRecord};
use super::snapshot::{
    AutoscalerSnapshot, ClusterSnapshot, GroupMembers, GroupSnapshot, JobSnapshot, job_of,
};
use super::table::{Change, Delivery, Table, Versioned, WatchNumber};
use super::unreadable::Unreadables;

impl Versioned for Arc<ServiceRecord> {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn resource_version(&self) -> u64 {
        self.resource_version
    }
}

impl Versioned for Arc<DeploymentRecord> {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn resource_version(&self) -> u64 {
        self.resource_version
    }
}

/// The objects that a change concerns.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wakes {
    pub(super) clusters: BTreeSet<ObjectKey>,
    pub(super) groups: BTreeSet<ObjectKey>,
    pub(super) jobs: BTreeSet<ObjectKey>,
    pub(super) autoscalers: BTreeSet<ObjectKey>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) pods: Pods,
    pub(super) services: Table<Arc<ServiceRecord>>,
    pub(super) deployments: Table<Arc<DeploymentRecord>>,
    legacy: Legacy,
    pub(super) clusters: Custom<DaskCluster>,
    pub(super) groups: Custom<DaskWorkerGroup>,
    pub(super) jobs: Custom<DaskJob>,
    pub(super) autoscalers: Custom<DaskAutoscaler>,
    /// Names of the groups whose `spec.cluster` names a cluster.
    groups_by_cluster: HashMap<ObjectKey, BTreeSet<Arc<str>>>,
    groups_by_uid: HashMap<String, ObjectKey>,
    /// Names of the autoscalers whose `spec.cluster` names a cluster.
    autoscalers_by_cluster: HashMap<ObjectKey, BTreeSet<Arc<str>>>,
    /// The runner of each job as it was seen last after it had started.
    last_runs: HashMap<ObjectKey, Arc<RunnerRecord>>,
    /// Ordinals of workers whose creation was sent but never answered.
    unanswered: HashMap<ObjectKey, BTreeSet<i64>>,
    /// Objects that are there but cannot be read.
    pub(super) unreadables: Unreadables,
    pub(super) strings: Interner,
}

impl Index {
    /// Whether every watch has delivered its first list.
    pub(super) fn is_ready(&self) -> bool {
        self.pods.is_ready()
            && self.services.is_ready()
            && self.deployments.is_ready()
            && self.clusters.is_ready()
            && self.groups.is_ready()
            && self.jobs.is_ready()
            && self.autoscalers.is_ready()
    }

    /// Everything there is, to be looked at.
    pub(super) fn everything(&self) -> Wakes {
        Wakes {
            clusters: self.clusters.iter().map(|(key, _)| key.clone()).collect(),
            groups: self.groups.iter().map(|(key, _)| key.clone()).collect(),
            jobs: self.jobs.iter().map(|(key, _)| key.clone()).collect(),
            autoscalers: self.autoscalers.iter().map(|(key, _)| key.clone()).collect(),
        }
    }

    /// All that is known about a cluster.
    pub(super) fn cluster_snapshot(&self, key: &ObjectKey) -> Option<ClusterSnapshot> {
        let cluster = self.clusters.get(key)?.clone();
        let scheduler = key.scheduler();
        let job = job_of(&cluster).and_then(|owner| self.jobs.get(key).filter(|job| job.uid() == owner.uid));
        Some(ClusterSnapshot {
            job: job.cloned(),
            cluster,
            service: self.services.get(&scheduler).cloned(),
            deployment: self.deployments.get(&scheduler).cloned(),
            scheduler_pods: self.pods.schedulers_of(key),
            groups: self.groups_of(key).into_iter().filter_map(|group| self.members(&group)).collect(),
            default_group: self.groups.get(&key.default_group()).cloned(),
            has_autoscaler: self.autoscalers_by_cluster.contains_key(key),
            runner: self.pods.runner(&key.runner()).cloned(),
        })
    }

    /// All that is known about a group.
    pub(super) fn group_snapshot(&self, key: &ObjectKey) -> Option<GroupSnapshot> {
        let members = self.members(key)?;
        let cluster = cluster_of(key, &members.group);
        Some(GroupSnapshot {
            cluster: self.clusters.get(&cluster).cloned(),
            scheduler_pods: self.pods.schedulers_of(&cluster),
            runner: self.pods.runner(&cluster.runner()).cloned(),
            modules_stored: self.deployments.get(&cluster.scheduler()).is_some_and(|d| d.telemetry.is_some()),
            unanswered: self.unanswered.get(key).cloned().unwrap_or_default(),
            members,
        })
    }

    /// All that is known about a job.
    pub(super) fn group_and_cluster(
        &self,
        key: &ObjectKey,
    ) -> Option<(Arc<DaskWorkerGroup>, Option<Arc<DaskCluster>>)> {
        let group = self.groups.get(key)?.clone();
        let cluster = self.clusters.get(&cluster_of(key, &group)).cloned();
        Some((group, cluster))
    }

    pub(super) fn job_snapshot(&self, key: &ObjectKey) -> Option<JobSnapshot> {
        Some(JobSnapshot {
            job: self.jobs.get(key)?.clone(),
            cluster: self.clusters.get(key).cloned(),
            runner: self.pods.runner(&key.runner()).cloned(),
            last_run: self.last_runs.get(key).cloned(),
            scheduler_pods: self.pods.schedulers_of(key),
        })
    }

    /// All that is known about an autoscaler.
    pub(super) fn autoscaler_snapshot(&self, key: &ObjectKey) -> Option<AutoscalerSnapshot> {
        let autoscaler = self.autoscalers.get(key)?.clone();
        let cluster = key.sibling(autoscaler.spec.cluster.as_str());
        let group = self.groups.get(&cluster.default_group()).cloned();
        let group = group.filter(|group| group.spec.cluster == autoscaler.spec.cluster);
        let others = self.autoscalers_of(&cluster).filter(|other| other != key);
        let others = others.filter_map(|other| self.autoscalers.get(&other).cloned()).collect();
        Some(AutoscalerSnapshot { autoscaler, cluster: self.clusters.get(&cluster).cloned(), group, others })
    }

    /// The autoscalers that name a cluster.
    pub(super) fn autoscalers_of(&self, cluster: &ObjectKey) -> impl Iterator<Item = ObjectKey> {
        let names = self.autoscalers_by_cluster.get(cluster).into_iter().flatten();
        names.map(|name| cluster.sibling(name.clone()))
    }

    fn members(&self, key: &ObjectKey) -> Option<GroupMembers> {
        let group = self.groups.get(key)?.clone();
        let legacy = self.legacy.workers(group.uid(), || self.pods.without_ordinal(key));
        Some(GroupMembers { workers: self.pods.of_owner(group.uid()), legacy, group })
    }

    /// Remembers a worker whose creation was sent but not answered.
    pub(super) fn unanswered(&mut self, group: &ObjectKey, ordinal: i64) {
        if self.groups.get(group).is_some() {
            self.unanswered.entry(group.clone()).or_default().insert(ordinal);
        }
    }

    /// It is known again what became of this worker.
    pub(super) fn answered(&mut self, group: &ObjectKey, ordinal: i64) {
        if let Some(ordinals) = self.unanswered.get_mut(group) {
            ordinals.remove(&ordinal);
            if ordinals.is_empty() {
                self.unanswered.remove(group);
            }
        }
    }

    pub(super) fn pods_changed(
        &mut self,
        changes: impl IntoIterator<Item = Change<PodEntry>>,
        wakes: &mut Wakes,
    ) {
        for Change { key, before, after } in changes {
            if let (Some(before), Some(after)) = (&before, &after)
                && before.looks_like(after)
            {
                continue;
            }
            for pod in before.iter().chain(&after) {
                let owner = pod.record.owner_uid.as_deref().and_then(|uid| self.groups_by_uid.get(uid));
                let labelled = pod.group.as_ref().map(|group| key.sibling(group.clone()));
                for group in owner.cloned().into_iter().chain(labelled) {
                    self.wake_group(&group, wakes);
                    if let Some(object) = self.groups.get(&group) {
                        self.wake_cluster(cluster_of(&group, object), wakes);
                    }
                }
                if let Some(cluster) = &pod.cluster {
                    let cluster = key.sibling(cluster.clone());
                    // The runner of a job waits for the scheduler.
                    if pod.role == Role::Scheduler && self.jobs.get(&cluster).is_some() {
                        wakes.jobs.insert(cluster.clone());
                    }
                    self.wake_cluster(cluster, wakes);
                }
                if let Some(record) = &pod.runner {
                    self.runner_changed(&key, record, wakes);
                }
            }
            let awaited = |pod: &PodEntry| Some((pod.awaited_by(&key)?, pod.uid().to_owned()));
            let (old, new) = (before.as_ref().and_then(awaited), after.as_ref().and_then(awaited));
            if let Some((cluster, _)) = new.as_ref().filter(|_| new != old) {
                wakes.groups.extend(self.groups_of(cluster));
            }
            if let Some((owner, ordinal)) =
                after.as_ref().and_then(|pod| pod.record.owner_uid.clone().zip(pod.record.ordinal))
                && let Some(group) = self.groups_by_uid.get(&*owner).cloned()
            {
                self.answered(&group, ordinal);
            }
        }
    }

    /// A pod called `<job>-runner` concerns that job.
    fn runner_changed(&mut self, key: &ObjectKey, record: &Arc<RunnerRecord>, wakes: &mut Wakes) {
        let Some(job) = key.job_of_runner() else { return };
        let Some(object) = self.jobs.get(&job) else { return };
        if record.started.is_some() && record.owner_uid.as_deref() == Some(object.uid()) {
            self.last_runs.insert(job.clone(), record.clone());
        }
        wakes.jobs.insert(job);
    }

    /// A Service or Deployment called `<cluster>-scheduler` concerns that cluster.
    pub(super) fn scheduler_part_changed<R>(
        &self,
        changes: impl IntoIterator<Item = Change<R>>,
        wakes: &mut Wakes,
    ) {
        for change in changes {
            if let Some(cluster) = change.key.name.strip_suffix("-scheduler") {
                self.wake_cluster(change.key.sibling(cluster), wakes);
            }
        }
    }

    /// A worker's Deployment concerns the group that owns it, and that group's cluster.
    pub(super) fn deployments_changed(
        &mut self,
        changes: impl IntoIterator<Item = Change<Arc<DeploymentRecord>>>,
        wakes: &mut Wakes,
    ) {
        for change in changes {
            self.legacy.settle(&change);
            for record in change.before.iter().chain(&change.after).filter(|record| record.worker) {
                let owner = record.owner_uid.as_ref().and_then(|uid| self.groups_by_uid.get(uid));
                if let Some((group, object)) = owner.and_then(|key| Some((key, self.groups.get(key)?))) {
                    wakes.groups.insert(group.clone());
                    self.wake_cluster(cluster_of(group, object), wakes);
                }
            }
            let stored = |record: &Option<Arc<DeploymentRecord>>| {
                record.as_ref().is_some_and(|record| record.telemetry.is_some())
            };
            if stored(&change.before) != stored(&change.after)
                && let Some(cluster) = change.key.name.strip_suffix("-scheduler")
            {
                wakes.groups.extend(self.groups_of(&change.key.sibling(cluster)));
            }
            self.scheduler_part_changed([change], wakes);
        }
    }

    pub(super) fn clusters_changed(
        &self,
        changes: impl IntoIterator<Item = Change<Arc<DaskCluster>>>,
        wakes: &mut Wakes,
    ) {
        for Change { key, before, after } in changes {
            if before.as_deref().map(visible_to_groups) != after.as_deref().map(visible_to_groups) {
                wakes.groups.extend(self.groups_of(&key));
                wakes.autoscalers.extend(self.autoscalers_of(&key));
            }
            if self.jobs.get(&key).is_some() {
                wakes.jobs.insert(key.clone());
            }
            wakes.clusters.insert(key);
        }
    }

    pub(super) fn groups_changed(
        &mut self,
        changes: impl IntoIterator<Item = Change<Arc<DaskWorkerGroup>>>,
        wakes: &mut Wakes,
    ) {
        for Change { key, before, after } in changes {
            let (old_uid, new_uid) =
                (before.as_ref().map(Versioned::uid), after.as_ref().map(Versioned::uid));
            if let Some(old_uid) = old_uid.filter(|uid| Some(*uid) != new_uid) {
                self.groups_by_uid.remove(old_uid);
                self.unanswered.remove(&key);
            }
            if let Some(new_uid) = new_uid {
                self.groups_by_uid.insert(new_uid.to_owned(), key.clone());
            }
            let old_cluster = before.as_ref().map(|group| cluster_of(&key, group));
            let new_cluster = after.as_ref().map(|group| cluster_of(&key, group));
            if let Some(old) = old_cluster.as_ref().filter(|old| Some(*old) != new_cluster.as_ref())
                && let Some(names) = self.groups_by_cluster.get_mut(old)
            {
                names.remove(&key.name);
                if names.is_empty() {
                    self.groups_by_cluster.remove(old);
                }
            }
            if let Some(new) = &new_cluster {
                self.groups_by_cluster.entry(new.clone()).or_default().insert(key.name.clone());
            }
            let by_name = key.name.strip_suffix("-default").map(|cluster| key.sibling(cluster));
            if before.as_ref().map(|group| group.spec.worker.replicas)
                != after.as_ref().map(|group| group.spec.worker.replicas)
                && let Some(cluster) = &by_name
            {
                wakes.autoscalers.extend(self.autoscalers_of(cluster));
            }
            for cluster in old_cluster.into_iter().chain(new_cluster).chain(by_name) {
                self.wake_cluster(cluster, wakes);
            }
            wakes.groups.insert(key);
        }
    }

    /// The groups whose `spec.cluster` names this cluster, in order of name.
    pub(super) fn groups_of(&self, cluster: &ObjectKey) -> Vec<ObjectKey> {
        let names = self.groups_by_cluster.get(cluster).into_iter().flatten();
        names.map(|name| cluster.sibling(name.clone())).collect()
    }

    pub(super) fn jobs_changed(
        &mut self,
        changes: impl IntoIterator<Item = Change<Arc<DaskJob>>>,
        wakes: &mut Wakes,
    ) {
        for Change { key, before, after } in changes {
            let (old_uid, new_uid) =
                (before.as_ref().map(Versioned::uid), after.as_ref().map(Versioned::uid));
            if old_uid != new_uid {
                self.last_runs.remove(&key);
                // The pod may have been seen before its job.
                let runner = self.pods.runner(&key.runner()).cloned();
                if let Some(record) = runner.filter(|record| {
                    record.started.is_some() && new_uid.is_some() && record.owner_uid.as_deref() == new_uid
                }) {
                    self.last_runs.insert(key.clone(), record);
                }
            }
            self.wake_cluster(key.clone(), wakes);
            wakes.jobs.insert(key);
        }
    }

    pub(super) fn autoscalers_changed(
        &mut self,
        changes: impl IntoIterator<Item = Change<Arc<DaskAutoscaler>>>,
        wakes: &mut Wakes,
    ) {
        for Change { key, before, after } in changes {
            let named = |autoscaler: &Arc<DaskAutoscaler>| key.sibling(autoscaler.spec.cluster.as_str());
            let (old, new) = (before.as_ref().map(named), after.as_ref().map(named));
            // One of several acts, and which of them depends on all.
            for cluster in old.iter().chain(&new) {
                wakes.autoscalers.extend(self.autoscalers_of(cluster));
            }
            if old != new {
                if let Some(old) = old {
                    if let Some(names) = self.autoscalers_by_cluster.get_mut(&old) {
                        names.remove(&key.name);
                        if names.is_empty() {
                            self.autoscalers_by_cluster.remove(&old);
                        }
                    }
                    self.wake_cluster(old, wakes);
                }
                if let Some(new) = new {
                    self.autoscalers_by_cluster.entry(new.clone()).or_default().insert(key.name.clone());
                    self.wake_cluster(new, wakes);
                }
            }
            wakes.autoscalers.insert(key);
        }
    }

    fn wake_cluster(&self, key: ObjectKey, wakes: &mut Wakes) {
        if self.clusters.get(&key).is_some() {
            wakes.clusters.insert(key);
        }
    }

    fn wake_group(&self, key: &ObjectKey, wakes: &mut Wakes) {
        if self.groups.get(key).is_some() {
            wakes.groups.insert(key.clone());
        }
    }

    /// Takes what the watch of the scheduler Services delivers.
    pub(super) fn deliver_service(
        &mut self,
        watch: WatchNumber,
        delivery: Delivery<Arc<ServiceRecord>>,
        wakes: &mut Wakes,
    ) {
        let changes = self.services.deliver(watch, delivery);
        self.scheduler_part_changed(changes, wakes);
    }

    /// Takes what the watch of the scheduler Deployments delivers.
    pub(super) fn deliver_deployment(
        &mut self,
        watch: WatchNumber,
        delivery: Delivery<Arc<DeploymentRecord>>,
        wakes: &mut Wakes,
    ) {
        let changes = self.deployments.deliver(watch, delivery);
        self.deployments_changed(changes, wakes);
    }

    /// Takes what the watch of the pods delivers.
    pub(super) fn deliver_pod(
        &mut self,
        watch: WatchNumber,
        delivery: Delivery<PodEntry>,
        wakes: &mut Wakes,
    ) {
        let changes = self.pods.deliver(watch, delivery);
        self.pods_changed(changes, wakes);
    }

    /// Takes what the watch of the clusters delivers.
    pub(super) fn deliver_cluster(
        &mut self,
        watch: WatchNumber,
        delivery: Delivery<Arc<DaskCluster>>,
        wakes: &mut Wakes,
    ) {
        let changes = self.clusters.deliver(watch, delivery);
        self.clusters_changed(changes, wakes);
    }

    /// Takes what the watch of the jobs delivers.
    pub(super) fn deliver_job(
        &mut self,
        watch: WatchNumber,
        delivery: Delivery<Arc<DaskJob>>,
        wakes: &mut Wakes,
    ) {
        let changes = self.jobs.deliver(watch, delivery);
        self.jobs_changed(changes, wakes);
    }

    /// Takes what the watch of the autoscalers delivers.
    pub(super) fn deliver_autoscaler(
        &mut self,
        watch: WatchNumber,
        delivery: Delivery<Arc<DaskAutoscaler>>,
        wakes: &mut Wakes,
    ) {
        let changes = self.autoscalers.deliver(watch, delivery);
        self.autoscalers_changed(changes, wakes);
    }

    /// Takes what the watch of the worker groups delivers.
    pub(super) fn deliver_group(
        &mut self,
        watch: WatchNumber,
        delivery: Delivery<Arc<DaskWorkerGroup>>,
        wakes: &mut Wakes,
    ) {
        let changes = self.groups.deliver(watch, delivery);
        self.groups_changed(changes, wakes);
    }
}

/// The cluster that a group's `spec.cluster` names.
fn cluster_of(key: &ObjectKey, group: &DaskWorkerGroup) -> ObjectKey {
    key.sibling(group.spec.cluster.as_str())
}

/// What of a cluster its groups depend on: everything but the status.
fn visible_to_groups(cluster: &DaskCluster) -> impl PartialEq + use<'_> {
    let metadata = cluster.meta();
    (
        &metadata.uid,
        &metadata.generation,
        &metadata.labels,
        &metadata.annotations,
        &metadata.owner_references,
        metadata.deletion_timestamp.is_some(),
    )
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
