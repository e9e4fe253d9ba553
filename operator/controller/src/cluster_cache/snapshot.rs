//! Immutable views of the cache, one per decision.

use std::collections::BTreeSet;
use std::sync::Arc;

use dask_operator_api::labels::JOB_GENERATION;
use dask_operator_api::{DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};

use super::records::{DeploymentRecord, PodRecord, RunnerRecord, ServiceRecord};

/// All that is known about a cluster.
#[derive(Clone, Debug)]
pub struct ClusterSnapshot {
    /// The cluster itself.
    pub cluster: Arc<DaskCluster>,
    /// The Service called `<cluster>-scheduler`, whoever owns it.
    pub service: Option<Arc<ServiceRecord>>,
    /// The Deployment called `<cluster>-scheduler`, whoever owns it.
    pub deployment: Option<Arc<DeploymentRecord>>,
    /// Pods that the scheduler's Deployment made, oldest first; whatever else is labelled like them does not count.
    pub scheduler_pods: Vec<Arc<PodRecord>>,
    /// The groups whose `spec.cluster` names this cluster, in order of name, each with its workers.
    pub groups: Vec<GroupMembers>,
    /// The object called `<cluster>-default` among all groups, even if it names another cluster.
    pub default_group: Option<Arc<DaskWorkerGroup>>,
    /// Whether a DaskAutoscaler names this cluster, so that its scheduler is to be asked how many it wants.
    pub has_autoscaler: bool,
    /// The pod called `<cluster>-runner`, whoever owns it, which a cluster of a job has.
    pub runner: Option<Arc<RunnerRecord>>,
    /// The job that the cluster belongs to.
    pub job: Option<Arc<DaskJob>>,
}

/// A group and the pods it controls.
#[derive(Clone, Debug)]
pub struct GroupMembers {
    /// The group.
    pub group: Arc<DaskWorkerGroup>,
    /// Worker pods whose controlling owner is this group, in order of name.
    pub workers: Vec<Arc<PodRecord>>,
    /// Workers that the Python operator made, in order of name.
    pub legacy: Vec<LegacyWorker>,
}

impl GroupMembers {
    /// All pods of the group, whoever made them, with their marks.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<PodRecord>> {
        self.workers.iter().chain(self.legacy.iter().flat_map(|worker| &worker.pods))
    }

    /// The number of workers that is wanted.
    #[must_use]
    pub fn desired(&self) -> usize {
        usize::try_from(self.group.spec.worker.replicas).unwrap_or(0)
    }

    /// Workers that work or will work and are not marked to go.
    #[must_use]
    pub fn unmarked(&self) -> usize {
        let stays = |pod: &&Arc<PodRecord>| pod.is_live() && pod.drain.is_none();
        self.workers.iter().filter(stays).count()
            + self.legacy.iter().filter(|worker| worker.is_live() && !worker.is_marked()).count()
    }

    /// Whether more workers are there than wanted, so that the scheduler's ranking of them is needed.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.unmarked() > self.desired()
    }
}

/// A worker that the Python operator made: a Deployment of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct LegacyWorker {
    /// The Deployment.
    pub deployment: Arc<DeploymentRecord>,
    /// Its pods: mostly one, none before it is made.
    pub pods: Vec<Arc<PodRecord>>,
}

impl LegacyWorker {
    /// Its pods that work or will work.
    pub fn live_pods(&self) -> impl Iterator<Item = &Arc<PodRecord>> {
        self.pods.iter().filter(|pod| pod.is_live())
    }

    /// Whether it works or will work.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.deployment.terminating
    }

    /// Whether all its pods are marked to go.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.live_pods().next().is_some() && self.live_pods().all(|pod| pod.drain.is_some())
    }
}

/// All that is known about a group.
#[derive(Clone, Debug)]
pub struct GroupSnapshot {
    /// The group and its pods.
    pub members: GroupMembers,
    /// The cluster that `spec.cluster` names.
    pub cluster: Option<Arc<DaskCluster>>,
    /// Pods that the Deployment of that cluster's scheduler made, oldest first.
    pub scheduler_pods: Vec<Arc<PodRecord>>,
    /// The pod called `<cluster>-runner`, whoever owns it, which a cluster of a job has.
    pub runner: Option<Arc<RunnerRecord>>,
    /// Whether the ConfigMap with the preload modules was stored, so that pods can mount it.
    pub modules_stored: bool,
    /// Ordinals whose creation was sent but never answered: the pod may or may not exist.
    pub unanswered: BTreeSet<i64>,
}

impl GroupSnapshot {
    /// What has to exist before a worker is created and does not, because workers would take its room in a quota or on
    /// the nodes.
    #[must_use]
    pub fn awaited(&self) -> Option<Awaited> {
        if !self.scheduler_pods.iter().any(|pod| pod.is_live()) {
            return Some(Awaited::Scheduler);
        }
        let job = self.cluster.as_deref().and_then(job_of)?;
        runner_of(job, self.runner.as_deref()).is_none().then_some(Awaited::Runner)
    }
}

/// What workers are created after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// A pod of the scheduler that works or will work.
    Scheduler,
    /// The runner of the job that the cluster belongs to, however far it is.
    Runner,
}

/// The job that a cluster belongs to.
#[must_use]
pub fn job_of(cluster: &DaskCluster) -> Option<&OwnerReference> {
    let is_job = |owner: &&OwnerReference| owner.controller == Some(true) && owner.kind == DaskJob::kind(&());
    cluster.owner_references().iter().find(is_job)
}

/// Whether the job of a cluster has another spec than the one that the cluster was made from.
#[must_use]
pub fn job_was_edited(cluster: &DaskCluster, job: &DaskJob) -> bool {
    let made_from = cluster.annotations().get(JOB_GENERATION).and_then(|text| text.parse::<i64>().ok());
    made_from.zip(job.metadata.generation).is_some_and(|(made_from, generation)| made_from < generation)
}

/// The pod with the name of a job's runner, if it belongs to that job.
#[must_use]
pub fn runner_of<'a>(job: &OwnerReference, named: Option<&'a RunnerRecord>) -> Option<&'a RunnerRecord> {
    named.filter(|runner| runner.owner_uid.as_deref() == Some(&job.uid))
}

/// All that is known about a job.
#[derive(Clone, Debug)]
pub struct JobSnapshot {
    /// The job itself.
    pub job: Arc<DaskJob>,
    /// The cluster of the job's name, whoever owns it.
    pub cluster: Option<Arc<DaskCluster>>,
    /// The pod called `<job>-runner`, whoever owns it; unless it lacks the label of clusters.
    pub runner: Option<Arc<RunnerRecord>>,
    /// The runner as it was seen last after it had started, though it may be gone.
    pub last_run: Option<Arc<RunnerRecord>>,
    /// Pods labelled as scheduler of the job's cluster, oldest first.
    pub scheduler_pods: Vec<Arc<PodRecord>>,
}

/// All that is known about an autoscaler.
#[derive(Clone, Debug)]
pub struct AutoscalerSnapshot {
    /// The autoscaler itself.
    pub autoscaler: Arc<DaskAutoscaler>,
    /// The cluster that `spec.cluster` names.
    pub cluster: Option<Arc<DaskCluster>>,
    /// The default group of that cluster.
    pub group: Option<Arc<DaskWorkerGroup>>,
    /// The other autoscalers that name that cluster, in order of name.
    pub others: Vec<Arc<DaskAutoscaler>>,
}
