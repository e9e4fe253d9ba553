//! Carrying out the plan for a group.

use std::collections::HashSet;
use std::sync::Arc;

use dask_operator_api::labels::DRAIN;
use dask_operator_api::{DaskWorkerGroup, DrainIntent};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde_json::{Value, json};
use tracing::info;

use super::build::WorkerTemplate;
use super::creations::in_growing_numbers;
use super::decide::GroupPlan;
use super::relabel::Relabel;
use super::removal::{Marking, Object, Removal};
use crate::cluster_cache::records::PodRecord;
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
    let create = |ordinal| create_one(ctx, key, template, ordinal);
    let outcome = in_growing_numbers(ordinals.to_vec(), create).await;
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

/// Writes the intent to drain onto these pods; returns whether one of them has changed meanwhile, so that it has to be
/// decided again.
pub(super) async fn mark(
    ctx: &Context,
    namespace: &str,
    markings: &[Marking],
    now: Timestamp,
) -> Result<bool, WriteError> {
    let marks = markings.iter().map(|marking| async {
        let intent = DrainIntent { reason: marking.reason, since: now }.to_annotation()?;
        annotate(ctx, namespace, &marking.pod, &json!(intent)).await
    });
    any_changed(marks).await
}

/// Gives these pods their labels and annotations; returns as [`mark`].
pub(super) async fn relabel(
    ctx: &Context,
    namespace: &str,
    relabels: &[Relabel],
) -> Result<bool, WriteError> {
    let patches = relabels.iter().map(|relabel| async {
        let key = ObjectKey::new(namespace, &*relabel.pod.name);
        let patched = ctx.writer.merge_patch::<WirePod>(&key, &relabel.patch, Lane::Bulk).await;
        if let Ok(pod) = &patched {
            ctx.cache.created_pod(pod);
        }
        unless_changed(patched.map(drop))
    });
    any_changed(patches).await
}

/// Takes the intent to drain off these pods; returns as [`mark`].
pub(super) async fn unmark(
    ctx: &Context,
    namespace: &str,
    pods: &[Arc<PodRecord>],
) -> Result<bool, WriteError> {
    let marks = pods.iter().map(|pod| annotate(ctx, namespace, pod, &Value::Null));
    any_changed(marks).await
}

async fn annotate(
    ctx: &Context,
    namespace: &str,
    pod: &PodRecord,
    value: &Value,
) -> Result<bool, WriteError> {
    let key = ObjectKey::new(namespace, &*pod.name);
    let patch = json!({"metadata": {
        "uid": &*pod.uid, "resourceVersion": pod.resource_version.to_string(), "annotations": {DRAIN: value},
    }});
    let patched = ctx.writer.merge_patch::<WirePod>(&key, &patch, Lane::Urgent).await;
    if let Ok(pod) = &patched {
        ctx.cache.created_pod(pod);
    }
    unless_changed(patched.map(drop))
}

/// What became of deletions.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// Names of those that are still there: changed since they were read, or refused.
    pub(super) kept: HashSet<String>,
    /// The first failure.
    pub(super) failure: Option<WriteError>,
}

/// Deletes these workers, each only if it is still the object, and the version, that was meant.
pub(super) async fn remove(ctx: &Context, namespace: &str, removals: &[Removal]) -> Removed {
    let deletions = removals.iter().map(|removal| async {
        let key = ObjectKey::new(namespace, removal.name.as_str());
        let deleted = match removal.object {
            Object::Pod => delete::<Pod>(ctx, &key, removal).await,
            Object::Deployment => delete::<Deployment>(ctx, &key, removal).await,
        };
        if deleted.is_ok() {
            match removal.object {
                Object::Pod => ctx.cache.deleted_pod(namespace, &removal.name, &removal.uid),
                Object::Deployment => ctx.cache.deleted_deployment(namespace, &removal.name, &removal.uid),
            }
        }
        unless_changed(deleted)
    });
    let mut outcome = Removed::default();
    for (removal, changed) in removals.iter().zip(join_all(deletions).await) {
        match changed {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => drop(outcome.failure.get_or_insert(error)),
        }
        outcome.kept.insert(removal.name.clone());
    }
    outcome
}

/// Whether any of these found its object changed. Waits for all, also when one fails: a worker that cannot be written
/// to holds up no other.
async fn any_changed(
    writes: impl IntoIterator<Item = impl Future<Output = Result<bool, WriteError>>>,
) -> Result<bool, WriteError> {
    join_all(writes).await.into_iter().try_fold(false, |any, changed| Ok(any | changed?))
}

async fn delete<K>(ctx: &Context, key: &ObjectKey, removal: &Removal) -> Result<(), WriteError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    let deletion = match removal.version {
        Some(version) => ctx.writer.delete_version::<K>(key, &removal.uid, version, Lane::Bulk).await,
        None => ctx.writer.delete::<K>(key, &removal.uid, Lane::Bulk).await,
    };
    deletion.map(drop)
}

/// Whether the object had changed, or gone, since it was read: no failure, but to be decided again.
fn unless_changed(result: Result<(), WriteError>) -> Result<bool, WriteError> {
    match result {
        Ok(()) => Ok(false),
        Err(WriteError::Conflict { .. } | WriteError::NotFound { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
