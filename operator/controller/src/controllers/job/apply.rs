//! Carrying out the plan for a job.

use dask_operator_api::labels::SCHEDULER_GATE;
use dask_operator_api::{DaskCluster, DaskJob};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use tracing::info;

use crate::cluster_cache::{ObjectKey, WirePod};
use crate::context::Context;
use crate::controllers::Obstacle;
use crate::controllers::reconcile::refusal;
use crate::writer::{Creation, Lane, WriteError};

/// What came of a creation.
pub(super) enum Created {
    /// All is there.
    All,
    /// An object is there that the watch has not shown yet; it will say whose it is.
    Unseen,
    /// The API server refused, or the name is taken.
    Not(Obstacle),
}

/// Creates the cluster, then the runner; the first refusal ends it.
pub(super) async fn create(
    ctx: &Context,
    job: &DaskJob,
    cluster: Option<&DaskCluster>,
    runner: Option<&Pod>,
) -> Result<Created, WriteError> {
    let key = ObjectKey::of(job);
    if let Some(cluster) = cluster {
        // Clusters are watched whatever their labels are.
        match ctx.writer.create(cluster, Lane::Urgent).await {
            Ok(Creation::Created(cluster)) => {
                ctx.cache.created_cluster(&cluster);
                info!(job = %key, "cluster of the job created");
            }
            Ok(Creation::AlreadyExists) => return Ok(Created::Unseen),
            Err(error) => return refusal(error).map(Created::Not),
        }
    }
    let Some(runner) = runner else { return Ok(Created::All) };
    let pod = ObjectKey::of(runner);
    match ctx.writer.create_pod(&pod, serde_json::to_vec(runner)?, Lane::Urgent).await {
        Ok(Creation::Created(created)) => {
            ctx.cache.created_pod(&created);
            info!(job = %key, pod = %pod.name, "runner pod created");
            Ok(Created::All)
        }
        Ok(Creation::AlreadyExists) => match existing_runner(ctx, job).await? {
            Some(existing) if belongs(&existing, job) => {
                ctx.cache.created_pod(&existing);
                Ok(Created::All)
            }
            Some(existing) => {
                let owner = existing.metadata.controller_uid.as_deref();
                Ok(Created::Not(Obstacle::name_taken("DaskJob", "Pod", &pod.name, owner)))
            }
            None => Ok(Created::Unseen),
        },
        Err(error) => refusal(error).map(Created::Not),
    }
}

/// Takes the scheduling gate off the runner, so that its program starts; returns what the API server refused. Gates of
/// others stay, so the one is named that goes. That the runner changed or is gone, its watch shows.
pub(super) async fn start_runner(
    ctx: &Context,
    job: &DaskJob,
    uid: &str,
) -> Result<Option<Obstacle>, WriteError> {
    let patch = json!({
        "metadata": {"uid": uid},
        "spec": {"schedulingGates": [{"$patch": "delete", "name": SCHEDULER_GATE}]},
    });
    let key = ObjectKey::of(job);
    match ctx.writer.strategic_merge_patch::<WirePod>(&key.runner(), &patch, Lane::Urgent).await {
        Ok(pod) => {
            ctx.cache.created_pod(&pod);
            info!(job = %key, pod = %key.runner().name, "the scheduler answers; the runner may start");
            Ok(None)
        }
        Err(WriteError::NotFound { .. } | WriteError::Conflict { .. }) => Ok(None),
        Err(error) => refusal(error).map(Some),
    }
}

/// Whether the job's own runner still exists. If so, the cache is told.
pub(super) async fn runner_exists(ctx: &Context, job: &DaskJob) -> Result<bool, WriteError> {
    let pod = existing_runner(ctx, job).await?.filter(|pod| belongs(pod, job));
    if let Some(pod) = &pod {
        ctx.cache.created_pod(pod);
    }
    Ok(pod.is_some())
}

async fn existing_runner(ctx: &Context, job: &DaskJob) -> Result<Option<WirePod>, WriteError> {
    let key = ObjectKey::of(job);
    match ctx.writer.get::<WirePod>(&key.runner(), Lane::Urgent).await {
        Ok(pod) => Ok(Some(pod)),
        Err(WriteError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn belongs(pod: &WirePod, job: &DaskJob) -> bool {
    pod.metadata.controller_uid.is_some() && pod.metadata.controller_uid == job.uid()
}
