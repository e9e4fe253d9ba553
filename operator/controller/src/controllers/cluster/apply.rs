//! Carrying out the plan for a cluster.

use dask_operator_api::labels::TELEMETRY;
use dask_operator_api::{DaskCluster, DaskWorkerGroup, Reason};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::info;

use super::build;
use super::decide::still_stands;
use super::modules::{self, Stored};
use super::plan::{ClusterPlan, Part, PartObstacle, RollCause, SchedulerWrites};
use crate::cluster_cache::ObjectKey;
use crate::context::Context;
use crate::controllers::announce::Announcement;
use crate::controllers::obstacle::Obstacle;
use crate::controllers::reconcile::refusal;
use crate::pods::invocation::{self, Role};
use crate::writer::{Creation, Lane, WriteError};

/// What ends the writing of a part early.
enum Stop {
    /// What it was planned on is true no more.
    Changed,
    Obstacle(Obstacle),
    Error(WriteError),
}

impl From<WriteError> for Stop {
    fn from(error: WriteError) -> Self {
        Self::Error(error)
    }
}

/// What came of a plan.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Parts of which nothing is left to be written.
    pub(super) written: Vec<Part>,
    /// What was refused, or met a stranger's object.
    pub(super) refused: Vec<PartObstacle>,
    /// Something had changed before it could be written, so that it has to be looked at again.
    pub(super) changed: bool,
    /// The first failure that is worth another try soon.
    pub(super) failure: Option<WriteError>,
    /// What became of the ConfigMap, if it was to be stored. That it is refused keeps nothing back but the modules.
    pub(super) modules: Option<Stored>,
}

impl Applied {
    /// Notes what came of a part; whether it is written.
    fn note(&mut self, part: Part, result: Result<(), Stop>) -> bool {
        match result {
            Ok(()) => {
                self.written.push(part);
                return true;
            }
            Err(Stop::Obstacle(obstacle)) => self.refused.push(PartObstacle::new(part, obstacle)),
            Err(Stop::Changed | Stop::Error(WriteError::Conflict { .. })) => self.changed = true,
            Err(Stop::Error(error)) => match refusal(error) {
                Ok(obstacle) => self.refused.push(PartObstacle::new(part, obstacle)),
                Err(error) => {
                    self.failure.get_or_insert(error);
                }
            },
        }
        false
    }

    fn join(mut self, other: Self) -> Self {
        self.written.extend(other.written);
        self.refused.extend(other.refused);
        Self {
            changed: self.changed || other.changed,
            failure: self.failure.or(other.failure),
            modules: self.modules.or(other.modules),
            ..self
        }
    }
}

/// Writes what is planned. What is refused, or fails, keeps no other part from being written.
///
/// The Service and what runs behind it are made at the same time: an API server gives addresses to Services one after
/// the other, so when many clusters come at once, that is what they wait for. The group comes after both.
pub(super) async fn apply(ctx: &Context, cluster: &DaskCluster, plan: &ClusterPlan) -> Applied {
    // To the end, also if the other one fails: a call that is under way is not broken off.
    let (service, scheduler) =
        tokio::join!(write_service(ctx, cluster, plan), write_scheduler(ctx, cluster, plan));
    let mut applied = Applied::default();
    applied.note(Part::Service, service);
    let mut applied = applied.join(scheduler);
    applied.note(Part::DefaultGroup, write_default_group(ctx, cluster, plan).await);
    applied.refused.sort_by_key(|refused| refused.part);
    applied
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

/// The ConfigMap that the pods mount, then the Deployment: without modules, where there is no ConfigMap.
async fn write_scheduler(ctx: &Context, cluster: &DaskCluster, plan: &ClusterPlan) -> Applied {
    let mut applied = Applied::default();
    if let Some(wanted) = &plan.config_map {
        match modules::store(ctx, cluster, wanted, plan.was_stored).await {
            Ok(stored) => applied.modules = Some(stored),
            Err(error) => {
                applied.note(Part::ConfigMap, Err(error.into()));
                return applied;
            }
        }
    }
    let without_digest;
    let planned = match &applied.modules {
        Some(Stored::Missing(_)) => &plan.without_modules,
        Some(Stored::Outdated(_)) => {
            without_digest = plan.scheduler.clone().without(TELEMETRY);
            &without_digest
        }
        _ => &plan.scheduler,
    };
    applied.note(Part::Deployment, write_deployment(ctx, cluster, planned).await);
    applied
}

async fn write_deployment(
    ctx: &Context,
    cluster: &DaskCluster,
    planned: &SchedulerWrites,
) -> Result<(), Stop> {
    let owner = ObjectKey::of(cluster);
    let key = &owner.scheduler();
    let (writer, cache) = (&ctx.writer, &ctx.cache);
    if let Some(deployment) = &planned.create {
        let deployment = create(ctx, cluster, &**deployment).await?;
        cache.created_deployment(&deployment);
        info!(cluster = %owner, deployment = %key.name, "scheduler deployment created");
    }
    if let Some(patch) = &planned.patch {
        let deployment: Deployment = writer.merge_patch(key, patch, Lane::Urgent).await?;
        cache.created_deployment(&deployment);
        info!(cluster = %owner, deployment = %key.name, "scheduler deployment updated");
    }
    if let Some(roll) = &planned.roll {
        let live: Deployment = writer.get(key, Lane::Urgent).await?;
        let Some(snapshot) = cache.cluster_snapshot(&owner) else { return Err(Stop::Changed) };
        let link = ctx.links.view(&owner, cluster.metadata.uid.as_deref());
        if !still_stands(roll.cause, &snapshot, &link, Timestamp::now()) {
            return Err(Stop::Changed);
        }
        let patch = build::template_patch(&live, &roll.wanted);
        let deployment: Deployment = writer.merge_patch(key, &patch, Lane::Urgent).await?;
        cache.created_deployment(&deployment);
        info!(cluster = %owner, deployment = %key.name, cause = ?roll.cause, "scheduler is made anew");
        if roll.cause == RollCause::CommandMissing {
            ctx.announce(cluster, &command_replaced(cluster));
        }
    }
    Ok(())
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
