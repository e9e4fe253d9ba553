//! One reconciliation of a group: observe → decide → apply → status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dask_operator_api::{DaskWorkerGroup, DaskWorkerGroupStatus, GroupName};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::announce;
use super::apply;
use super::build::{WorkerTemplate, template_hash};
use super::decide::{GroupPlan, Inputs, decide};
use super::removal::Removal;
use super::status::{Told, status};
use super::{modules, start};
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::records::resource_version;
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::context::Context;
use crate::controllers::obstacle::Obstacle;
use crate::controllers::reconcile::{self, ReconcileError, write_status};
use crate::controllers::status_writer::Urgency;
use crate::pods::form::PodForm;

/// How soon to decide again after something had changed before it could be written: its watch shows it by then.
const CHANGED_PAUSE: Duration = Duration::from_millis(500);

/// Runs the controller until `shutdown`.
pub async fn run(store: Store<DaskWorkerGroup>, ctx: Arc<Context>, shutdown: CancellationToken) {
    let triggers = ctx.cache.take_group_triggers();
    let forget = |ctx: &Context, key: &ObjectKey| {
        ctx.group_obstacles.clear(key);
        ctx.group_status.forget(key);
        ctx.ordinals.forget(key);
        ctx.group_edits.forget(key);
        ctx.starts.workers.forget(key);
        ctx.backoff.reset("DaskWorkerGroup", key);
    };
    reconcile::run(store, triggers, ctx, shutdown, forget, reconcile_group).await;
}

async fn reconcile_group(group: Arc<DaskWorkerGroup>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let key = ObjectKey::of(&*group);
    let Some(mut snapshot) = ctx.cache.group_snapshot(&key) else { return Ok(Action::await_change()) };
    let now = reconcile::now();
    let start = start::observe(&ctx, &snapshot, &key, now).await;
    start.waiting.explain(&mut snapshot.members.workers, now);
    let group = &snapshot.members.group;
    if group.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let uid = group.uid().unwrap_or_default();
    let before =
        ctx.group_status.newest(&key, &uid, resource_version(&group.metadata), group.status.as_ref());
    let highest_ordinal = ctx.ordinals.highest(&key, &uid, before.highest_ordinal);
    let known = DaskWorkerGroupStatus { highest_ordinal, ..before.clone() };
    let standing = ctx.group_obstacles.standing(&key, group.metadata.generation, now);
    let link = ctx.links.view(&key.sibling(group.spec.cluster.as_str()));
    let template_hash = template_hash(group)?;
    let inputs = Inputs {
        template_hash: &template_hash,
        status: &known,
        link: &link,
        standing: standing.as_ref(),
        allocation: ctx.settings.worker_allocation(),
        form: start.form,
        settling: ctx.group_edits.settling(&key, group.metadata.generation, Instant::now()),
    };
    let mut plan = decide(&snapshot, &inputs, now);

    apply::adopt(&ctx, &key, &plan).await?;
    if let Some(wait) = plan.silence {
        return Ok(Action::requeue(wait));
    }
    ctx.ordinals.give(&key, &uid, &plan.create);
    let refused = create_workers(&ctx, &key, &snapshot, &plan, start.form, now).await?;
    let obstacle = refused.map(|(obstacle, wait)| {
        plan.requeue_after = plan.requeue_after.into_iter().chain([wait]).min();
        obstacle
    });
    let obstacle = obstacle.or_else(|| plan.obstacle.clone());
    let namespace = &*key.namespace;
    // A pod that cannot be written to holds up no other: failures count when all is done.
    let marked = apply::mark(&ctx, namespace, &plan.mark, now).await;
    let unmarked = apply::unmark(&ctx, namespace, &plan.unmark).await;
    if !plan.mark.is_empty() || !plan.unmark.is_empty() {
        info!(group = %key, marked = plan.mark.len(), unmarked = plan.unmark.len(), "workers marked to drain");
    }

    let relabelled = apply::relabel(&ctx, namespace, &plan.relabel).await;
    if !plan.relabel.is_empty() {
        info!(group = %key, workers = plan.relabel.len(), "labels of running workers updated");
    }

    // What deleting a failed pod would lose is written down before.
    let mut current = ctx.cache.group_snapshot(&key).unwrap_or_else(|| snapshot.clone());
    start.waiting.explain(&mut current.members.workers, now);
    let told = Told {
        obstacle: obstacle.as_ref(),
        failures: plan.failures.as_ref(),
        shrinking: plan.shrinking.as_ref(),
        template_hash: &template_hash,
    };
    let next = status(&current, &told, &known, now);
    let next = modules::with_modules(next, group, ctx.settings.telemetry(), &before, now);
    let urgent = plan.remove.iter().any(Removal::is_failed) && next.failures != before.failures;
    let urgency = if urgent { Urgency::AtOnce } else { Urgency::AfterWorkers };
    let wait = write_status(&ctx, &ctx.group_status, &**group, &before, next, urgency).await?;

    let removed = apply::remove(&ctx, namespace, &plan.remove).await;
    plan.remove.retain(|removal| !removed.kept.contains(&removal.name));
    if marked.is_err() {
        plan.mark.clear();
    }
    announce::announce(&ctx, &snapshot, &plan);
    if let Some(error) = removed.failure {
        return Err(error.into());
    }
    let changed = marked? | unmarked? | relabelled? | !removed.kept.is_empty();
    let again = changed.then_some(CHANGED_PAUSE);
    Ok(plan
        .requeue_after
        .into_iter()
        .chain(wait)
        .chain(again)
        .chain(start.waiting.look_again)
        .min()
        .map_or_else(Action::await_change, Action::requeue))
}

async fn create_workers(
    ctx: &Context,
    key: &ObjectKey,
    snapshot: &GroupSnapshot,
    plan: &GroupPlan,
    form: PodForm,
    now: jiff::Timestamp,
) -> Result<Option<(Obstacle, Duration)>, ReconcileError> {
    let (Some(cluster), Ok(name)) = (&snapshot.cluster, key.name.parse::<GroupName>()) else {
        return Ok(None);
    };
    if plan.create.is_empty() {
        return Ok(None);
    }
    let group = &snapshot.members.group;
    let template = WorkerTemplate::new(group, &name, cluster, form)?;
    let (created, refused) = apply::create(ctx, key, &template, &plan.create).await?;
    info!(group = %key, created, wanted = plan.create.len(), refused = refused.is_some(), "workers created");
    let Some(obstacle) = refused else {
        ctx.group_obstacles.clear(key);
        return Ok(None);
    };
    let wait = ctx.group_obstacles.refused(key, group.metadata.generation, obstacle.clone(), now);
    Ok(Some((obstacle, wait)))
}
