//! Taking over what the Python operator left on custom resources.

use std::time::{Duration, Instant};

use dask_operator_api::Reason;
use dask_operator_api::labels::KOPF_FINALIZER;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::info;

use super::announce::Announcement;
use super::obstacle::{Obstacles, Purpose};
use super::reconcile::refusal;
use crate::cluster_cache::ObjectKey;
use crate::context::Context;
use crate::writer::{Lane, WriteError};

/// The patch that takes the finalizer of the Python operator off; `None` if it is not there.
///
/// Nobody else would take it off once that operator is gone, and the object could never be deleted.
#[must_use]
fn finalizers_without_kopf(finalizers: &[String]) -> Option<Value> {
    let others: Vec<&String> = finalizers.iter().filter(|finalizer| *finalizer != KOPF_FINALIZER).collect();
    (others.len() < finalizers.len()).then(|| json!({"metadata": {"finalizers": others}}))
}

/// What became of the metadata that an object should have. That it is refused keeps nothing else from being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing was to be written.
    Held,
    /// It was written; the watch shows the new version soon.
    Written,
    /// It was refused, and is tried again after this time.
    Refused(Duration),
}

impl Claim {
    /// When it is to be tried again.
    #[must_use]
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Held | Self::Written => None,
            Self::Refused(wait) => Some(wait),
        }
    }
}

/// Takes the finalizer of the Python operator off an object, and tells of it.
///
/// # Errors
/// When the write fails. That the object is gone meanwhile is no error.
pub async fn take_over<K>(ctx: &Context, refusals: &Obstacles, object: &K) -> Result<Claim, WriteError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
{
    let Some(mut patch) = finalizers_without_kopf(object.finalizers()) else { return Ok(Claim::Held) };
    // The list is replaced as a whole, so nobody may have changed it since.
    patch["metadata"]["resourceVersion"] = json!(object.resource_version());
    let claim = claim(ctx, refusals, object, &patch).await?;
    if claim == Claim::Written {
        info!(kind = %K::kind(&()), object = %ObjectKey::of(object), "taken over from the Python operator");
        let message =
            format!("taken over from the Python operator: its finalizer {KOPF_FINALIZER} is removed");
        ctx.announce(object, &Announcement { reason: Reason::TakenOver, message, warning: false });
    }
    Ok(claim)
}

/// Patches an object's own metadata. A refusal is told once, and tried again with pauses that double.
///
/// # Errors
/// When the write fails otherwise. That the object is gone meanwhile is no error.
pub async fn claim<K>(
    ctx: &Context,
    refusals: &Obstacles,
    object: &K,
    patch: &Value,
) -> Result<Claim, WriteError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
{
    let (key, meta, now) = (ObjectKey::of(object), object.meta(), Instant::now());
    if let Some(standing) = refusals.standing(&key, meta, Purpose::Adoption, now) {
        return Ok(Claim::Refused(standing.wait));
    }
    match ctx.writer.merge_patch::<K>(&key, patch, Lane::Urgent).await {
        Ok(_) | Err(WriteError::NotFound { .. }) => {
            refusals.clear(&key);
            Ok(Claim::Written)
        }
        Err(error) => {
            let obstacle = refusal(error)?;
            if refusals.last(&key).is_none_or(|told| told.reason != obstacle.reason) {
                let (reason, message) = (obstacle.reason, obstacle.message.clone());
                ctx.announce(object, &Announcement { reason, message, warning: true });
            }
            Ok(Claim::Refused(refusals.refused(&key, meta, Purpose::Adoption, obstacle, now)))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[], None)]
    #[case(&["foregroundDeletion"], None)]
    #[case(&["kopf.zalando.org/KopfFinalizerMarker"], Some(json!([])))]
    #[case(
        &["a.example/x", "kopf.zalando.org/KopfFinalizerMarker", "b.example/y"],
        Some(json!(["a.example/x", "b.example/y"]))
    )]
    fn only_the_finalizer_of_kopf_goes(#[case] finalizers: &[&str], #[case] expected: Option<Value>) {
        let finalizers: Vec<String> = finalizers.iter().map(|&finalizer| finalizer.to_owned()).collect();
        let patch = finalizers_without_kopf(&finalizers);
        assert_eq!(patch.map(|patch| patch["metadata"]["finalizers"].clone()), expected);
    }
}
