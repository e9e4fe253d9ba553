//! One reconciliation of a cluster: observe → decide → apply → status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dask_operator_api::{DaskCluster, Reason};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::apply::{Applied, apply};
use super::decide::{Inputs, decide};
use super::idle::{self, Idle};
use super::modules::with_modules;
use super::plan::PartObstacle;
use super::runner::with_runner;
use super::service;
use super::start;
use super::status::status;
use super::updating;
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::records::resource_version;
use crate::context::Context;
use crate::controllers::announce::Announcement;
use crate::controllers::reconcile::{self, ReconcileError, write_status, write_status_and_tell};
use crate::controllers::status_writer::Urgency;
use crate::controllers::takeover::take_over;
use crate::writer::{Lane, WriteError};

/// How soon to look for an object of an earlier owner that is being deleted.
const GOING: Duration = Duration::from_secs(10);
/// How soon to decide again after something had changed before it could be written: its watch shows it by then.
const CHANGED: Duration = Duration::from_millis(500);
/// How soon to look whether workers have come through a Service that seems to lead nowhere: the scheduler's count of
/// them wakes nobody.
const UNPROVEN_SERVICE: Duration = Duration::from_secs(15);

/// Runs the controller until `shutdown`.
pub async fn run(store: Store<DaskCluster>, ctx: Arc<Context>, shutdown: CancellationToken) {
    let triggers = ctx.cache.cluster_triggers();
    let forget = |ctx: &Context, key: &ObjectKey| {
        ctx.claims.clusters.clear(key);
        ctx.cluster_refusals.forget(key);
        ctx.cluster_status.forget(key);
        ctx.starts.forget_cluster(key);
        ctx.backoff.reset("DaskCluster", key);
    };
    reconcile::run(store, triggers, ctx, shutdown, forget, reconcile_cluster).await;
}

async fn reconcile_cluster(cluster: Arc<DaskCluster>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let key = ObjectKey::of(&*cluster);
    let Some(mut snapshot) = ctx.cache.cluster_snapshot(&key) else { return Ok(Action::await_change()) };
    let cluster = snapshot.cluster.clone();
    let claim = take_over(&ctx, &ctx.claims.clusters, &*cluster).await?;
    if cluster.metadata.deletion_timestamp.is_some() {
        return Ok(claim.retry_after().map_or_else(Action::await_change, Action::requeue));
    }
    let now = reconcile::now();
    let uid = cluster.uid().unwrap_or_default();
    let mut before =
        ctx.cluster_status.newest(&key, &uid, resource_version(&cluster.metadata), cluster.status.as_ref());
    let standing = ctx.cluster_refusals.standing(&key, &cluster.metadata, Instant::now());
    let link = ctx.links.view(&key, cluster.metadata.uid.as_deref());
    let start = start::observe(&ctx, &snapshot, now).await;
    start.explain(&mut snapshot, now);
    let inputs = Inputs { standing: &standing, form: start.form, modules: start.modules(), link: &link };
    let mut plan = decide(&snapshot, &inputs, now);

    // A new cluster shows at once that it was seen, before anything is made for it.
    if before.phase.is_none() {
        let first = status(&snapshot, &link, &plan.obstacles, &before, now);
        write_status(&ctx, &ctx.cluster_status, &*cluster, &before, first.clone(), Urgency::Phase).await?;
        before = first;
    }
    let mut applied = Applied::default();
    if !plan.is_empty() {
        applied = apply(&ctx, &cluster, &plan).await;
        if let Some(stored) = &applied.modules {
            let wait = start::stored(&ctx, &cluster, stored);
            plan.requeue_after = plan.requeue_after.into_iter().chain(wait).min();
        }
        for part in applied.written.iter().filter(|part| plan.writes(**part)) {
            ctx.cluster_refusals.written(*part, &key);
        }
        let refused = std::mem::take(&mut applied.refused);
        let first_is_told = plan.obstacles.is_empty();
        let wait = remember_refusals(&ctx, &cluster, &refused, first_is_told, Instant::now());
        plan.requeue_after = plan.requeue_after.into_iter().chain(wait).min();
        plan.obstacles.extend(refused);
        plan.obstacles.sort_by_key(|obstacle| obstacle.part);
        snapshot = ctx.cache.cluster_snapshot(&key).unwrap_or(snapshot);
        start.explain(&mut snapshot, now);
    }
    let next = status(&snapshot, &link, &plan.obstacles, &before, now);
    // A job and its cluster have the same name.
    let next = with_runner(next, &snapshot, ctx.job_obstacles.last(&key).as_ref(), &before, now);
    let refused = ctx.starts.module_refusals.last(&key).filter(|_| ctx.settings.telemetry().is_on());
    let next = with_modules(next, &snapshot, refused.as_ref(), &before, now);
    let urgency = if next.phase == before.phase { Urgency::Routine } else { Urgency::Phase };
    let unproven = service::is_unproven(&next).then_some(UNPROVEN_SERVICE);
    let late = updating::news_of_late_edit(&snapshot, &before, &next);
    let tell = || late.iter().for_each(|(job, news)| ctx.announce(&**job, news));
    let memory = &ctx.cluster_status;
    let wait = write_status_and_tell(&ctx, memory, &*cluster, &before, next, urgency, tell).await?;
    if let Some(error) = applied.failure {
        return Err(error.into());
    }
    let link = ctx.links.view(&key, cluster.metadata.uid.as_deref());
    let idle = idle::check(&snapshot, &link, Timestamp::now());
    if let Idle::TooLong(since) = idle {
        delete_idle(&ctx, &cluster, since).await?;
        return Ok(Action::await_change());
    }
    let idle = match idle {
        Idle::Until(wait) => Some(wait),
        Idle::No | Idle::TooLong(_) => None,
    };
    // An object of an earlier owner is seen to go by its watch, unless it lost the labels that are watched.
    let going = |obstacle: &PartObstacle| obstacle.obstacle.reason == Reason::WaitingForDeletion;
    let again = plan.obstacles.iter().any(going).then_some(GOING);
    let changed = applied.changed.then_some(CHANGED);
    let claimed = claim.retry_after();
    let waits = [plan.requeue_after, wait, again, changed, unproven, idle, start.look_again, claimed];
    let requeue = waits.into_iter().flatten().min();
    Ok(requeue.map_or_else(Action::await_change, Action::requeue))
}

/// Remembers what was refused; returns how soon the first of it is to be tried again. The first obstacle of a condition
/// is told by an Event of the condition's; the others are told here. The same words are not told twice.
fn remember_refusals(
    ctx: &Context,
    cluster: &DaskCluster,
    refused: &[PartObstacle],
    first_is_told: bool,
    now: Instant,
) -> Option<Duration> {
    let key = ObjectKey::of(cluster);
    let mut waits = Vec::new();
    for (number, PartObstacle { part, obstacle }) in refused.iter().enumerate() {
        let (wait, news) = ctx.cluster_refusals.refused(*part, &key, &cluster.metadata, obstacle, now);
        waits.push(wait);
        if news && (number > 0 || !first_is_told) {
            let message = obstacle.message.clone();
            let warning = obstacle.reason.is_problem();
            ctx.announce(cluster, &Announcement { reason: obstacle.reason, message, warning });
        }
    }
    waits.into_iter().min()
}

/// Deletes a cluster that has been idle for too long; its objects go with it.
async fn delete_idle(ctx: &Context, cluster: &DaskCluster, since: Timestamp) -> Result<(), WriteError> {
    let (key, timeout) = (ObjectKey::of(cluster), cluster.spec.idle_timeout);
    ctx.writer.delete::<DaskCluster>(&key, &cluster.uid().unwrap_or_default(), Lane::Urgent).await?;
    // Only now: a policy may have refused it.
    let message =
        format!("deleted, because its scheduler has been idle since {since}: for more than {timeout} s");
    ctx.announce(cluster, &Announcement { reason: Reason::IdleTimeout, message, warning: false });
    info!(cluster = %key, %since, timeout, "idle cluster deleted");
    Ok(())
}
