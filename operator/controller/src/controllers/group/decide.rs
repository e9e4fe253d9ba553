//! What a group needs next. Pure: no client, no clock.

use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::{
    DaskCluster, DaskWorkerGroup, DaskWorkerGroupStatus, GroupName, MAX_REPLICAS, Reason, WorkerFailures,
};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::Value;

use super::ended::{look_again, with_ended};
use super::failures;
use super::inherited::Settled;
use super::joining::Joining;
use super::known::Known;
use super::misfits::{MisfitWorker, misfits};
use super::relabel::{Relabel, relabel};
use super::removal::{Finding, Marking, Removal};
use super::shrink::{Situation, shrink};
use super::stranded::useless;
use super::update::{Update, is_outdated, update};
use crate::cluster_cache::records::{PodRecord, PodState};
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::controllers::Obstacle;
use crate::controllers::adoption::{adoption, is_dask_cluster};
use crate::controllers::obstacle::StandingRefusal;
use crate::pods::form::PodForm;
use crate::scheduler_link::LinkView;

/// How long what workers are created after may take, in a new cluster, before its groups say that they wait for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How far the clocks of this machine and of the API server may be apart. A time that is further ahead is no time to
/// wait for: a clock was set back.
const CLOCK_SKEW: Duration = Duration::from_mins(1);
/// Most workers that are planned at a time; the others when these are made.
const MOST_PLANNED: usize = 500;
/// Greatest ordinal that is believed: a greater one was written by somebody else, and would leave no room for others.
const MAX_ORDINAL: i64 = 1 << 62;

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
    /// Ordinals of the workers to create now, [`MOST_PLANNED`] at most.
    pub create: Vec<i64>,
    /// Workers that are missing, these included.
    pub missing: usize,
    /// Workers to delete.
    pub remove: Vec<Removal>,
    /// Pods to mark, so that they are drained.
    pub mark: Vec<Marking>,
    /// Pods that get the labels and annotations of an edited group or cluster.
    pub relabel: Relabel,
    /// Pods whose mark is taken off.
    pub unmark: Vec<Arc<PodRecord>>,
    /// What keeps the group from shrinking to its wanted size, or how it does.
    pub shrinking: Option<Finding>,
    /// Whether the workers have joined their scheduler.
    pub joining: Joining,
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
    /// The labels and annotations that running workers should have.
    pub inherited: Option<&'a Settled>,
}

/// Decides what to write for a group.
#[must_use]
pub fn decide(snapshot: &GroupSnapshot, inputs: &Inputs, now: Timestamp) -> GroupPlan {
    let Inputs { status, standing, .. } = *inputs;
    let with_ended = with_ended(snapshot, inputs.link, now);
    let snapshot = with_ended.as_ref().unwrap_or(snapshot);
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

    plan.requeue_after = look_again(snapshot);
    if let Some(settled) = inputs.inherited {
        plan.relabel = relabel(&snapshot.members, settled);
        plan.requeue_after = earlier(plan.requeue_after, settled.wait);
    }
    if let Some(obstacle) = out_of_range(group) {
        plan.obstacle = Some(obstacle);
        return plan;
    }

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
    let mut useless = useless(&snapshot.members, cluster, inputs.link, &policy, now);
    useless.mark.retain(|_| fits);
    // After a restart of the scheduler that is told, and looked after, as being stranded.
    if !useless.is_under_way() {
        plan.joining = Joining::of(&snapshot.members, inputs.link, now);
        plan.requeue_after = earlier(plan.requeue_after, plan.joining.look_again(status));
    }
    let update = match inputs.settling {
        None if fits && standing.is_none() && useless.mark.is_empty() => {
            let known = Known::of(inputs.link, &snapshot.scheduler_pods, now);
            update(&snapshot.members, inputs.template_hash, &policy, known)
        }
        _ => Update::default(),
    };
    misfits.retain(|misfit| {
        [&shrink.remove, &update.remove].iter().all(|removals| !is_among(removals, &misfit.pod))
    });
    let unmarked = misfits.iter().filter(|misfit| misfit.pod.is_live() && misfit.pod.drain.is_none()).count();
    let misfits: Vec<_> = misfits.iter().map(MisfitWorker::removal).collect();
    let staying = shrink.staying.saturating_sub(update.remove.len() + unmarked);
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
    plan.mark.extend(update.mark);
    plan.mark.extend(useless.mark);
    plan.unmark = shrink.unmark;
    // That stranded workers go on being replaced is said for as long as it takes, because it is asked for by that.
    let (progress, trouble) = match shrink.finding {
        Some(finding) if finding.reason == Reason::Draining => (Some(finding), None),
        finding => (None, finding),
    };
    plan.shrinking = trouble.or(useless.finding).or(progress).or(update.kept);
    plan.requeue_after = earlier(plan.requeue_after, pause.filter(|_| !waiting.is_empty()));
    plan.requeue_after = earlier(plan.requeue_after, shrink.requeue_after);
    plan.requeue_after = earlier(plan.requeue_after, earlier(useless.requeue_after, update.requeue_after));
    plan.requeue_after = earlier(plan.requeue_after, inputs.settling.filter(|_| waits_for_edits));

    plan.missing = desired.saturating_sub(staying + waiting.len());
    if plan.missing > 0 {
        plan_creations(&mut plan, snapshot, inputs, now);
    }
    plan
}

/// Plans the creation of the workers that are missing, as many as may be made now.
fn plan_creations(plan: &mut GroupPlan, snapshot: &GroupSnapshot, inputs: &Inputs, now: Timestamp) {
    let Inputs { status, standing, allocation, .. } = *inputs;
    if let Some(refusal) = standing {
        plan.obstacle = Some(refusal.obstacle.clone());
        plan.requeue_after = earlier(plan.requeue_after, Some(refusal.wait));
        return;
    }
    if snapshot.awaited().is_some() {
        plan.silence = silence(snapshot, status, now);
        return;
    }
    if let Some(pause) = batch_pause(&snapshot.members.workers, &allocation, now) {
        plan.requeue_after = earlier(plan.requeue_after, Some(pause));
        return;
    }
    let batch = plan.missing.min(allocation.batch_size.unwrap_or(usize::MAX)).min(MOST_PLANNED);
    plan.create = next_ordinals(snapshot, status.highest_ordinal, batch);
    if batch < plan.missing && allocation.batch_size.is_some() {
        plan.requeue_after = earlier(plan.requeue_after, Some(allocation.delay));
    }
}

/// Why the wanted number of workers cannot be meant. The schema refuses such numbers, but groups may have been stored
/// under an older one.
fn out_of_range(group: &DaskWorkerGroup) -> Option<Obstacle> {
    let replicas = group.spec.worker.replicas;
    if (0..=MAX_REPLICAS).contains(&replicas) {
        return None;
    }
    let message = format!(
        "spec.worker.replicas is {replicas}, but has to be from 0 to {MAX_REPLICAS}: no worker is created or removed \
         until it is corrected, for example by kubectl scale daskworkergroup {} --replicas=1",
        group.name_any()
    );
    Some(Obstacle::new(Reason::InvalidReplicas, message))
}

/// How long until the next batch of workers may be created.
fn batch_pause(
    workers: &[Arc<PodRecord>],
    allocation: &WorkerAllocation,
    now: Timestamp,
) -> Option<Duration> {
    allocation.batch_size?;
    let newest = workers.iter().map(|worker| worker.created).max()?;
    let wait = until(newest.checked_add(allocation.delay).ok()?, now)?;
    (wait <= allocation.delay.saturating_add(CLOCK_SKEW)).then_some(wait)
}

/// Which object a number of creations was planned for, so that each can be called off when its turn comes.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    group_uid: Option<String>,
    cluster_uid: Option<String>,
    /// Workers that are there without those to be created.
    present: usize,
}

impl Wish {
    /// What was planned on this snapshot.
    pub(super) fn of(snapshot: &GroupSnapshot, plan: &GroupPlan) -> Self {
        let cluster = snapshot.cluster.as_ref();
        Self {
            group_uid: snapshot.members.group.uid(),
            cluster_uid: cluster.and_then(|cluster| cluster.uid()),
            present: snapshot.members.desired().saturating_sub(plan.missing),
        }
    }

    /// Whether the worker after `earlier` others of the plan is still wanted.
    pub(super) fn stands(
        &self,
        group: &DaskWorkerGroup,
        cluster: Option<&DaskCluster>,
        earlier: usize,
    ) -> bool {
        let lives = |meta: &kube::api::ObjectMeta, uid: &Option<String>| {
            meta.uid == *uid && meta.deletion_timestamp.is_none()
        };
        let desired = usize::try_from(group.spec.worker.replicas).unwrap_or(0);
        lives(&group.metadata, &self.group_uid)
            && cluster.is_some_and(|cluster| lives(&cluster.metadata, &self.cluster_uid))
            && out_of_range(group).is_none()
            && desired > self.present.saturating_add(earlier)
    }
}

/// How long a group that has nothing yet still waits in silence.
fn silence(snapshot: &GroupSnapshot, status: &DaskWorkerGroupStatus, now: Timestamp) -> Option<Duration> {
    let members = &snapshot.members;
    let is_new = status.observed_generation.is_none() && members.pods().next().is_none();
    let created = members.group.metadata.creation_timestamp.as_ref().filter(|_| is_new)?;
    let wait = until(created.0 + PATIENCE, now).filter(|wait| *wait <= PATIENCE + CLOCK_SKEW)?;
    Some(wait.min(PATIENCE))
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
    let owners = || group.owner_references().iter().filter(|owner| is_dask_cluster(owner));
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
    let message = format!(
        "the group belongs to a DaskCluster \"{cluster}\" that is being deleted; if it stays, delete the group, or take \
         that owner out of its metadata.ownerReferences"
    );
    Obstacle::new(Reason::WaitingForDeletion, message)
}

/// Ordinals for new workers: first those whose creation was never answered, because their pods may exist and
/// creating them again is harmless; then ones that were never used.
fn next_ordinals(snapshot: &GroupSnapshot, highest: i64, count: usize) -> Vec<i64> {
    let used = snapshot.members.workers.iter().filter_map(|worker| worker.ordinal);
    let known = used.chain(snapshot.unanswered.iter().copied()).chain([highest]);
    let highest = known.filter(|ordinal| (0..=MAX_ORDINAL).contains(ordinal)).max().unwrap_or(0);
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
