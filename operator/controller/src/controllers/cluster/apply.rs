//! Carrying out the plan for a cluster.

use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::info;

use super::build;
use super::plan::ClusterPlan;
use crate::cluster_cache::ObjectKey;
use crate::context::Context;
use crate::controllers::obstacle::Obstacle;
use crate::controllers::reconcile::refusal;
use crate::pods::telemetry;
use crate::writer::{Creation, Lane, WriteError};

/// What ends the writing early.
enum Stop {
    Obstacle(Obstacle),
    Error(WriteError),
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Self {
        Self::Error(error)
    }
}

/// Writes what is planned; a refusal keeps what comes after it from being written, and is returned.
pub(super) async fn apply(
    ctx: &Context,
    cluster: &DaskCluster,
    plan: &ClusterPlan,
) -> Result<Option<Obstacle>, WriteError> {
    match write(ctx, cluster, plan).await {
        Ok(()) => Ok(None),
        Err(Stop::Obstacle(obstacle)) => Ok(Some(obstacle)),
        Err(Stop::Error(error)) => refusal(error).map(Some),
    }
}

/// Creates an object, or reads the one that has its name already: made by an earlier try whose reply was lost, or
/// somebody else's, which a watch does not show if it lacks our labels.
async fn create<K>(ctx: &Context, cluster: &DaskCluster, object: &K) -> Result<K, Stop>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned,
{
    if let Creation::Created(created) = ctx.writer.create(object, Lane::Urgent).await? {
        return Ok(*created);
    }
    let existing: K = ctx.writer.get(&ObjectKey::of(object), Lane::Urgent).await?;
    let owner = existing.owner_references().iter().find(|owner| owner.controller == Some(true));
    let owner_uid = owner.map(|owner| owner.uid.as_str());
    if owner_uid == cluster.metadata.uid.as_deref() {
        return Ok(existing);
    }
    Err(Stop::Obstacle(Obstacle::name_taken("DaskCluster", &K::kind(&()), &existing.name_any(), owner_uid)))
}

/// The Service and what runs behind it are made at the same time: an API server gives addresses to Services one after
/// the other, so when many clusters come at once, that is what they wait for. The group comes after both.
async fn write(ctx: &Context, cluster: &DaskCluster, plan: &ClusterPlan) -> Result<(), Stop> {
    // To the end, also if the other one fails: a call that is under way is not broken off.
    let (service, scheduler) =
        tokio::join!(write_service(ctx, cluster, plan), write_scheduler(ctx, cluster, plan));
    service?;
    scheduler?;
    write_default_group(ctx, cluster, plan).await
}

async fn write_service(ctx: &Context, cluster: &DaskCluster, plan: &ClusterPlan) -> Result<(), Stop> {
    let owner = ObjectKey::of(cluster);
    let key = &owner.scheduler();
    if let Some(service) = &plan.service {
        let service = create(ctx, cluster, &**service).await?;
        ctx.cache.created_service(&service);
        info!(cluster = %owner, service = %key.name, "scheduler service created");
    }
    if let Some(patch) = &plan.service_patch {
        let service: Service = ctx.writer.merge_patch(key, patch, Lane::Urgent).await?;
        ctx.cache.created_service(&service);
        info!(cluster = %owner, service = %key.name, "scheduler service updated");
    }
    Ok(())
}

/// The ConfigMap that the pods mount, and the Deployment.
async fn write_scheduler(ctx: &Context, cluster: &DaskCluster, plan: &ClusterPlan) -> Result<(), Stop> {
    let owner = ObjectKey::of(cluster);
    let key = &owner.scheduler();
    let (writer, cache) = (&ctx.writer, &ctx.cache);
    if let Some(wanted) = &plan.config_map {
        let existing = create(ctx, cluster, &**wanted).await?;
        if !telemetry::is_current(existing.data.as_ref()) {
            let patch = json!({"data": wanted.data});
            writer.merge_patch::<ConfigMap>(&ObjectKey::of(&**wanted), &patch, Lane::Urgent).await?;
        }
        info!(cluster = %owner, "preload modules stored");
    }
    if let Some(deployment) = &plan.deployment {
        let deployment = create(ctx, cluster, &**deployment).await?;
        cache.created_deployment(&deployment);
        info!(cluster = %owner, deployment = %key.name, "scheduler deployment created");
    }
    if let Some(patch) = &plan.deployment_patch {
        let deployment: Deployment = writer.merge_patch(key, patch, Lane::Urgent).await?;
        cache.created_deployment(&deployment);
        info!(cluster = %owner, deployment = %key.name, "scheduler deployment updated");
    }
    if let Some(roll) = &plan.roll {
        let live: Deployment = writer.get(key, Lane::Urgent).await?;
        let patch = build::template_patch(&live, &roll.wanted);
        let deployment: Deployment = writer.merge_patch(key, &patch, Lane::Urgent).await?;
        cache.created_deployment(&deployment);
        info!(cluster = %owner, deployment = %key.name, "scheduler is made anew from its edited template");
    }
    Ok(())
}

async fn write_default_group(ctx: &Context, cluster: &DaskCluster, plan: &ClusterPlan) -> Result<(), Stop> {
    let owner = ObjectKey::of(cluster);
    // Groups are watched whatever their labels are, so one that exists already is seen there.
    if let Some(group) = &plan.default_group
        && let Creation::Created(group) = ctx.writer.create(&**group, Lane::Urgent).await?
    {
        ctx.cache.created_group(&group);
        info!(cluster = %owner, "default worker group created");
    }
    if let Some(patch) = &plan.default_group_patch {
        let group: DaskWorkerGroup =
            ctx.writer.merge_patch(&owner.default_group(), patch, Lane::Urgent).await?;
        ctx.cache.created_group(&group);
        info!(cluster = %owner, "default worker group updated");
    }
    Ok(())
}
