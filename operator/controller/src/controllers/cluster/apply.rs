//! Carrying out the plan for a cluster.

use dask_operator_api::labels::TELEMETRY;
use dask_operator_api::{DaskCluster, DaskWorkerGroup, Reason};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::info;

use super::build;
use super::modules::{self, Stored};
use super::plan::{ClusterPlan, RollCause, SchedulerWrites};
use crate::cluster_cache::ObjectKey;
use crate::context::Context;
use crate::controllers::announce::Announcement;
use crate::controllers::obstacle::Obstacle;
use crate::controllers::reconcile::refusal;
use crate::pods::invocation::{self, Role};
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

/// What was refused.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Why the plan was not carried out to its end.
    pub(super) obstacle: Option<Obstacle>,
    /// What became of the ConfigMap, if it was to be stored.
    pub(super) modules: Option<Stored>,
}

/// Writes what is planned; a refusal keeps what comes after it from being written, and is returned. That of the
/// ConfigMap keeps nothing back but the modules.
pub(super) async fn apply(
    ctx: &Context,
    cluster: &DaskCluster,
    plan: &ClusterPlan,
) -> Result<Applied, WriteError> {
    let obstacle = match write(ctx, cluster, plan).await {
        Ok(modules) => return Ok(Applied { obstacle: None, modules }),
        Err(Stop::Obstacle(obstacle)) => obstacle,
        Err(Stop::Error(error)) => refusal(error)?,
    };
    Ok(Applied { obstacle: Some(obstacle), modules: None })
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
async fn write(ctx: &Context, cluster: &DaskCluster, plan: &ClusterPlan) -> Result<Option<Stored>, Stop> {
    // To the end, also if the other one fails: a call that is under way is not broken off.
    let (service, scheduler) =
        tokio::join!(write_service(ctx, cluster, plan), write_scheduler(ctx, cluster, plan));
    service?;
    let modules = scheduler?;
    write_default_group(ctx, cluster, plan).await?;
    Ok(modules)
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

/// The ConfigMap that the pods mount, and the Deployment: without modules, where there is no ConfigMap.
async fn write_scheduler(
    ctx: &Context,
    cluster: &DaskCluster,
    plan: &ClusterPlan,
) -> Result<Option<Stored>, Stop> {
    let owner = ObjectKey::of(cluster);
    let key = &owner.scheduler();
    let (writer, cache) = (&ctx.writer, &ctx.cache);
    let stored = match &plan.config_map {
        Some(wanted) => Some(modules::store(ctx, cluster, wanted, plan.was_stored).await?),
        None => None,
    };
    let without_digest;
    let chosen = match &stored {
        Some(Stored::Missing(_)) => &plan.without_modules,
        Some(Stored::Outdated(_)) => {
            without_digest = plan.scheduler.clone().without(TELEMETRY);
            &without_digest
        }
        _ => &plan.scheduler,
    };
    let SchedulerWrites { create: wanted, patch, roll } = chosen;
    if let Some(deployment) = wanted {
        let deployment = create(ctx, cluster, &**deployment).await?;
        cache.created_deployment(&deployment);
        info!(cluster = %owner, deployment = %key.name, "scheduler deployment created");
    }
    if let Some(patch) = patch {
        let deployment: Deployment = writer.merge_patch(key, patch, Lane::Urgent).await?;
        cache.created_deployment(&deployment);
        info!(cluster = %owner, deployment = %key.name, "scheduler deployment updated");
    }
    if let Some(roll) = roll {
        let live: Deployment = writer.get(key, Lane::Urgent).await?;
        let patch = build::template_patch(&live, &roll.wanted);
        let deployment: Deployment = writer.merge_patch(key, &patch, Lane::Urgent).await?;
        cache.created_deployment(&deployment);
        info!(cluster = %owner, deployment = %key.name, cause = ?roll.cause, "scheduler is made anew");
        if roll.cause == RollCause::CommandMissing {
            ctx.announce(cluster, &command_replaced(cluster));
        }
    }
    Ok(stored)
}

fn command_replaced(cluster: &DaskCluster) -> Announcement {
    let containers = &cluster.spec.scheduler.spec.containers;
    let container = invocation::main_container(containers, Role::Scheduler);
    let image = container.and_then(|container| container.image.as_deref()).unwrap_or_default();
    let message = format!(
        "image \"{image}\" has no command `dask-scheduler`, which distributed dropped in 2026.6: the scheduler is started \
         by `python -m distributed.cli.dask_scheduler` instead; `dask scheduler` in the template does the same"
    );
    Announcement { reason: Reason::CommandReplaced, message, warning: false }
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
