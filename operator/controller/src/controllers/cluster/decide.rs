//! What a cluster needs next. Pure: no client, no clock.

use std::time::Duration;

use dask_operator_api::labels::{
    METADATA_HASH, PROPAGATED_KEYS, PROPAGATED_REPLICAS, PROPAGATED_TEMPLATE, TELEMETRY, TEMPLATE_HASH,
};
use dask_operator_api::{ClusterName, DaskCluster, DaskWorkerGroup, Reason, SchedulerUpdate};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::build;
use super::plan::{ClusterPlan, Part, PartObstacle, RollCause, SchedulerRoll};
use super::{modules, updating};
use crate::cluster_cache::records::{PodRecord, PodState, ServiceRecord};
use crate::cluster_cache::snapshot::ClusterSnapshot;
use crate::controllers::Obstacle;
use crate::controllers::adoption::is_dask_cluster;
use crate::controllers::obstacle::StandingRefusal;
use crate::pods::form::PodForm;
use crate::pods::telemetry::{self, Telemetry};
use crate::scheduler_link::LinkView;
use crate::writer::diff;

/// How soon to look again for a scheduler that is to be restarted when it has nothing to do.
const IDLE_POLL: Duration = Duration::from_secs(5);

/// What is known besides the watched objects.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Parts whose writes were refused and are not to be tried again yet.
    pub standing: &'a [(Part, StandingRefusal)],
    /// The form in which the scheduler is made, if nothing stands against it.
    pub form: PodForm,
    /// What is known of the ConfigMap that pods mount.
    pub modules: Modules<'a>,
    /// What is known from the scheduler.
    pub link: &'a LinkView,
}

/// What is known of the ConfigMap with the preload modules, besides what the Deployment remembers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modules<'a> {
    /// Its creation, or update, was refused and is not to be tried again yet.
    pub refused: Option<&'a StandingRefusal>,
    /// It was looked for and is not there.
    pub vanished: bool,
}

/// Decides what to write for a cluster.
///
/// The scheduler's objects come before the default group, and the ConfigMap that pods mount before its Deployment. A
/// part that is refused keeps none of the others; workers wait for the scheduler's pod anyhow.
#[must_use]
pub fn decide(snapshot: &ClusterSnapshot, inputs: &Inputs, now: Timestamp) -> ClusterPlan {
    let cluster = &*snapshot.cluster;
    if cluster.metadata.deletion_timestamp.is_some() {
        return ClusterPlan::default();
    }
    let name: ClusterName = match cluster.name_any().parse() {
        Ok(name) => name,
        Err(error) => {
            return ClusterPlan {
                obstacles: vec![PartObstacle::new(
                    Part::Cluster,
                    Obstacle::new(Reason::InvalidName, format!("{error}")),
                )],
                ..ClusterPlan::default()
            };
        }
    };
    let mut plan = ClusterPlan::default();
    decide_service(snapshot.service.as_deref(), cluster, &name, &mut plan);
    decide_deployment(snapshot, &name, inputs, now, &mut plan);
    decide_default_group(snapshot.default_group.as_deref(), cluster, &name, &mut plan);
    withhold_refused(&mut plan, inputs.standing);
    plan
}

/// What was refused waits for its time; everything else is written.
fn withhold_refused(plan: &mut ClusterPlan, standing: &[(Part, StandingRefusal)]) {
    for (part, refusal) in standing {
        if plan.writes(*part) {
            plan.withhold(*part);
            plan.obstacles.push(PartObstacle::new(*part, refusal.obstacle.clone()));
            plan.requeue_after = plan.requeue_after.into_iter().chain([refusal.wait]).min();
        }
    }
}

/// An object that belongs to somebody else has the name of this part.
fn name_taken(plan: &mut ClusterPlan, part: Part, name: &str, owner_uid: Option<&str>) {
    let kind = match part {
        Part::Cluster => "DaskCluster",
        Part::Service => "Service",
        Part::ConfigMap => "ConfigMap",
        Part::Deployment => "Deployment",
        Part::DefaultGroup => "DaskWorkerGroup",
    };
    plan.obstacles.push(PartObstacle::new(part, Obstacle::name_taken("DaskCluster", kind, name, owner_uid)));
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
        plan.service_patch = build::service_patch(&cluster.spec.scheduler.service, &live.spec)
            .map(|patch| at_version(patch, live.resource_version.to_string()));
    } else {
        name_taken(plan, Part::Service, &live.name, live.owner_uid.as_deref());
    }
}

fn decide_deployment(
    snapshot: &ClusterSnapshot,
    name: &ClusterName,
    inputs: &Inputs,
    now: Timestamp,
    plan: &mut ClusterPlan,
) {
    let cluster = &*snapshot.cluster;
    let Modules { refused, vanished } = inputs.modules;
    let build = |telemetry: bool| {
        let form = PodForm { telemetry: Telemetry::new(telemetry), ..inputs.form };
        Box::new(build::scheduler_deployment(cluster, name, form))
    };
    let wants_modules = inputs.form.telemetry.is_on();
    plan.requeue_after = refused.filter(|_| wants_modules).map(|refused| refused.wait);
    let Some(live) = snapshot.deployment.as_deref() else {
        let telemetry = wants_modules && refused.is_none();
        plan.scheduler.create = Some(build(telemetry));
        if telemetry {
            plan.config_map = Some(Box::new(telemetry::config_map(cluster)));
            plan.without_modules.create = Some(build(false));
        }
        return;
    };
    if live.terminating {
        plan.requeue_after = None;
        return;
    }
    if live.owner_uid.as_deref() != cluster.metadata.uid.as_deref() {
        name_taken(plan, Part::Deployment, &live.name, live.owner_uid.as_deref());
        plan.requeue_after = None;
        return;
    }
    let mut patch = json!({});
    if !live.recreates {
        // Made by dask-kubernetes; changing the strategy alone restarts nothing.
        patch["spec"]["strategy"] = json!({"type": "Recreate", "rollingUpdate": null});
    }
    if live.template_hash.is_none() {
        // Adopted as it is: only later edits count.
        if let Some(hash) = updating::scheduler_hash(cluster) {
            patch["metadata"]["annotations"][TEMPLATE_HASH] = json!(hash);
        }
    }
    if live.metadata_hash.is_none() {
        patch["metadata"]["annotations"][METADATA_HASH] = json!(build::metadata_hash(cluster));
    }
    // The ConfigMap is not watched: the Deployment remembers what it holds.
    let current = live.telemetry.as_deref() == Some(telemetry::modules_digest()) && !vanished;
    let store = wants_modules && !current && refused.is_none();
    let mountable = store || (live.telemetry.is_some() && !vanished);
    let roll = |mountable: bool| {
        roll_cause(snapshot, inputs, mountable, now)
            .map(|cause| SchedulerRoll { wanted: build(wants_modules && mountable), cause })
    };
    plan.scheduler.roll = roll(mountable);
    if store {
        plan.config_map = Some(Box::new(telemetry::config_map(cluster)));
        plan.was_stored = live.telemetry.is_some();
        let mut without = patch.clone();
        if live.telemetry.is_some() {
            without["metadata"]["annotations"][TELEMETRY] = Value::Null;
        }
        patch["metadata"]["annotations"][TELEMETRY] = json!(telemetry::modules_digest());
        plan.without_modules.patch = non_empty(without);
        plan.without_modules.roll = roll(false);
    }
    plan.scheduler.patch = non_empty(patch);
    if plan.scheduler.roll.is_none()
        && updating::is_outdated(live, cluster)
        && cluster.spec.update_policy().scheduler() == SchedulerUpdate::WhenIdle
    {
        plan.requeue_after = plan.requeue_after.into_iter().chain([IDLE_POLL]).min();
    }
}

/// Why the scheduler is to be made anew now, where its modules can be mounted or not.
fn roll_cause(
    snapshot: &ClusterSnapshot,
    inputs: &Inputs,
    mountable: bool,
    now: Timestamp,
) -> Option<RollCause> {
    let live = snapshot.deployment.as_deref()?;
    if updating::is_outdated(live, &snapshot.cluster) && updating::may_restart(snapshot, inputs.link, now) {
        return Some(RollCause::Edited);
    }
    let mut pods = snapshot.scheduler_pods.iter().filter(|pod| pod.state != PodState::Terminating);
    // Nothing of it runs, so nothing is lost, whatever the policy for edits is.
    if snapshot.scheduler_pods.iter().any(|pod| pod.running) {
        return None;
    }
    let lacks = |pod: &PodRecord| inputs.form.lacking.is_some() && pod.startup.command_missing.is_some();
    if live.module_command.is_none() && pods.clone().any(|pod| lacks(pod)) {
        return Some(RollCause::CommandMissing);
    }
    let hangs = |pod: &PodRecord| pod.startup.modules && modules::has_waited(pod, now);
    (!mountable && pods.any(|pod| hangs(pod))).then_some(RollCause::ModulesMissing)
}

/// Whether the cause for which the scheduler was to be made anew is one still: much may have been submitted to it since,
/// where calls take long.
pub(super) fn still_stands(
    cause: RollCause,
    snapshot: &ClusterSnapshot,
    link: &LinkView,
    now: Timestamp,
) -> bool {
    match cause {
        RollCause::Edited => updating::may_restart(snapshot, link, now),
        RollCause::CommandMissing | RollCause::ModulesMissing => {
            snapshot.scheduler_pods.iter().all(|pod| !pod.running)
        }
    }
}

fn non_empty(patch: Value) -> Option<Value> {
    patch.as_object().is_some_and(|fields| !fields.is_empty()).then_some(patch)
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
    // Beside a controller of another kind, such as a workflow engine, the group belongs to the cluster that it names.
    let mut owners = live.owner_references().iter().filter(|owner| is_dask_cluster(owner));
    let earlier = owners.find(|owner| Some(&owner.uid) != cluster.metadata.uid.as_ref());
    if let Some(owner) = earlier {
        name_taken(plan, Part::DefaultGroup, &live.name_any(), Some(&owner.uid));
    } else if live.spec.cluster == cluster.name_any() {
        let version = live.resource_version().unwrap_or_default();
        plan.default_group_patch =
            default_group_patch(live, cluster, name).map(|patch| at_version(patch, version));
    } else {
        name_taken(plan, Part::DefaultGroup, &live.name_any(), None);
    }
}

/// The patch for this version of the object alone: somebody may edit it in the same moment.
fn at_version(mut patch: Value, version: String) -> Value {
    patch["metadata"]["resourceVersion"] = Value::String(version);
    patch
}

/// Hands a *change* of the cluster's number of workers, worker template or labels on to the default group.
///
/// Clients scale and edit the group, not the cluster, so what the cluster says counts only when it is edited. What
/// was handed on last is kept on the group and written together with what it is about, so that a stop between the two
/// is impossible. A group that was made by dask-kubernetes has none of it: it is adopted as it is.
fn default_group_patch(group: &DaskWorkerGroup, cluster: &DaskCluster, name: &ClusterName) -> Option<Value> {
    let wanted = build::default_group(cluster, name);
    let (before, mut after) = (json!(group), json!(group));
    let mut hand_on = |key: &str, change: &mut dyn FnMut(&mut Value)| {
        let (old, new) = (group.annotations().get(key), wanted.annotations().get(key));
        if old == new {
            return;
        }
        after["metadata"]["annotations"][key] = json!(new);
        if old.is_some() {
            change(&mut after);
        }
    };
    hand_on(PROPAGATED_REPLICAS, &mut |after| {
        after["spec"]["worker"]["replicas"] = json!(wanted.spec.worker.replicas);
    });
    hand_on(PROPAGATED_TEMPLATE, &mut |after| {
        after["spec"]["worker"]["spec"] = json!(wanted.spec.worker.spec);
        after["spec"]["worker"]["metadata"] = json!(wanted.spec.worker.metadata);
    });
    hand_on(METADATA_HASH, &mut |after| {
        // A key that was handed on and is gone goes, or every later worker had it; others' keys stay.
        let handed_on = group.annotations().get(PROPAGATED_KEYS).map(String::as_str).unwrap_or_default();
        let handed_on: Value = serde_json::from_str(handed_on).unwrap_or_default();
        for (field, values) in [("labels", wanted.labels()), ("annotations", wanted.annotations())] {
            let old = handed_on[field].as_array().into_iter().flatten().filter_map(Value::as_str);
            for key in old.filter(|key| !values.contains_key(*key)) {
                after["metadata"][field][key] = Value::Null;
            }
            for (key, value) in values.iter().filter(|(key, _)| !is_bookkeeping(key)) {
                after["metadata"][field][key] = json!(value);
            }
        }
    });
    hand_on(PROPAGATED_KEYS, &mut |_| {});
    diff(&before, &after)
}

fn is_bookkeeping(key: &str) -> bool {
    [PROPAGATED_KEYS, PROPAGATED_REPLICAS, PROPAGATED_TEMPLATE, METADATA_HASH].contains(&key)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
