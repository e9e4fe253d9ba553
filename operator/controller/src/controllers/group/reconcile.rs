//! One reconciliation of a group: observe → decide → apply → status.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dask_operator_api::{DaskWorkerGroup, DaskWorkerGroupStatus, GroupName};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::announce;
use super::apply::{self, Creations};
use super::build::{WorkerTemplate, template_hash};
use super::decide::{GroupPlan, Inputs, Wish, decide};
use super::inherited::{Settled, WorkerMetadata};
use super::modules;
use super::removal::Removal;
use super::start::{self, Start};
use super::status::{Told, status};
use super::steps::Steps;
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::records::resource_version;
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::context::Context;
use crate::controllers::obstacle::{Obstacle, Purpose};
use crate::controllers::reconcile::{self, ReconcileError, refusal, write_status};
use crate::controllers::status_writer::Urgency;

/// Runs the controller until `shutdown`.
pub async fn run(store: Store<DaskWorkerGroup>, ctx: Arc<Context>, shutdown: CancellationToken) {
    let triggers = ctx.cache.group_triggers();
    let forget = |ctx: &Context, key: &ObjectKey| {
        ctx.group_obstacles.clear(key);
        ctx.group_status.forget(key);
        ctx.ordinals.forget(key);
        ctx.progress.forget(key);
        ctx.group_edits.forget(key);
        ctx.starts.workers.forget(key);
        ctx.backoff.reset("DaskWorkerGroup", key);
    };
    reconcile::run(store, triggers, ctx, shutdown, forget, reconcile_group).await;
}

/// What one reconciliation of a group is about.
struct Group<'a> {
    ctx: &'a Context,
    key: &'a ObjectKey,
    uid: &'a str,
    snapshot: &'a GroupSnapshot,
    start: &'a Start,
    settled: Option<Settled>,
    template_hash: String,
    /// The newest status.
    before: DaskWorkerGroupStatus,
    /// The same with what only this process knows.
    known: DaskWorkerGroupStatus,
    now: Timestamp,
}

async fn reconcile_group(group: Arc<DaskWorkerGroup>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let key = ObjectKey::of(&*group);
    let Some(mut snapshot) = ctx.cache.group_snapshot(&key) else { return Ok(Action::await_change()) };
    let object = snapshot.members.group.clone();
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let uid = object.uid().unwrap_or_default();
    let now = reconcile::now();
    let start = start::observe(&ctx, &snapshot, &key, now).await;
    start.waiting.explain(&mut snapshot.members.workers, now);
    let group = Group::new(&ctx, &key, &uid, &snapshot, &start, now)?;
    let mut plan = group.decide();
    let mut steps = Steps::new(&ctx.group_obstacles, &key, &object.metadata, Instant::now());

    if let Some(patch) = &plan.adoption {
        steps.take(Purpose::Adoption, true, apply::adopt(&ctx, &key, patch)).await;
    } else {
        ctx.group_obstacles.cleared(&key, Purpose::Adoption);
    }
    if let Some(wait) = plan.silence {
        steps.look_again(wait);
    } else if !steps.is_gone() {
        group.apply(&mut plan, &mut steps).await?;
    }
    for wait in plan.requeue_after.into_iter().chain(start.waiting.look_again) {
        steps.look_again(wait);
    }
    Ok(steps.end()?.map_or_else(Action::await_change, Action::requeue))
}

impl<'a> Group<'a> {
    fn new(
        ctx: &'a Context,
        key: &'a ObjectKey,
        uid: &'a str,
        snapshot: &'a GroupSnapshot,
        start: &'a Start,
        now: Timestamp,
    ) -> Result<Self, ReconcileError> {
        let group = &snapshot.members.group;
        let before =
            ctx.group_status.newest(key, uid, resource_version(&group.metadata), group.status.as_ref());
        let known = DaskWorkerGroupStatus {
            highest_ordinal: ctx.ordinals.highest(key, uid, before.highest_ordinal),
            failures: ctx.progress.failures(key, uid, before.failures.as_ref()),
            ..before.clone()
        };
        let cluster = snapshot.cluster.as_ref();
        let settled = cluster.map(|cluster| ctx.group_edits.inherited(key, group, cluster, Instant::now()));
        if settled.as_ref().is_some_and(|settled| settled.is_new) {
            ctx.group_obstacles.cleared(key, Purpose::Relabel);
        }
        let template_hash = template_hash(group)?;
        Ok(Self { ctx, key, uid, snapshot, start, settled, template_hash, before, known, now })
    }

    fn decide(&self) -> GroupPlan {
        let (ctx, key, group) = (self.ctx, self.key, &self.snapshot.members.group);
        let now = Instant::now();
        let standing = ctx.group_obstacles.standing(key, &group.metadata, Purpose::Creation, now);
        let cluster_uid = self.snapshot.cluster.as_ref().and_then(|cluster| cluster.uid());
        let link = ctx.links.view(&key.sibling(group.spec.cluster.as_str()), cluster_uid.as_deref());
        let inputs = Inputs {
            template_hash: &self.template_hash,
            status: &self.known,
            link: &link,
            standing: standing.as_ref(),
            allocation: ctx.settings.worker_allocation(),
            form: self.start.form,
            settling: ctx.group_edits.settling(key, group, now),
            inherited: self.settled.as_ref(),
        };
        decide(self.snapshot, &inputs, self.now)
    }

    /// Writes what is planned, and the status. A transient failure of one kind of write skips no other.
    async fn apply(&self, plan: &mut GroupPlan, steps: &mut Steps<'_>) -> Result<(), ReconcileError> {
        let (ctx, namespace) = (self.ctx, &*self.key.namespace);
        self.create(plan, steps).await?;
        let mut names = HashSet::new();
        let marks = apply::mark(ctx, namespace, &plan.mark, self.now, &mut names);
        let marked = steps.take(Purpose::Mark, !plan.mark.is_empty(), marks).await;
        let unmarks = apply::unmark(ctx, namespace, &plan.unmark);
        let unmarked = steps.take(Purpose::Unmark, !plan.unmark.is_empty(), unmarks).await;
        if marked.done + unmarked.done > 0 {
            info!(group = %self.key, marked = marked.done, unmarked = unmarked.done, "workers marked to drain");
        }
        let relabels = apply::relabel(ctx, namespace, &plan.relabel);
        let relabelled = steps.take(Purpose::Relabel, !plan.relabel.pods.is_empty(), relabels).await;
        if relabelled.done > 0 {
            info!(group = %self.key, workers = relabelled.done, "labels of running workers updated");
        }
        ctx.progress.failed(self.key, self.uid, plan.failures.as_ref());

        // What deleting a failed pod would lose is written down before.
        if !self.write_status(plan, steps).await {
            plan.remove.retain(|removal| !removal.is_failed());
        }
        let mut removed = HashSet::new();
        let removals = apply::remove(ctx, namespace, &plan.remove, &mut removed);
        let outcome = steps.take(Purpose::Deletion, !plan.remove.is_empty(), removals).await;
        if outcome.refused.is_some() {
            // It came too late for this status.
            steps.look_again(Duration::ZERO);
        }
        let is_rest = plan.missing == 0 && plan.remove.is_empty() && plan.mark.is_empty();
        plan.remove.retain(|removal| removed.contains(&removal.name));
        plan.mark.retain(|marking| names.contains(&*marking.pod.name));
        announce::announce(ctx, self.snapshot, plan);
        self.announce_size(plan, is_rest);
        Ok(())
    }

    /// Creates the missing workers, as far as it gets before others have their turn.
    async fn create(&self, plan: &GroupPlan, steps: &mut Steps<'_>) -> Result<(), ReconcileError> {
        let (ctx, key, group) = (self.ctx, self.key, &self.snapshot.members.group);
        if plan.missing == 0 {
            ctx.progress.complete(key);
            ctx.group_obstacles.cleared(key, Purpose::Creation);
            return Ok(());
        }
        let (Some(cluster), Ok(name)) = (&self.snapshot.cluster, key.name.parse::<GroupName>()) else {
            return Ok(());
        };
        if plan.create.is_empty() {
            return Ok(());
        }
        let template = WorkerTemplate::new(group, &name, cluster, self.start.form)?;
        let newest = WorkerMetadata::of(group, cluster).digest();
        // They have the newest labels, and are not to be given those again that have stood for longer.
        let counted = self.settled.as_ref().map_or(&newest, |settled| &settled.digest);
        let template = &template.counted_as(&newest, counted);
        let wish = Wish::of(self.snapshot, plan);
        let creations = Creations { key, uid: self.uid, template, ordinals: &plan.create, wish };
        let outcome = steps.take(Purpose::Creation, true, apply::create(ctx, &creations)).await;
        let failed = outcome.done < plan.create.len() && !outcome.left;
        ctx.progress.created(key, self.uid, self.before.replicas, outcome.done, failed);
        let (created, refused) = (outcome.done, outcome.refused.is_some());
        info!(group = %key, created, missing = plan.missing, refused, "workers created");
        let is_batch = ctx.settings.worker_allocation().batch_size.is_some();
        if !is_batch && created == plan.create.len() && created < plan.missing {
            steps.look_again(Duration::ZERO);
        }
        Ok(())
    }

    /// Tells what is and what is in the way; returns whether failed workers may be deleted, because their record is
    /// written down, or can be kept only by this process.
    async fn write_status(&self, plan: &GroupPlan, steps: &mut Steps<'_>) -> bool {
        let (ctx, key) = (self.ctx, self.key);
        let mut current = ctx.cache.group_snapshot(key).unwrap_or_else(|| self.snapshot.clone());
        self.start.waiting.explain(&mut current.members.workers, self.now);
        let obstacles = self.obstacles(plan);
        // That no status could be written is over when this one can be read.
        let shown = obstacles.iter().filter(|(purpose, _)| *purpose != Purpose::Status);
        let shown: Vec<_> = shown.cloned().collect();
        let told = Told {
            obstacles: &shown,
            failures: plan.failures.as_ref(),
            shrinking: plan.shrinking.as_ref(),
            joining: Some(&plan.joining),
            template_hash: &self.template_hash,
        };
        let group = &self.snapshot.members.group;
        let next = status(&current, &told, &self.known, self.now);
        let next = modules::with_modules(next, group, ctx.settings.telemetry(), &self.before, self.now);
        let standing = ctx.group_obstacles.standing(key, &group.metadata, Purpose::Status, Instant::now());
        let written = standing.is_none().then_some(&next);
        announce::announce_obstacles(ctx, group, &self.before, written, &obstacles);
        if let Some(standing) = standing {
            steps.look_again(standing.wait);
            return true;
        }
        let urgent = plan.remove.iter().any(Removal::is_failed) && next.failures != self.before.failures;
        let urgency = if urgent { Urgency::AtOnce } else { Urgency::AfterWorkers };
        match write_status(ctx, &ctx.group_status, &**group, &self.before, next, urgency).await {
            Ok(wait) => {
                if let Some(wait) = wait {
                    steps.look_again(wait);
                }
                ctx.group_obstacles.cleared(key, Purpose::Status);
                true
            }
            Err(error) => match refusal(error) {
                Ok(obstacle) => {
                    steps.refused(Purpose::Status, obstacle);
                    true
                }
                Err(error) => {
                    steps.fail(error);
                    !urgent
                }
            },
        }
    }

    /// All that is in the way, what matters most first.
    fn obstacles(&self, plan: &GroupPlan) -> Vec<(Purpose, Obstacle)> {
        let mut all = self.ctx.group_obstacles.all(self.key);
        if let Some(obstacle) = &plan.obstacle
            && all.first().is_none_or(|(_, first)| first != obstacle)
        {
            all.insert(0, (Purpose::Creation, obstacle.clone()));
        }
        all
    }

    /// Tells of a change of size when it is over.
    fn announce_size(&self, plan: &GroupPlan, is_rest: bool) {
        let too_many = announce::too_many(self.snapshot, plan);
        self.ctx.progress.removed(self.key, self.uid, too_many);
        if is_rest && announce::is_settled(plan) {
            let group = &self.snapshot.members.group;
            let wanted = group.spec.worker.replicas;
            let change = self.ctx.progress.at_rest(self.key, self.uid, wanted);
            for news in announce::size_news(&change, wanted) {
                self.ctx.announce(&**group, &news);
            }
        }
    }
}
