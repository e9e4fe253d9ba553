//! What the Python operator leaves on objects that it handled.

use dask_operator_api::labels::KOPF_FINALIZER;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The finalizers without kopf's, if that is among them: nobody else would ever remove it, so that the object could
/// not go.
pub(super) fn other_finalizers(metadata: &ObjectMeta) -> Option<Vec<&String>> {
    let finalizers = metadata.finalizers.as_ref()?;
    let others: Vec<_> = finalizers.iter().filter(|finalizer| *finalizer != KOPF_FINALIZER).collect();
    (others.len() < finalizers.len()).then_some(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kopfs_finalizer_goes() {
        let finalizers = |names: &[&str]| ObjectMeta {
            finalizers: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            ..ObjectMeta::default()
        };
        let mine = "example.org/mine".to_owned();
        assert_eq!(other_finalizers(&finalizers(&[KOPF_FINALIZER, &mine])), Some(vec![&mine]));
        assert_eq!(other_finalizers(&finalizers(&[KOPF_FINALIZER])), Some(vec![]));
        assert_eq!(other_finalizers(&finalizers(&[&mine])), None);
        assert_eq!(other_finalizers(&ObjectMeta::default()), None);
    }
}
