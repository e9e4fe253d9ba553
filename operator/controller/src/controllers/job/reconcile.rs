//! One reconciliation of a job: observe → decide → apply → status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dask_operator_api::labels::CLUSTER_NAME;
use dask_operator_api::{DaskCluster, DaskJob, DaskJobStatus, JobStatus, Reason};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::apply::{self, Created};
use super::build;
use super::decide::{Inputs, decide};
use super::plan::{Ending, Step};
use super::status::{final_status, status};
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::records::resource_version;
use crate::cluster_cache::snapshot::JobSnapshot;
use crate::context::Context;
use crate::controllers::Obstacle;
use crate::controllers::announce::Announcement;
use crate::controllers::obstacle::Purpose;
use crate::controllers::reconcile::{self, ReconcileError, write_status};
use crate::controllers::status_writer::Urgency;
use crate::controllers::takeover::take_over;
use crate::writer::{Lane, WriteError};

/// How soon to look for an object that exists but was not shown by its watch.
const UNSEEN: Duration = Duration::from_secs(1);

/// Runs the controller until `shutdown`.
pub async fn run(store: Store<DaskJob>, ctx: Arc<Context>, shutdown: CancellationToken) {
    let triggers = ctx.cache.job_triggers();
    let forget = |ctx: &Context, key: &ObjectKey| {
        ctx.claims.jobs.clear(key);
        ctx.job_obstacles.clear(key);
        ctx.job_status.forget(key);
        ctx.backoff.reset("DaskJob", key);
    };
    reconcile::run(store, triggers, ctx, shutdown, forget, reconcile_job).await;
}

async fn reconcile_job(job: Arc<DaskJob>, ctx: Arc<Context>) -> Result<Action, ReconcileError> {
    let key = ObjectKey::of(&*job);
    let Some(snapshot) = ctx.cache.job_snapshot(&key) else { return Ok(Action::await_change()) };
    let job = snapshot.job.clone();
    let now = reconcile::now();
    let uid = job.uid().unwrap_or_default();
    let mut before = ctx.job_status.newest(&key, &uid, resource_version(&job.metadata), job.status.as_ref());
    let standing = ctx.job_obstacles.standing(&key, &job.metadata, Purpose::Creation, Instant::now());
    let cluster_uid = snapshot.cluster.as_ref().and_then(|cluster| cluster.uid());
    let link = ctx.links.view(&key, cluster_uid.as_deref());
    let plan = decide(&snapshot, &before, &Inputs { standing: standing.as_ref(), link: &link }, now);
    let claim = take_over(&ctx, &ctx.claims.jobs, &*job).await?;
    if job.metadata.deletion_timestamp.is_some() {
        return Ok(claim.retry_after().map_or_else(Action::await_change, Action::requeue));
    }
    if before.job_status.is_none() {
        before = greet(&ctx, &snapshot, &before).await?;
    }

    let (mut obstacle, mut requeue, mut refused) = (plan.obstacle, plan.requeue_after, None);
    match plan.step {
        Step::Wait => {}
        Step::Create { cluster, runner } => {
            if cluster.is_some() {
                tell_corrected_selector(&ctx, &job);
            }
            match apply::create(&ctx, &job, cluster.as_deref(), runner.as_deref()).await? {
                Created::All => {}
                Created::Unseen => requeue = Some(UNSEEN),
                Created::Not(obstacle) => refused = Some(obstacle),
            }
        }
        Step::StartRunner { uid } => {
            refused = apply::start_runner(&ctx, &job, &uid).await?;
            requeue = Some(UNSEEN);
        }
        Step::Finish { cluster, ending } => {
            if let Some(ending) = &ending
                && ending.vanished
                && apply::runner_exists(&ctx, &job).await?
            {
                return Ok(Action::requeue(UNSEEN));
            }
            finish(&ctx, &snapshot, &before, cluster.as_deref(), ending).await?;
            return Ok(Action::await_change());
        }
    }
    if let Some(refused) = refused {
        let told = ctx.job_obstacles.last(&key);
        let (object, now) = (&job.metadata, Instant::now());
        requeue = Some(ctx.job_obstacles.refused(&key, object, Purpose::Creation, refused.clone(), now));
        tell_obstacle(&ctx, &job, told.as_ref(), &refused);
    } else {
        remember_obstacle(&ctx, &job, obstacle.take());
    }
    let current = ctx.cache.job_snapshot(&key).unwrap_or(snapshot);
    write(&ctx, &job, &before, status(&current, &before)).await?;
    let requeue = requeue.into_iter().chain(claim.retry_after()).min();
    Ok(requeue.map_or_else(Action::await_change, Action::requeue))
}

/// Tells that the Service of the job's cluster will select another scheduler than the job's author wrote.
fn tell_corrected_selector(ctx: &Context, job: &DaskJob) {
    let Ok(name) = job.name_any().parse() else { return };
    let Some(foreign) = build::foreign_selector(job, &name) else { return };
    let message = format!(
        "spec.cluster.spec.scheduler.service.selector asks for {CLUSTER_NAME}={foreign}, which is no pod of this job; \
         its cluster has {CLUSTER_NAME}={name} instead"
    );
    let news = Announcement { reason: Reason::SelectorCorrected, message, warning: false };
    ctx.announce(job, &news);
}

/// A new job shows at once that it was seen, before anything is made for it.
async fn greet(
    ctx: &Context,
    snapshot: &JobSnapshot,
    before: &DaskJobStatus,
) -> Result<DaskJobStatus, WriteError> {
    let unmade = JobSnapshot { cluster: None, runner: None, ..snapshot.clone() };
    let first = status(&unmade, before);
    write(ctx, &snapshot.job, before, first.clone()).await?;
    info!(job = %ObjectKey::of(&*snapshot.job), "A DaskJob has been created");
    let message = "the job was seen; its cluster and its runner pod are made next".to_owned();
    ctx.announce(&*snapshot.job, &Announcement { reason: Reason::JobCreated, message, warning: false });
    Ok(first)
}

/// Deletes the cluster, then says how the job ended: who reads the final status finds the cluster gone.
async fn finish(
    ctx: &Context,
    snapshot: &JobSnapshot,
    before: &DaskJobStatus,
    cluster: Option<&str>,
    ending: Option<Ending>,
) -> Result<(), WriteError> {
    let job = &snapshot.job;
    let key = ObjectKey::of(&**job);
    match ending.as_ref().map(|ending| ending.status) {
        Some(JobStatus::Successful) => info!(job = %key, "Job succeeded, deleting Dask cluster."),
        Some(_) => info!(job = %key, "Job failed, deleting Dask cluster."),
        None => {}
    }
    if let Some(uid) = cluster {
        ctx.writer.delete::<DaskCluster>(&key, uid, Lane::Urgent).await?;
    }
    let Some(ending) = ending else { return Ok(()) };
    let warning = ending.reason.is_problem();
    let message = ending.message.clone();
    ctx.announce(&**job, &Announcement { reason: ending.reason, message, warning });
    ctx.job_obstacles.clear(&key);
    write(ctx, job, before, final_status(snapshot, before, &ending)).await
}

async fn write(
    ctx: &Context,
    job: &DaskJob,
    before: &DaskJobStatus,
    next: DaskJobStatus,
) -> Result<(), WriteError> {
    // Few writes in a job's life, each of which somebody waits for.
    write_status(ctx, &ctx.job_status, job, before, next, Urgency::AtOnce).await.map(drop)
}

/// Keeps what was observed to stand in the way, and tells of it if it is new. The status has no place for it.
fn remember_obstacle(ctx: &Context, job: &DaskJob, obstacle: Option<Obstacle>) {
    let key = ObjectKey::of(job);
    let told = ctx.job_obstacles.last(&key);
    match obstacle {
        Some(obstacle) if told.as_ref() == Some(&obstacle) => {}
        Some(obstacle) => {
            let (object, now) = (&job.metadata, Instant::now());
            ctx.job_obstacles.observed(&key, object, Purpose::Creation, obstacle.clone(), now);
            tell_obstacle(ctx, job, told.as_ref(), &obstacle);
        }
        None if told.is_some() => {
            ctx.job_obstacles.clear(&key);
            ctx.cache.wake_cluster(&key);
        }
        None => {}
    }
}

fn tell_obstacle(ctx: &Context, job: &DaskJob, told: Option<&Obstacle>, obstacle: &Obstacle) {
    if told.is_none_or(|told| told.reason != obstacle.reason) {
        let (reason, message) = (obstacle.reason, obstacle.message.clone());
        info!(job = %ObjectKey::of(job), %reason, message, "job cannot go on");
        ctx.announce(job, &Announcement { reason, message, warning: reason.is_problem() });
        ctx.cache.wake_cluster(&ObjectKey::of(job));
    }
}
