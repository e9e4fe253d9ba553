//! One reconciliation of a cluster: observe → decide → apply → status.

use std::sync::Arc;

use dask_operator_api::{DaskCluster, Reason};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::apply::apply;
use super::decide::{Inputs, decide};
use super::idle::{self, Idle};
use super::modules::with_modules;
use super::runner::with_runner;
use super::start;
use super::status::status;
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::records::resource_version;
use crate::context::Context;
use crate::controllers::announce::Announcement;
use crate::controllers::reconcile::{self, ReconcileError, write_status};
use crate::controllers::status_writer::Urgency;
use crate::controllers::takeover::take_over;
use crate::writer::{Lane, WriteError};

/// Runs the controller until `shutdown`.
pub async fn run(store: Store<DaskCluster>, ctx: Arc<Context>, shutdown: CancellationToken) {
    let triggers = ctx.cache.take_cluster_triggers();
    let forget = |ctx: &Context, key: &ObjectKey| {
        ctx.cluster_obstacles.clear(key);
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
    take_over(&ctx, &*cluster).await?;
    if cluster.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let now = reconcile::now();
    let uid = cluster.uid().unwrap_or_default();
    let mut before =
        ctx.cluster_status.newest(&key, &uid, resource_version(&cluster.metadata), cluster.status.as_ref());
    let generation = cluster.metadata.generation;
    let standing = ctx.cluster_obstacles.standing(&key, generation, now);
    let link = ctx.links.view(&key);
    let start = start::observe(&ctx, &snapshot, now).await;
    start.explain(&mut snapshot, now);
    let inputs =
        Inputs { standing: standing.as_ref(), form: start.form, modules: start.modules(), link: &link };
    let mut plan = decide(&snapshot, &inputs, now);

    // A new cluster shows at once that it was seen, before anything is made for it.
    if before.phase.is_none() {
        let first = status(&snapshot, &link, plan.obstacle.as_ref(), &before, now);
        write_status(&ctx, &ctx.cluster_status, &*cluster, &before, first.clone(), Urgency::Phase).await?;
        before = first;
    }
    if !plan.is_empty() {
        let applied = apply(&ctx, &cluster, &plan).await?;
        if let Some(stored) = applied.modules {
            plan.requeue_after =
                plan.requeue_after.into_iter().chain(start::stored(&ctx, &key, &stored, now)).min();
        }
        match applied.obstacle {
            Some(obstacle) => {
                let wait = ctx.cluster_obstacles.refused(&key, generation, obstacle.clone(), now);
                plan.requeue_after = Some(wait);
                plan.obstacle = Some(obstacle);
            }
            None => ctx.cluster_obstacles.clear(&key),
        }
        snapshot = ctx.cache.cluster_snapshot(&key).unwrap_or(snapshot);
        start.explain(&mut snapshot, now);
    }
    let next = status(&snapshot, &link, plan.obstacle.as_ref(), &before, now);
    // A job and its cluster have the same name.
    let next = with_runner(next, &snapshot, ctx.job_obstacles.last(&key).as_ref(), &before, now);
    let refused = ctx.starts.module_refusals.last(&key).filter(|_| ctx.settings.telemetry().is_on());
    let next = with_modules(next, &snapshot, refused.as_ref(), &before, now);
    let urgency = if next.phase == before.phase { Urgency::Routine } else { Urgency::Phase };
    let wait = write_status(&ctx, &ctx.cluster_status, &*cluster, &before, next, urgency).await?;
    let idle = idle::check(&cluster, &ctx.links.view(&key), Timestamp::now());
    if let Idle::TooLong(since) = idle {
        delete_idle(&ctx, &cluster, since).await?;
        return Ok(Action::await_change());
    }
    let idle = match idle {
        Idle::Until(wait) => Some(wait),
        Idle::No | Idle::TooLong(_) => None,
    };
    // An object of an earlier owner is seen to go by its watch, unless it lost the labels that are watched.
    let again = plan.obstacle.filter(|obstacle| obstacle.reason == Reason::WaitingForDeletion);
    let again = again.map(|_| std::time::Duration::from_secs(10));
    let requeue =
        plan.requeue_after.into_iter().chain(wait).chain(again).chain(idle).chain(start.look_again).min();
    Ok(requeue.map_or_else(Action::await_change, Action::requeue))
}

/// Deletes a cluster that has been idle for too long; its objects go with it.
async fn delete_idle(ctx: &Context, cluster: &DaskCluster, since: Timestamp) -> Result<(), WriteError> {
    let (key, timeout) = (ObjectKey::of(cluster), cluster.spec.idle_timeout);
    let message =
        format!("deleted, because its scheduler has been idle since {since}: for more than {timeout} s");
    ctx.announce(cluster, &Announcement { reason: Reason::IdleTimeout, message, warning: false });
    ctx.writer.delete::<DaskCluster>(&key, &cluster.uid().unwrap_or_default(), Lane::Urgent).await?;
    info!(cluster = %key, %since, timeout, "idle cluster deleted");
    Ok(())
}
