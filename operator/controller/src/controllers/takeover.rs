//! Taking over what the Python operator left on custom resources.

use dask_operator_api::Reason;
use dask_operator_api::labels::KOPF_FINALIZER;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::info;

use super::announce::Announcement;
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

/// Takes the finalizer of the Python operator off an object, and tells of it; returns whether it was there.
///
/// # Errors
/// When the write fails. That the object is gone meanwhile is no error.
pub async fn take_over<K>(ctx: &Context, object: &K) -> Result<bool, WriteError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
{
    let Some(mut patch) = finalizers_without_kopf(object.finalizers()) else { return Ok(false) };
    // The list is replaced as a whole, so nobody may have changed it since.
    patch["metadata"]["resourceVersion"] = json!(object.resource_version());
    let key = ObjectKey::of(object);
    match ctx.writer.merge_patch::<K>(&key, &patch, Lane::Urgent).await {
        Ok(_) => {}
        Err(WriteError::NotFound { .. }) => return Ok(true),
        Err(error) => return Err(error),
    }
    let kind = K::kind(&());
    info!(%kind, object = %key, "taken over from the Python operator");
    let message = format!("taken over from the Python operator: its finalizer {KOPF_FINALIZER} is removed");
    ctx.announce(object, &Announcement { reason: Reason::TakenOver, message, warning: false });
    Ok(true)
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
