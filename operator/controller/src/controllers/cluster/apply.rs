//! Carrying out the plan for a cluster.

use dask_operator_api::DaskWorkerGroup;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use tracing::info;

use super::plan::ClusterPlan;
use crate::cluster_cache::ObjectKey;
use crate::context::Context;
use crate::controllers::obstacle::Obstacle;
use crate::controllers::reconcile::refusal;
use crate::writer::{Creation, Lane, WriteError};

/// Writes what is planned, in order; the first refusal ends it and is returned.
///
/// An object that already exists although the cache did not show it is seen on its watch soon; nothing is lost
/// by taking it for made.
pub(super) async fn apply(
    ctx: &Context,
    key: &ObjectKey,
    plan: &ClusterPlan,
) -> Result<Option<Obstacle>, WriteError> {
    match write(ctx, key, plan).await {
        Ok(()) => Ok(None),
        Err(error) => refusal(error).map(Some),
    }
}

async fn write(ctx: &Context, key: &ObjectKey, plan: &ClusterPlan) -> Result<(), WriteError> {
    let scheduler = key.sibling(format!("{}-scheduler", key.name));
    let group = key.sibling(format!("{}-default", key.name));
    let (writer, cache) = (&ctx.writer, &ctx.cache);
    if let Some(service) = &plan.service
        && let Creation::Created(service) = writer.create(&**service, Lane::Urgent).await?
    {
        cache.created_service(&service);
        info!(cluster = %key, service = %scheduler.name, "scheduler service created");
    }
    if let Some(patch) = &plan.service_patch {
        let service: Service = writer.merge_patch(&scheduler, patch, Lane::Urgent).await?;
        cache.created_service(&service);
        info!(cluster = %key, service = %scheduler.name, "scheduler service updated");
    }
    if let Some(deployment) = &plan.deployment
        && let Creation::Created(deployment) = writer.create(&**deployment, Lane::Urgent).await?
    {
        cache.created_deployment(&deployment);
        info!(cluster = %key, deployment = %scheduler.name, "scheduler deployment created");
    }
    if let Some(patch) = &plan.deployment_patch {
        let deployment: Deployment = writer.merge_patch(&scheduler, patch, Lane::Urgent).await?;
        cache.created_deployment(&deployment);
        info!(cluster = %key, deployment = %scheduler.name, "scheduler deployment updated");
    }
    if let Some(group) = &plan.default_group
        && let Creation::Created(group) = writer.create(&**group, Lane::Urgent).await?
    {
        cache.created_group(&group);
        info!(cluster = %key, "default worker group created");
    }
    if let Some(patch) = &plan.default_group_patch {
        let group: DaskWorkerGroup = writer.merge_patch(&group, patch, Lane::Urgent).await?;
        cache.created_group(&group);
        info!(cluster = %key, "default worker group updated");
    }
    Ok(())
}
