//! Carrying out the plan for a group.

use dask_operator_api::DaskWorkerGroup;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tracing::info;

use super::batches::in_batches;
use super::build::WorkerTemplate;
use super::decide::{GroupPlan, Removal};
use crate::cluster_cache::{ObjectKey, WirePod};
use crate::context::Context;
use crate::controllers::obstacle::Obstacle;
use crate::controllers::reconcile::{ReconcileError, refusal};
use crate::writer::{Creation, Lane, WriteError};

/// Makes the group a child of its cluster.
pub(super) async fn adopt(ctx: &Context, key: &ObjectKey, plan: &GroupPlan) -> Result<(), WriteError> {
    if let Some(patch) = &plan.adoption {
        ctx.writer.merge_patch::<DaskWorkerGroup>(key, patch, Lane::Urgent).await?;
        info!(group = %key, "worker group adopted by its cluster");
    }
    Ok(())
}

/// Creates the planned workers; returns how many, and what the API server refused.
pub(super) async fn create(
    ctx: &Context,
    key: &ObjectKey,
    template: &WorkerTemplate,
    ordinals: &[i64],
) -> Result<(usize, Option<Obstacle>), ReconcileError> {
    let outcome = in_batches(ordinals.to_vec(), |ordinal| create_one(ctx, key, template, ordinal)).await;
    let refused = outcome.failure.map(refusal).transpose()?;
    Ok((outcome.done, refused))
}

async fn create_one(
    ctx: &Context,
    key: &ObjectKey,
    template: &WorkerTemplate,
    ordinal: i64,
) -> Result<(), WriteError> {
    let worker = key.sibling(template.name(ordinal));
    match ctx.writer.create_pod(&worker, template.pod(ordinal), Lane::Bulk).await {
        Ok(Creation::Created(pod)) => ctx.cache.created_pod(&pod),
        // An earlier try whose reply was lost had succeeded.
        Ok(Creation::AlreadyExists) => {
            let pod: WirePod = ctx.writer.get(&worker, Lane::Urgent).await?;
            ctx.cache.created_pod(&pod);
        }
        Err(error) => {
            if matches!(error, WriteError::Unanswered { .. }) {
                ctx.cache.unanswered(key, ordinal);
            }
            return Err(error);
        }
    }
    ctx.cache.answered(key, ordinal);
    Ok(())
}

/// Deletes these workers, each only if it is still the pod that was meant.
pub(super) async fn remove(
    ctx: &Context,
    group: &DaskWorkerGroup,
    removals: &[Removal],
) -> Result<(), WriteError> {
    let namespace = group.namespace().unwrap_or_default();
    let deletions = removals.iter().map(|removal| async {
        let key = ObjectKey::new(namespace.as_str(), removal.name.as_str());
        ctx.writer.delete::<Pod>(&key, &removal.uid, Lane::Bulk).await?;
        ctx.cache.deleted_pod(&namespace, &removal.name, &removal.uid);
        Ok::<(), WriteError>(())
    });
    try_join_all(deletions).await.map(|_| ())
}
