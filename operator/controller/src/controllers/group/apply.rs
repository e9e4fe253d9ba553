//! Carrying out the plan for a group.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dask_operator_api::labels::DRAIN;
use dask_operator_api::{DaskWorkerGroup, DrainIntent};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde_json::{Value, json};
use tracing::info;

use super::build::WorkerTemplate;
use super::decide::Wish;
use super::paced::{LONGEST, Outcome, Pace, Written, paced};
use super::relabel::Relabel;
use super::removal::{Marking, Object, Removal};
use crate::cluster_cache::records::PodRecord;
use crate::cluster_cache::{ObjectKey, WirePod};
use crate::context::Context;
use crate::writer::{Creation, Lane, WriteError};

/// Makes the group a child of its cluster.
pub(super) async fn adopt(ctx: &Context, key: &ObjectKey, patch: &Value) -> Outcome {
    let adopted = ctx.writer.merge_patch::<DaskWorkerGroup>(key, patch, Lane::Urgent).await;
    if let Ok(group) = &adopted {
        ctx.cache.created_group(group);
        info!(group = %key, "worker group adopted by its cluster");
    }
    Outcome::of(match adopted {
        // The group itself is gone: nothing else makes sense.
        Err(error @ WriteError::NotFound { .. }) => Err(error),
        adopted => unless_changed(adopted.map(drop)),
    })
}

/// The creation of a group's workers.
#[derive(Debug)]
pub(super) struct Creations<'a> {
    /// The group.
    pub(super) key: &'a ObjectKey,
    /// Its UID.
    pub(super) uid: &'a str,
    /// What the workers are made from.
    pub(super) template: &'a WorkerTemplate,
    /// Their ordinals.
    pub(super) ordinals: &'a [i64],
    /// What they were planned for.
    pub(super) wish: Wish,
}

/// Creates the planned workers, as far as it gets before others have their turn.
pub(super) async fn create(ctx: &Context, creations: &Creations<'_>) -> Outcome {
    // A batch of the administrator's size is not cut, since the next one comes after a pause.
    let time = ctx.settings.worker_allocation().batch_size.map_or(LONGEST, |_| Duration::MAX);
    let succeeded = ctx.progress.in_a_row(creations.key, creations.uid);
    let pace = Pace::of_creations(succeeded, at_a_time(ctx), time);
    let items = creations.ordinals.iter().copied().enumerate();
    paced(items, pace, |(earlier, ordinal)| create_one(ctx, creations, earlier, ordinal)).await
}

/// Creates one worker, unless it is not wanted any more when the turn of its call has come.
async fn create_one(
    ctx: &Context,
    creations: &Creations<'_>,
    earlier: usize,
    ordinal: i64,
) -> Result<Written, WriteError> {
    let Creations { key, uid, template, wish, .. } = creations;
    let worker = key.sibling(template.name(ordinal));
    let body = || {
        let (group, cluster) = ctx.cache.group_and_cluster(key)?;
        if !wish.stands(&group, cluster.as_deref(), earlier) {
            return None;
        }
        ctx.ordinals.give(key, uid, &[ordinal]);
        Some(template.pod(ordinal))
    };
    match ctx.writer.create_pod_if(&worker, Lane::Bulk, body).await {
        Ok(None) => return Ok(Written::CalledOff),
        Ok(Some(Creation::Created(pod))) => ctx.cache.created_pod(&pod),
        // An earlier try whose reply was lost had succeeded.
        Ok(Some(Creation::AlreadyExists)) => {
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
    Ok(Written::Done)
}

/// Writes the intent to drain onto these pods; adds the names of those that have it to `marked`.
pub(super) async fn mark(
    ctx: &Context,
    namespace: &str,
    markings: &[Marking],
    now: Timestamp,
    marked: &mut HashSet<String>,
) -> Outcome {
    let marked = Mutex::new(marked);
    paced(markings, Pace::of_workers(at_a_time(ctx)), |marking| {
        let marked = &marked;
        async move {
            let intent = DrainIntent { reason: marking.reason, since: now }.to_annotation()?;
            let written = annotate(ctx, namespace, &marking.pod, &json!(intent)).await?;
            if matches!(written, Written::Done) {
                marked.lock().unwrap_or_else(PoisonError::into_inner).insert(marking.pod.name.to_string());
            }
            Ok(written)
        }
    })
    .await
}

/// Takes the intent to drain off these pods.
pub(super) async fn unmark(ctx: &Context, namespace: &str, pods: &[Arc<PodRecord>]) -> Outcome {
    let pace = Pace::of_workers(at_a_time(ctx));
    paced(pods, pace, |pod| annotate(ctx, namespace, pod, &Value::Null)).await
}

/// Gives these pods their labels and annotations.
pub(super) async fn relabel(ctx: &Context, namespace: &str, relabel: &Relabel) -> Outcome {
    paced(&relabel.pods, Pace::of_workers(at_a_time(ctx)), |pod| async move {
        let key = ObjectKey::new(namespace, &*pod.name);
        let patched = ctx.writer.merge_patch::<WirePod>(&key, &relabel.patch(pod), Lane::Bulk).await;
        if let Ok(pod) = &patched {
            ctx.cache.created_pod(pod);
        }
        unless_changed(patched.map(drop))
    })
    .await
}

async fn annotate(
    ctx: &Context,
    namespace: &str,
    pod: &PodRecord,
    value: &Value,
) -> Result<Written, WriteError> {
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

/// Deletes these workers, each only if it is still the object, and the version, that was meant; adds the names of those
/// that were deleted to `removed`.
pub(super) async fn remove(
    ctx: &Context,
    namespace: &str,
    removals: &[Removal],
    removed: &mut HashSet<String>,
) -> Outcome {
    let removed = Mutex::new(removed);
    paced(removals, Pace::of_workers(at_a_time(ctx)), |removal| {
        let removed = &removed;
        async move {
            let key = ObjectKey::new(namespace, removal.name.as_str());
            let deleted = match removal.object {
                Object::Pod => delete::<Pod>(ctx, &key, removal).await,
                Object::Deployment => delete::<Deployment>(ctx, &key, removal).await,
            };
            if deleted.is_ok() {
                match removal.object {
                    Object::Pod => ctx.cache.deleted_pod(namespace, &removal.name, &removal.uid),
                    Object::Deployment => {
                        ctx.cache.deleted_deployment(namespace, &removal.name, &removal.uid);
                    }
                }
                removed.lock().unwrap_or_else(PoisonError::into_inner).insert(removal.name.clone());
            }
            unless_changed(deleted)
        }
    })
    .await
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

/// How many writes of one kind are under way for one group: no more than calls there can be.
fn at_a_time(ctx: &Context) -> usize {
    ctx.settings.max_in_flight.into()
}

/// Whether the object had changed, or gone, since it was read: no failure, but to be decided again.
fn unless_changed(result: Result<(), WriteError>) -> Result<Written, WriteError> {
    match result {
        Ok(()) => Ok(Written::Done),
        Err(WriteError::Conflict { .. } | WriteError::NotFound { .. }) => Ok(Written::Changed),
        Err(error) => Err(error),
    }
}
