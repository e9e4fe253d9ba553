//! The ConfigMap with the preload modules: whether pods can mount it, and what is said where they cannot.
//!
//! It is not watched. That it was stored is kept on the scheduler's Deployment; that it vanished shows in pods that wait
//! on their node, and is asked for then.

use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::{ConditionType, Conditions, DaskCluster, DaskClusterStatus, Reason};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::json;
use tracing::{debug, info};

use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::records::PodRecord;
use crate::cluster_cache::snapshot::ClusterSnapshot;
use crate::context::Context;
use crate::controllers::Obstacle;
use crate::controllers::reconcile::refusal;
use crate::error_chain::chain;
use crate::pods::telemetry;
use crate::writer::{Creation, Lane, WriteError};

/// How long a pod waits on its node before its ConfigMap is looked for. Pulling a large image takes longer; the question
/// is then asked in vain, a few times.
const PATIENCE: SignedDuration = SignedDuration::from_secs(20);
/// What the inquiry is about: one ConfigMap for each cluster.
const SUBJECT: &str = "ConfigMap";

/// What became of storing the ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// It holds the modules of this operator.
    Current,
    /// There is one of an earlier operator, which pods can mount; this is why it stays.
    Outdated(Obstacle),
    /// There is none of ours; this is why.
    Missing(Obstacle),
}

impl Stored {
    /// What stood in the way.
    pub(super) fn obstacle(&self) -> Option<&Obstacle> {
        match self {
            Self::Current => None,
            Self::Outdated(obstacle) | Self::Missing(obstacle) => Some(obstacle),
        }
    }
}

/// Whether a pod has waited on its node for so long that something it mounts may be missing.
pub(crate) fn has_waited(pod: &PodRecord, now: Timestamp) -> bool {
    pod.startup.waiting_since.is_some_and(|since| now.duration_since(since) >= PATIENCE)
}

/// Pods of a cluster that wait on their node and mount the modules.
fn waiting(snapshot: &ClusterSnapshot) -> impl Iterator<Item = &Arc<PodRecord>> {
    let workers = snapshot.groups.iter().flat_map(|members| &members.workers);
    let pods = snapshot.scheduler_pods.iter().chain(workers);
    pods.filter(|pod| pod.startup.modules && pod.startup.waiting_since.is_some())
}

/// Whether the ConfigMap vanished, and when to look again: asked only while a pod waits that mounts it.
pub(super) async fn vanished(
    ctx: &Context,
    snapshot: &ClusterSnapshot,
    now: Timestamp,
) -> (bool, Option<Duration>) {
    let key = ObjectKey::of(&*snapshot.cluster);
    let checks = &ctx.starts.module_checks;
    let Some(first) = waiting(snapshot).filter_map(|pod| pod.startup.waiting_since).min() else {
        checks.forget(&key);
        return (false, None);
    };
    let stored = snapshot.deployment.as_deref().is_some_and(|deployment| deployment.telemetry.is_some());
    let patience = PATIENCE.checked_sub(now.duration_since(first)).unwrap_or_default().min(PATIENCE);
    if let Ok(wait) = Duration::try_from(patience)
        && !wait.is_zero()
    {
        return (false, Some(wait));
    }
    // What waits without it is made anew already.
    if !stored {
        return (false, None);
    }
    if let Err(wait) = checks.turn(&key, SUBJECT, now) {
        return (false, Some(wait));
    }
    let map = key.sibling(telemetry::config_map_name(&key.name));
    let found = ctx.writer.get::<ConfigMap>(&map, Lane::Urgent).await;
    let vanished = matches!(found, Err(WriteError::NotFound { .. }));
    if let Err(error) = &found
        && !vanished
    {
        debug!(cluster = %key, error = %chain(error), "modules could not be looked for");
    }
    if vanished {
        info!(cluster = %key, config_map = %map.name, "the preload modules vanished and are stored again");
    }
    (vanished, Some(checks.pause(&key)))
}

/// Stores the ConfigMap; `known` if it was stored before, so that it is looked for first: a quota may refuse to create
/// what exists already.
///
/// # Errors
/// What is worth another try soon.
pub(super) async fn store(
    ctx: &Context,
    cluster: &DaskCluster,
    wanted: &ConfigMap,
    known: bool,
) -> Result<Stored, WriteError> {
    let key = ObjectKey::of(wanted);
    let find = || async {
        match ctx.writer.get::<ConfigMap>(&key, Lane::Urgent).await {
            Ok(found) => Ok(Some(found)),
            Err(WriteError::NotFound { .. }) => Ok(None),
            Err(error) => refused_or(error).map(|_| None),
        }
    };
    let mut existing = if known { find().await? } else { None };
    if existing.is_none() {
        match ctx.writer.create(wanted, Lane::Urgent).await {
            Ok(Creation::Created(_)) => {
                info!(cluster = %ObjectKey::of(cluster), "preload modules stored");
                return Ok(Stored::Current);
            }
            Ok(Creation::AlreadyExists) => existing = find().await?,
            Err(error) => {
                let obstacle = refused_or(error)?;
                existing = if known { None } else { find().await? };
                if existing.is_none() {
                    return Ok(Stored::Missing(obstacle));
                }
            }
        }
    }
    let Some(existing) = existing else {
        // It went between two calls.
        let message = format!("ConfigMap \"{}\" is being deleted", key.name);
        return Ok(Stored::Missing(Obstacle::new(Reason::WaitingForDeletion, message)));
    };
    let owner = existing.owner_references().iter().find(|owner| owner.controller == Some(true));
    let owner_uid = owner.map(|owner| owner.uid.as_str());
    if owner_uid != cluster.metadata.uid.as_deref() {
        return Ok(Stored::Missing(Obstacle::name_taken("DaskCluster", "ConfigMap", &key.name, owner_uid)));
    }
    if !telemetry::is_current(existing.data.as_ref()) {
        let patch = json!({"metadata": {"uid": existing.uid()}, "data": wanted.data});
        if let Err(error) = ctx.writer.merge_patch::<ConfigMap>(&key, &patch, Lane::Urgent).await {
            return refused_or(error).map(Stored::Outdated);
        }
        info!(cluster = %ObjectKey::of(cluster), "preload modules updated");
    }
    Ok(Stored::Current)
}

/// What keeps the ConfigMap from being written, if trying again soon is of no use: a policy's webhook that does not
/// answer is as lasting as one that refuses.
fn refused_or(error: WriteError) -> Result<Obstacle, WriteError> {
    match &error {
        WriteError::Unanswered { source: crate::writer::NoAnswer::Server { message, .. }, .. }
            if message.contains("webhook") =>
        {
            Ok(Obstacle::new(Reason::AdmissionRefused, message.clone()))
        }
        _ => refusal(error),
    }
}

/// Adds the condition `ModulesReady` to the status of a cluster whose ConfigMap is, or was, refused.
pub(super) fn with_modules(
    mut status: DaskClusterStatus,
    snapshot: &ClusterSnapshot,
    refused: Option<&Obstacle>,
    previous: &DaskClusterStatus,
    now: Timestamp,
) -> DaskClusterStatus {
    let type_: &str = ConditionType::ModulesReady.into();
    let deployment = snapshot.deployment.as_deref();
    let stored = deployment.is_some_and(|deployment| deployment.telemetry.is_some());
    let told = previous.conditions.iter().any(|condition| condition.type_ == type_);
    let (ready, reason, message) = match refused {
        Some(obstacle) => (false, obstacle.reason, consequence(&obstacle.message, stored)),
        None if told && stored => (
            true,
            Reason::ModulesStored,
            "pods that are made from now on load the preload modules".to_owned(),
        ),
        None => return status,
    };
    let (time, generation) = (Time(now), snapshot.cluster.metadata.generation);
    let built = Conditions::new(&previous.conditions, generation, &time)
        .set(ConditionType::ModulesReady, Some(ready), reason, &message)
        .build();
    if let Some(condition) = built.into_iter().find(|condition| condition.type_ == type_) {
        status.conditions.retain(|old| old.type_ != type_);
        status.conditions.push(condition);
    }
    status
}

fn consequence(refusal: &str, stored: bool) -> String {
    if stored {
        return format!("the preload modules stay those of an earlier operator: {refusal}");
    }
    format!(
        "pods run without the preload modules, so that workers that are evicted lose their results, and the scheduler is \
         asked in costlier ways; it is tried again: {refusal}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_cache::records::{PodState, Startup};
    use crate::controllers::cluster::testing::{at, made, pod};

    fn with(refused: Option<&str>, stored: bool, previous: &DaskClusterStatus) -> DaskClusterStatus {
        let mut snapshot = made(PodState::Ready);
        if !stored {
            Arc::make_mut(snapshot.deployment.as_mut().unwrap()).telemetry = None;
        }
        let obstacle = refused.map(|message| Obstacle::new(Reason::QuotaExceeded, message));
        let empty =
            DaskClusterStatus { conditions: previous.conditions.clone(), ..DaskClusterStatus::default() };
        with_modules(empty, &snapshot, obstacle.as_ref(), previous, at(0))
    }

    fn told(status: &DaskClusterStatus) -> Vec<(&str, &str)> {
        status.conditions.iter().map(|c| (c.status.as_str(), c.reason.as_str())).collect()
    }

    #[test]
    fn a_cluster_that_never_lacked_them_says_nothing() {
        let empty = DaskClusterStatus::default();
        assert_eq!(with(None, true, &empty), empty);
        assert_eq!(with(None, false, &empty), empty, "the operator does not add them");
    }

    #[test]
    fn a_refusal_is_told_with_what_it_costs_and_so_is_its_end() {
        let refused = with(Some("exceeded quota: objects"), false, &DaskClusterStatus::default());
        assert_eq!(told(&refused), [("False", "QuotaExceeded")]);
        let message = &refused.conditions[0].message;
        assert!(message.contains("exceeded quota: objects") && message.contains("evicted"), "{message}");
        assert_eq!(told(&with(None, false, &refused)), [("False", "QuotaExceeded")], "not known yet");
        let stored = with(None, true, &refused);
        assert_eq!(told(&stored), [("True", "ModulesStored")]);
        assert_eq!(with(None, true, &stored), stored, "nothing to write");
    }

    #[test]
    fn an_update_that_is_refused_leaves_the_older_modules() {
        let refused = with(Some("denied"), true, &DaskClusterStatus::default());
        assert!(refused.conditions[0].message.contains("stay those of an earlier operator"));
    }

    #[test]
    fn only_pods_that_mount_them_and_wait_are_looked_at() {
        let mut snapshot = made(PodState::Starting);
        assert_eq!(waiting(&snapshot).count(), 0);
        let startup = |modules| Startup { modules, waiting_since: Some(at(0)), ..Startup::default() };
        let starting = |modules| PodRecord { startup: startup(modules), ..pod("w", PodState::Starting) };
        snapshot.scheduler_pods = vec![Arc::new(starting(false))];
        assert_eq!(waiting(&snapshot).count(), 0);
        snapshot.groups[0].workers = vec![Arc::new(starting(true))];
        assert_eq!(waiting(&snapshot).count(), 1);
        assert!(!has_waited(&starting(true), at(19)) && has_waited(&starting(true), at(20)));
        assert!(!has_waited(&pod("w", PodState::Starting), at(99)));
    }
}
