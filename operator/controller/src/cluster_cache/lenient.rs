//! Decoding that an object which does not fit its type cannot stop.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// kubectl's copy of the whole object, which nobody reads here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A custom resource, or what is known of one that cannot be decoded: one such object must not stop the watch
/// for all others. `managedFields` and kubectl's copy of an object that is kept are dropped, since it is kept for long.
#[derive(Clone, Debug)]
pub(super) struct Lenient<K>(pub(super) Result<K, Malformed>);

/// Of an object of any shape.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    metadata: ObjectMeta,
}

/// An object that cannot be decoded.
#[derive(Clone, Debug)]
pub(super) struct Malformed {
    /// Its metadata.
    pub(super) metadata: ObjectMeta,
    /// What does not fit.
    pub(super) error: String,
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        match serde_json::from_str::<K>(text.get()) {
            Ok(mut object) => {
                let metadata = object.meta_mut();
                metadata.managed_fields = None;
                if let Some(annotations) = &mut metadata.annotations {
                    annotations.remove(LAST_APPLIED);
                }
                Ok(Self(Ok(object)))
            }
            Err(error) => {
                // Nobody keeps it, so nothing is dropped.
                let Named { metadata } = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
                Ok(Self(Err(Malformed { metadata, error: error.to_string() })))
            }
        }
    }
}

impl<K: Resource> Resource for Lenient<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &K::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &K::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &K::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &K::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|malformed| &malformed.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|malformed| &mut malformed.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use dask_operator_api::DaskWorkerGroup;
    use kube::ResourceExt;
    use serde_json::{Value, json};

    use super::*;

    fn group(spec: &Value) -> Value {
        json!({
            "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup",
            "metadata": {
                "name": "g", "namespace": "ns", "resourceVersion": "5",
                "managedFields": [{"manager": "kubectl"}],
                "annotations": {LAST_APPLIED: "{}", "kept": "yes"},
            },
            "spec": spec,
        })
    }

    fn good() -> Value {
        json!({"cluster": "c", "worker": {"spec": {"containers": []}}})
    }

    #[test]
    fn a_good_object_loses_only_its_bookkeeping() {
        let read: Lenient<DaskWorkerGroup> = serde_json::from_value(group(&good())).unwrap();
        let group = read.0.unwrap();
        assert_eq!(group.spec.cluster, "c");
        assert!(group.metadata.managed_fields.is_none());
        assert_eq!(group.annotations().keys().collect::<Vec<_>>(), ["kept"]);
    }

    #[test]
    fn a_malformed_object_keeps_its_name_and_says_why() {
        let read: Lenient<DaskWorkerGroup> =
            serde_json::from_value(group(&json!({"cluster": "c", "worker": {"spec": {"containers": 7}}})))
                .unwrap();
        assert_eq!((read.name_any().as_str(), read.resource_version().as_deref()), ("g", Some("5")));
        let malformed = read.0.unwrap_err();
        assert!(malformed.error.contains("invalid type: integer `7`"), "{}", malformed.error);
    }

    #[test]
    fn a_list_survives_a_malformed_item() {
        let list: Vec<Lenient<DaskWorkerGroup>> =
            serde_json::from_value(json!([group(&json!("none")), group(&good())])).unwrap();
        assert_eq!(list.iter().map(|item| item.0.is_ok()).collect::<Vec<_>>(), [false, true]);
    }
}
