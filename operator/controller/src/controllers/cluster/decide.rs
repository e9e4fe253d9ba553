//! What a cluster needs next. Pure: no client, no clock.

use dask_operator_api::labels::PROPAGATED_REPLICAS;
use dask_operator_api::{ClusterName, DaskCluster, DaskWorkerGroup, Reason};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::build;
use super::plan::ClusterPlan;
use crate::cluster_cache::records::{DeploymentRecord, ServiceRecord};
use crate::cluster_cache::snapshot::ClusterSnapshot;
use crate::controllers::Obstacle;
use crate::controllers::obstacle::StandingRefusal;

/// Decides what to write for a cluster.
///
/// The scheduler's objects come before the default group, so that workers cannot take the room that a quota
/// leaves for the scheduler.
#[must_use]
pub fn decide(snapshot: &ClusterSnapshot, standing: Option<&StandingRefusal>) -> ClusterPlan {
    let cluster = &*snapshot.cluster;
    if cluster.metadata.deletion_timestamp.is_some() {
        return ClusterPlan::default();
    }
    let name: ClusterName = match cluster.name_any().parse() {
        Ok(name) => name,
        Err(error) => {
            return ClusterPlan {
                obstacle: Some(Obstacle::new(Reason::InvalidName, format!("{error}"))),
                ..ClusterPlan::default()
            };
        }
    };
    if let Some(refusal) = standing {
        return ClusterPlan {
            obstacle: Some(refusal.obstacle.clone()),
            requeue_after: Some(refusal.wait),
            ..ClusterPlan::default()
        };
    }
    let mut plan = ClusterPlan::default();
    decide_service(snapshot.service.as_deref(), cluster, &name, &mut plan);
    decide_deployment(snapshot.deployment.as_deref(), cluster, &name, &mut plan);
    decide_default_group(snapshot.default_group.as_deref(), cluster, &name, &mut plan);
    plan
}

fn decide_service(
    live: Option<&ServiceRecord>,
    cluster: &DaskCluster,
    name: &ClusterName,
    plan: &mut ClusterPlan,
) {
    let Some(live) = live else {
        plan.service = Some(Box::new(build::scheduler_service(cluster, name)));
        return;
    };
    if live.terminating {
        return;
    }
    if live.owner_uid.as_deref() == cluster.metadata.uid.as_deref() {
        plan.service_patch = build::service_patch(&cluster.spec.scheduler.service, &live.spec);
    } else {
        plan.obstacle = Some(name_taken("Service", &live.name, live.owner_uid.as_deref()));
    }
}

fn decide_deployment(
    live: Option<&DeploymentRecord>,
    cluster: &DaskCluster,
    name: &ClusterName,
    plan: &mut ClusterPlan,
) {
    let Some(live) = live else {
        plan.deployment = Some(Box::new(build::scheduler_deployment(cluster, name)));
        return;
    };
    if live.terminating {
        return;
    }
    if live.owner_uid.as_deref() != cluster.metadata.uid.as_deref() {
        plan.obstacle = Some(name_taken("Deployment", &live.name, live.owner_uid.as_deref()));
    } else if !live.recreates {
        // Made by dask-kubernetes; changing the strategy alone restarts nothing.
        plan.deployment_patch =
            Some(json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}));
    }
}

fn decide_default_group(
    live: Option<&DaskWorkerGroup>,
    cluster: &DaskCluster,
    name: &ClusterName,
    plan: &mut ClusterPlan,
) {
    let Some(live) = live else {
        plan.default_group = Some(Box::new(build::default_group(cluster, name)));
        return;
    };
    if live.metadata.deletion_timestamp.is_some() {
        return;
    }
    let earlier = live.owner_references().iter().find(|owner| owner.controller == Some(true));
    let earlier = earlier.filter(|owner| Some(&owner.uid) != cluster.metadata.uid.as_ref());
    if let Some(owner) = earlier {
        plan.obstacle = Some(name_taken("DaskWorkerGroup", &live.name_any(), Some(&owner.uid)));
    } else if live.spec.cluster == cluster.name_any() {
        plan.default_group_patch = default_group_patch(live, cluster);
    } else {
        plan.obstacle = Some(name_taken("DaskWorkerGroup", &live.name_any(), None));
    }
}

/// Hands a *change* of the cluster's number of workers on to the default group.
///
/// Clients scale the group, not the cluster, so the cluster's number counts only when it is edited. The number
/// that was handed on last is kept on the group and written together with the group's own, so that a stop
/// between the two is impossible. A group that was made by dask-kubernetes has none: it is adopted as it is.
fn default_group_patch(group: &DaskWorkerGroup, cluster: &DaskCluster) -> Option<Value> {
    let wanted = cluster.spec.worker.replicas;
    let mut patch = json!({});
    let propagated = group.annotations().get(PROPAGATED_REPLICAS);
    if propagated.is_none_or(|number| *number != wanted.to_string()) {
        patch["metadata"]["annotations"][PROPAGATED_REPLICAS] = json!(wanted.to_string());
        if propagated.is_some() && group.spec.worker.replicas != wanted {
            patch["spec"]["worker"]["replicas"] = json!(wanted);
        }
    }
    patch.as_object().is_some_and(|fields| !fields.is_empty()).then_some(patch)
}

/// Somebody else's object has the name: a stranger's, or one of an earlier cluster that is being collected.
pub(super) fn name_taken(kind: &str, name: &str, owner_uid: Option<&str>) -> Obstacle {
    if owner_uid.is_some() {
        let message = format!("{kind} \"{name}\" belongs to an earlier owner and has to be deleted first");
        return Obstacle::new(Reason::WaitingForDeletion, message);
    }
    Obstacle::new(
        Reason::NameTaken,
        format!(
            "{kind} \"{name}\" exists but does not belong to this DaskCluster; delete or rename it, or create the \
             DaskCluster under another name"
        ),
    )
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
