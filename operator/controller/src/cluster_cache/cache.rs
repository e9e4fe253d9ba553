//! The handle through which everybody reads the watched state.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dask_operator_api::{ClusterPhase, DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup, JobStatus};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::Store;
use tokio::sync::watch;

use super::ObjectKey;
use super::health::{Health, WatchHealth};
use super::index::{Index, Wakes};
use super::pods::{PodEntry, Role};
use super::records::{DeploymentRecord, PodState, ServiceRecord};
use super::snapshot::{AutoscalerSnapshot, ClusterSnapshot, GroupSnapshot, JobSnapshot};
use super::triggers::Triggers;
use super::unreadable::Unreadable;
use super::wire_pod::WirePod;
use crate::telemetry::Metrics;

/// What was counted is told again for so long: a count looks at every pod while nobody else can look at any, and whoever
/// reaches the port for metrics can ask for it.
const COUNTED_FOR: Duration = Duration::from_secs(1);

/// The watched state. Clones share it.
#[derive(Clone, Debug)]
pub struct ClusterCache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    index: Mutex<Index>,
    health: Mutex<Health>,
    clusters: Triggers,
    groups: Triggers,
    links: Triggers,
    jobs: Triggers,
    autoscalers: Triggers,
    ready: watch::Sender<bool>,
    counted: Mutex<Option<(Instant, Counts)>>,
    metrics: Metrics,
}

/// How many there are of what, for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clusters by phase; `None` for those without one yet.
    pub clusters: Vec<(Option<ClusterPhase>, usize)>,
    /// Worker groups.
    pub groups: usize,
    /// Jobs by status; `None` for those without one yet.
    pub jobs: Vec<(Option<JobStatus>, usize)>,
    /// Scheduler pods (`true`) and worker pods (`false`), by state.
    pub pods: Vec<(bool, PodState, usize)>,
}

impl ClusterCache {
    /// An empty cache, to be filled by [`super::watch`].
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        let shared = Shared {
            index: Mutex::default(),
            health: Mutex::default(),
            clusters: Triggers::default(),
            groups: Triggers::default(),
            links: Triggers::default(),
            jobs: Triggers::default(),
            autoscalers: Triggers::default(),
            ready: watch::Sender::new(false),
            counted: Mutex::default(),
            metrics,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Lets replies to writes of clusters be kept, as a watch of all namespaces does.
    #[cfg(test)]
    pub(crate) fn watch_clusters(&self) {
        self.index().clusters.add_watch(None);
    }

    /// Lets a cluster count as one that cannot be read.
    #[cfg(test)]
    pub(crate) fn add_unreadable(&self, name: &str, unreadable: Unreadable) {
        self.index().unreadables.add("DaskCluster", 0, ObjectKey::new("ns", name), unreadable);
    }

    /// All that is known about a cluster; `None` if there is no such cluster.
    #[must_use]
    pub fn cluster_snapshot(&self, key: &ObjectKey) -> Option<ClusterSnapshot> {
        self.index().cluster_snapshot(key)
    }

    /// All that is known about a group; `None` if there is no such group.
    #[must_use]
    pub fn group_snapshot(&self, key: &ObjectKey) -> Option<GroupSnapshot> {
        self.index().group_snapshot(key)
    }

    /// A group as it is now, and the cluster that it names: for a look before each of many writes, which costs no more
    /// than that.
    #[must_use]
    pub fn group_and_cluster(
        &self,
        key: &ObjectKey,
    ) -> Option<(Arc<DaskWorkerGroup>, Option<Arc<DaskCluster>>)> {
        self.index().group_and_cluster(key)
    }

    /// All that is known about a job; `None` if there is no such job.
    #[must_use]
    pub fn job_snapshot(&self, key: &ObjectKey) -> Option<JobSnapshot> {
        self.index().job_snapshot(key)
    }

    /// All that is known about an autoscaler; `None` if there is no such autoscaler.
    #[must_use]
    pub fn autoscaler_snapshot(&self, key: &ObjectKey) -> Option<AutoscalerSnapshot> {
        self.index().autoscaler_snapshot(key)
    }

    /// The jobs, for kube's `Controller`.
    #[must_use]
    pub fn job_store(&self) -> Store<DaskJob> {
        self.index().jobs.store()
    }

    /// The autoscalers, for kube's `Controller`.
    #[must_use]
    pub fn autoscaler_store(&self) -> Store<DaskAutoscaler> {
        self.index().autoscalers.store()
    }

    /// The clusters, for kube's `Controller`.
    #[must_use]
    pub fn cluster_store(&self) -> Store<DaskCluster> {
        self.index().clusters.store()
    }

    /// The worker groups, for kube's `Controller`.
    #[must_use]
    pub fn group_store(&self) -> Store<DaskWorkerGroup> {
        self.index().groups.store()
    }

    /// Whether every watch has delivered its first list.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.shared.ready.borrow()
    }

    /// Waits until every watch has delivered its first list.
    pub async fn wait_ready(&self) {
        // An error says that the sender is gone, but this handle keeps it.
        let _ = self.shared.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// The clusters to reconcile, as they come, each after the cache and the store show what happened. Nothing
    /// comes before the cache is ready, and no cluster more often than every 100 ms. One taker at a time.
    #[must_use]
    pub fn cluster_triggers(&self) -> Triggers {
        self.shared.clusters.clone()
    }

    /// The worker groups to reconcile, as [`Self::cluster_triggers`].
    #[must_use]
    pub fn group_triggers(&self) -> Triggers {
        self.shared.groups.clone()
    }

    /// The clusters whose scheduler or workers changed, as [`Self::cluster_triggers`].
    #[must_use]
    pub fn link_triggers(&self) -> Triggers {
        self.shared.links.clone()
    }

    /// All clusters, for whoever takes the link triggers.
    pub fn wake_links(&self) {
        let clusters = self.index().everything().clusters;
        self.shared.links.add(clusters);
    }

    /// There is news about this cluster from elsewhere than the API server.
    pub fn wake_cluster(&self, cluster: &ObjectKey) {
        if self.index().clusters.get(cluster).is_some() {
            self.shared.clusters.add([cluster.clone()]);
        }
    }

    /// The jobs to reconcile, as [`Self::cluster_triggers`].
    #[must_use]
    pub fn job_triggers(&self) -> Triggers {
        self.shared.jobs.clone()
    }

    /// The autoscalers to reconcile, as [`Self::cluster_triggers`].
    #[must_use]
    pub fn autoscaler_triggers(&self) -> Triggers {
        self.shared.autoscalers.clone()
    }

    /// Something that no watch shows concerns the autoscalers of this cluster: its scheduler wants another number
    /// of workers.
    pub fn wake_autoscalers_of(&self, cluster: &ObjectKey) {
        self.update(|index, wakes| wakes.autoscalers.extend(index.autoscalers_of(cluster)));
    }

    /// Takes a pod as the API server returned it to an own write.
    pub fn created_pod(&self, pod: &WirePod) {
        self.update(|index, wakes| {
            let key = ObjectKey::new(index.strings.get(pod.metadata.namespace()), pod.metadata.name());
            let entry = PodEntry::new(pod, &mut index.strings);
            let change = index.pods.created(key, entry);
            index.pods_changed(change, wakes);
        });
    }

    /// Takes the news that the API server accepted the deletion of a pod.
    pub fn deleted_pod(&self, namespace: &str, name: &str, uid: &str) {
        self.update(|index, wakes| {
            let change = index.pods.deleted(&ObjectKey::new(namespace, name), uid);
            index.pods_changed(change, wakes);
        });
    }

    /// Takes a Service as the API server returned it to an own write.
    pub fn created_service(&self, service: &Service) {
        self.update(|index, wakes| {
            let record = ServiceRecord::from(service.clone());
            let change = index.services.written(ObjectKey::of(service), Arc::new(record));
            index.scheduler_part_changed(change, wakes);
        });
    }

    /// Takes a Deployment as the API server returned it to an own write.
    pub fn created_deployment(&self, deployment: &Deployment) {
        self.update(|index, wakes| {
            let record = DeploymentRecord::from(deployment);
            let change = index.deployments.written(ObjectKey::of(deployment), Arc::new(record));
            index.deployments_changed(change, wakes);
        });
    }

    /// Takes the news that the API server accepted the deletion of a Deployment.
    pub fn deleted_deployment(&self, namespace: &str, name: &str, uid: &str) {
        self.update(|index, wakes| {
            let terminate = |record: &mut Arc<DeploymentRecord>| Arc::make_mut(record).terminating = true;
            let change = index.deployments.amend(&ObjectKey::new(namespace, name), uid, terminate);
            index.deployments_changed(change, wakes);
        });
    }

    /// The objects that are there but cannot be read.
    #[must_use]
    pub fn unreadable(&self) -> Vec<Unreadable> {
        self.index().unreadables.iter().cloned().collect()
    }

    /// Learns when another object cannot be read.
    #[must_use]
    pub fn unreadable_news(&self) -> watch::Receiver<()> {
        self.index().unreadables.news()
    }

    /// Wakes the groups of a cluster: its scheduler has news for them.
    pub fn wake_groups_of(&self, cluster: &ObjectKey) {
        self.update(|index, wakes| wakes.groups.extend(index.groups_of(cluster)));
    }

    /// Takes a cluster as the API server returned it to an own write.
    pub fn created_cluster(&self, cluster: &DaskCluster) {
        self.update(|index, wakes| {
            let change = index.clusters.written(cluster);
            index.clusters_changed(change, wakes);
        });
    }

    /// Takes a worker group as the API server returned it to an own write.
    pub fn created_group(&self, group: &DaskWorkerGroup) {
        self.update(|index, wakes| {
            let change = index.groups.written(group);
            index.groups_changed(change, wakes);
        });
    }

    /// Remembers that the creation of this worker was sent but never answered: it may exist or not.
    pub fn unanswered(&self, group: &ObjectKey, ordinal: i64) {
        self.index().unanswered(group, ordinal);
    }

    /// It is known again what became of this worker.
    pub fn answered(&self, group: &ObjectKey, ordinal: i64) {
        self.index().answered(group, ordinal);
    }

    /// How the watches do.
    #[must_use]
    pub fn watch_health(&self) -> Vec<WatchHealth> {
        self.health().report(Instant::now())
    }

    /// What there was of each kind not more than a second before `now`.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Counts {
        let mut counted = self.shared.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = counted.take().filter(|(at, _)| now.saturating_duration_since(*at) < COUNTED_FOR);
        let (_, counts) = counted.insert(recent.unwrap_or_else(|| (now, self.count())));
        counts.clone()
    }

    /// Counts what there is.
    fn count(&self) -> Counts {
        let index = self.index();
        let mut counts = Counts { groups: index.groups.iter().count(), ..Counts::default() };
        for (_, cluster) in index.clusters.iter() {
            let phase = cluster.status.as_ref().and_then(|status| status.phase);
            match counts.clusters.iter_mut().find(|(known, _)| *known == phase) {
                Some((_, count)) => *count += 1,
                None => counts.clusters.push((phase, 1)),
            }
        }
        for (_, job) in index.jobs.iter() {
            let status = job.status.as_ref().and_then(|status| status.job_status);
            match counts.jobs.iter_mut().find(|(known, _)| *known == status) {
                Some((_, count)) => *count += 1,
                None => counts.jobs.push((status, 1)),
            }
        }
        for pod in index.pods.iter().filter(|pod| pod.role != Role::Other) {
            let (scheduler, state) = (pod.role == Role::Scheduler, pod.record.state);
            match counts.pods.iter_mut().find(|(s, known, _)| (*s, *known) == (scheduler, state)) {
                Some((_, _, count)) => *count += 1,
                None => counts.pods.push((scheduler, state, 1)),
            }
        }
        counts
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        self.shared.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the index, then wakes those whom it concerns.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Index, &mut Wakes) -> T) -> T {
        let mut wakes = Wakes::default();
        let mut index = self.index();
        let result = change(&mut index, &mut wakes);
        if !self.is_ready() {
            if !index.is_ready() {
                return result;
            }
            wakes = index.everything();
            self.shared.ready.send_replace(true);
        }
        drop(index);
        self.shared.links.add(wakes.clusters.iter().cloned());
        self.shared.clusters.add(wakes.clusters);
        self.shared.groups.add(wakes.groups);
        self.shared.jobs.add(wakes.jobs);
        self.shared.autoscalers.add(wakes.autoscalers);
        result
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.shared.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
