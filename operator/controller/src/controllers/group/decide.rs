//! What a group needs next. Pure: no client, no clock.

use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::{
    DaskCluster, DaskWorkerGroup, DaskWorkerGroupStatus, GroupName, Reason, WorkerFailures,
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::failures;
use super::misfits::{MisfitWorker, misfits};
use super::relabel::{Relabel, relabel};
use super::removal::{Finding, Marking, Removal};
use super::shrink::{Situation, shrink};
use super::stranded::stranded;
use super::update::{Update, is_outdated, update};
use crate::cluster_cache::records::{PodRecord, PodState};
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::controllers::Obstacle;
use crate::controllers::obstacle::StandingRefusal;
use crate::pods::form::PodForm;
use crate::pods::metadata;
use crate::scheduler_link::LinkView;

/// How long what workers are created after may take, in a new cluster, before its groups say that they wait for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How fast workers may be created, as `kubernetes.controller.worker-allocation` of dask-kubernetes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerAllocation {
    /// Most workers created at a time; `None` for no limit.
    pub batch_size: Option<usize>,
    /// Pause between two batches.
    pub delay: Duration,
}

/// The writes that bring a group nearer to its spec.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupPlan {
    /// Merge patch that makes the cluster the group's owner.
    pub adoption: Option<Value>,
    /// Ordinals of the workers to create.
    pub create: Vec<i64>,
    /// Workers to delete.
    pub remove: Vec<Removal>,
    /// Pods to mark, so that they are drained.
    pub mark: Vec<Marking>,
    /// Pods that get the labels and annotations of an edited group or cluster.
    pub relabel: Vec<Relabel>,
    /// Pods whose mark is taken off.
    pub unmark: Vec<Arc<PodRecord>>,
    /// What keeps the group from shrinking to its wanted size, or how it does.
    pub shrinking: Option<Finding>,
    /// The record of failures, to be in the status before any failed pod is deleted.
    pub failures: Option<WorkerFailures>,
    /// Why nothing can be created.
    pub obstacle: Option<Obstacle>,
    /// Nothing is said before this time is over: the group is new, and what its workers wait for about to come.
    pub silence: Option<Duration>,
    /// When to look again without being woken.
    pub requeue_after: Option<Duration>,
}

/// What is known besides the watched objects.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The newest status, which may be younger than the snapshot's.
    pub status: &'a DaskWorkerGroupStatus,
    /// What is known from the cluster's scheduler.
    pub link: &'a LinkView,
    /// A creation that was refused and is not to be tried again yet.
    pub standing: Option<&'a StandingRefusal>,
    /// How fast workers may be created.
    pub allocation: WorkerAllocation,
    /// Digest of the group's worker template.
    pub template_hash: &'a str,
    /// The form in which workers are made.
    pub form: PodForm,
    /// See [`Situation::settling`].
    pub settling: Option<Duration>,
}

/// Decides what to write for a group.
#[must_use]
pub fn decide(snapshot: &GroupSnapshot, inputs: &Inputs, now: Timestamp) -> GroupPlan {
    let Inputs { status, standing, allocation, .. } = *inputs;
    let group = &*snapshot.members.group;
    if group.metadata.deletion_timestamp.is_some() {
        return GroupPlan::default();
    }
    let workers = &snapshot.members.workers;
    let mut misfits = misfits(snapshot, inputs.form, now);
    // They say nothing of their replacements, which are made otherwise.
    let is_misfit = |pod: &Arc<PodRecord>| misfits.iter().any(|misfit| misfit.pod.uid == pod.uid);
    let fitting: Vec<_> = workers.iter().filter(|pod| !is_misfit(pod)).cloned().collect();
    let mut plan = GroupPlan {
        failures: failures::observe(status.failures.as_ref(), &fitting, now),
        ..GroupPlan::default()
    };
    let cluster = match owning_cluster(snapshot) {
        Ok(cluster) => cluster,
        Err(obstacle) => {
            plan.obstacle = Some(obstacle);
            return plan;
        }
    };
    plan.adoption = adoption(group, cluster);

    plan.relabel = relabel(&snapshot.members, cluster);

    let desired = snapshot.members.desired();
    let policy = cluster.spec.update_policy();
    let situation = Situation {
        members: &snapshot.members,
        scheduler_pods: &snapshot.scheduler_pods,
        link: inputs.link,
        policy: &policy,
        settling: inputs.settling,
        now,
    };
    let shrink = shrink(&situation);
    // Workers that are one too many go before those of an older template, and for one reason at a time.
    let fits = shrink.staying <= desired;
    let waits_for_edits = is_outdated(&snapshot.members, inputs.template_hash);
    let update = match inputs.settling {
        None if fits && standing.is_none() => update(&snapshot.members, inputs.template_hash, &policy),
        _ => Update::default(),
    };
    let (lost, look_again) = stranded(&snapshot.members, cluster, inputs.link, now);
    let lost: Vec<_> = lost.into_iter().filter(|_| fits).collect();
    misfits.retain(|misfit| {
        [&shrink.remove, &update.remove, &lost].iter().all(|removals| !is_among(removals, &misfit.pod))
    });
    let unmarked = misfits.iter().filter(|misfit| misfit.pod.is_live() && misfit.pod.drain.is_none()).count();
    let misfits: Vec<_> = misfits.iter().map(MisfitWorker::removal).collect();
    let staying = shrink.staying.saturating_sub(update.remove.len() + lost.len() + unmarked);
    let pause = plan.failures.as_ref().and_then(|failures| until(failures.retry_after.0, now));
    let waits = |worker: &PodRecord| {
        staying < desired && pause.is_some() && worker.drain.is_none() && failures::slows_down(worker, now)
    };
    let (waiting, done): (Vec<_>, Vec<_>) = workers
        .iter()
        .filter(|worker| worker.state == PodState::Failed && !is_among(&misfits, worker))
        .partition(|worker| waits(worker));

    plan.remove.extend(done.into_iter().map(|worker| Removal::of_ended(worker)));
    plan.remove.extend(misfits);
    plan.remove.extend(shrink.remove);
    plan.remove.extend(update.remove);
    plan.mark = shrink.mark;
    plan.mark.extend(update.mark.into_iter().filter(|marking| !is_among(&lost, &marking.pod)));
    plan.remove.extend(lost);
    plan.unmark = shrink.unmark;
    plan.shrinking = shrink.finding;
    plan.requeue_after = earlier(pause.filter(|_| !waiting.is_empty()), shrink.requeue_after);
    plan.requeue_after = earlier(plan.requeue_after, look_again);
    plan.requeue_after = earlier(plan.requeue_after, inputs.settling.filter(|_| waits_for_edits));

    let missing = desired.saturating_sub(staying + waiting.len());
    if missing == 0 {
        return plan;
    }
    if let Some(refusal) = standing {
        plan.obstacle = Some(refusal.obstacle.clone());
        plan.requeue_after = earlier(plan.requeue_after, Some(refusal.wait));
        return plan;
    }
    if snapshot.awaited().is_some() {
        plan.silence = silence(snapshot, status, now);
        return plan;
    }
    let newest = workers.iter().map(|worker| worker.created).max();
    let batch_pause =
        newest.filter(|_| allocation.batch_size.is_some()).and_then(|t| until(t + allocation.delay, now));
    if batch_pause.is_some() {
        plan.requeue_after = earlier(plan.requeue_after, batch_pause);
        return plan;
    }
    let batch = missing.min(allocation.batch_size.unwrap_or(usize::MAX));
    plan.create = next_ordinals(snapshot, status.highest_ordinal, batch);
    if batch < missing {
        plan.requeue_after = earlier(plan.requeue_after, Some(allocation.delay));
    }
    plan
}

/// How long a group that has nothing yet still waits in silence.
fn silence(snapshot: &GroupSnapshot, status: &DaskWorkerGroupStatus, now: Timestamp) -> Option<Duration> {
    let members = &snapshot.members;
    let is_new = status.observed_generation.is_none() && members.pods().next().is_none();
    let created = members.group.metadata.creation_timestamp.as_ref().filter(|_| is_new)?;
    until(created.0 + PATIENCE, now).map(|wait| wait.min(PATIENCE))
}

fn is_among(removals: &[Removal], pod: &PodRecord) -> bool {
    removals.iter().any(|removal| *removal.uid == *pod.uid)
}

/// The cluster that the group's workers belong to, or why there is none.
fn owning_cluster(snapshot: &GroupSnapshot) -> Result<&DaskCluster, Obstacle> {
    let group = &snapshot.members.group;
    if let Err(error) = group.name_any().parse::<GroupName>() {
        return Err(Obstacle::new(Reason::InvalidName, error.to_string()));
    }
    let name = &group.spec.cluster;
    let owners = || group.owner_references().iter().filter(|owner| owner.kind == "DaskCluster");
    let Some(cluster) = &snapshot.cluster else {
        // Kubernetes deletes the group a moment after its owner: nothing that anybody has to correct.
        if owners().next().is_some() {
            return Err(deleted(name));
        }
        let namespace = group.namespace().unwrap_or_default();
        let message = format!(
            "spec.cluster \"{name}\" names no DaskCluster in namespace \"{namespace}\"; create it or correct spec.cluster"
        );
        return Err(Obstacle::new(Reason::ClusterNotFound, message));
    };
    if let Err(error) = name.parse::<dask_operator_api::ClusterName>() {
        return Err(Obstacle::new(Reason::InvalidName, format!("spec.cluster: {error}")));
    }
    let going = cluster.metadata.deletion_timestamp.is_some();
    let earlier = owners().any(|owner| Some(&owner.uid) != cluster.metadata.uid.as_ref());
    if going || earlier {
        return Err(deleted(name));
    }
    Ok(cluster)
}

fn deleted(cluster: &str) -> Obstacle {
    let message = format!("the group belongs to a DaskCluster \"{cluster}\" that is being deleted");
    Obstacle::new(Reason::WaitingForDeletion, message)
}

/// The patch that makes the cluster the owner, so that the group goes when the cluster goes.
fn adoption(group: &DaskWorkerGroup, cluster: &DaskCluster) -> Option<Value> {
    let owner = metadata::owner(cluster)?;
    let mut owners = group.owner_references().to_vec();
    if owners.iter().any(|existing| existing.uid == owner.uid) {
        return None;
    }
    owners.push(owner);
    Some(json!({"metadata": {"ownerReferences": owners, "resourceVersion": group.resource_version()}}))
}

/// Ordinals for new workers: first those whose creation was never answered, because their pods may exist and
/// creating them again is harmless; then ones that were never used.
fn next_ordinals(snapshot: &GroupSnapshot, highest: i64, count: usize) -> Vec<i64> {
    let used = snapshot.members.workers.iter().filter_map(|worker| worker.ordinal);
    let highest = used.chain(snapshot.unanswered.iter().copied()).chain([highest]).max().unwrap_or(0);
    snapshot.unanswered.iter().copied().chain(highest + 1..).take(count).collect()
}

fn until(time: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(time - now).ok().filter(|wait| !wait.is_zero())
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
