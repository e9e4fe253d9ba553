//! Decoding that an object which does not fit its type cannot stop.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::object_text::{MOST_VALUES, bounded};
use crate::words::shortened;

/// kubectl's copy of the whole object, which nobody reads here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object, or what is known of one that cannot be decoded: one such object must not stop the watch for all others, nor
/// take the memory for them. `managedFields` and kubectl's copy of an object are dropped, since it is kept for long.
#[derive(Clone, Debug)]
pub(super) struct Lenient<K>(pub(super) Result<K, Malformed>);

/// Of an object of any shape.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    metadata: NamedMeta,
}

/// So much of the metadata as cannot be large: labels and finalizers, for which there is no limit but the object's, take
/// ten times as much in memory as in text.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NamedMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

impl From<NamedMeta> for ObjectMeta {
    fn from(meta: NamedMeta) -> Self {
        let NamedMeta { name, namespace, uid, resource_version } = meta;
        Self { name, namespace, uid, resource_version, ..Self::default() }
    }
}

/// An object that cannot be decoded.
#[derive(Clone, Debug)]
pub(super) struct Malformed {
    /// Name, namespace, UID and resource version.
    pub(super) metadata: ObjectMeta,
    /// What does not fit, in few words.
    pub(super) error: String,
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Lenient<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let decoded = bounded(text.get(), MOST_VALUES)
            .map_err(|error| error.to_string())
            .and_then(|text| serde_json::from_str::<K>(&text).map_err(|error| error.to_string()));
        match decoded {
            Ok(mut object) => {
                let metadata = object.meta_mut();
                metadata.managed_fields = None;
                if let Some(annotations) = &mut metadata.annotations {
                    annotations.remove(LAST_APPLIED);
                }
                Ok(Self(Ok(object)))
            }
            Err(error) => {
                let Named { metadata } = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
                // It may repeat the value that does not fit.
                let error = shortened(&error).into_owned();
                Ok(Self(Err(Malformed { metadata: metadata.into(), error })))
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
    fn what_does_not_fit_is_not_repeated_whole() {
        let long = "x".repeat(1 << 20);
        let read: Lenient<DaskWorkerGroup> =
            serde_json::from_value(group(&json!({"cluster": "c", "worker": {"spec": {"containers": long}}})))
                .unwrap();
        assert!(read.0.unwrap_err().error.len() < 300);
    }

    /// As the API server took it from a tenant.
    fn crowded(sources: usize) -> String {
        let mut group = group(&good());
        let labels: Value = (0..20_000).map(|n| (format!("l{n}"), json!(""))).collect();
        group["metadata"]["labels"] = labels;
        group["spec"]["worker"]["spec"]["volumes"] =
            json!([{"name": "v", "projected": {"sources": vec![json!({}); sources]}}]);
        group.to_string()
    }

    #[test]
    fn of_an_object_with_very_many_values_nothing_is_built() {
        let text = crowded(450_000);
        assert!(text.len() < 1_700_000, "it fits into etcd");
        let read: Lenient<DaskWorkerGroup> = serde_json::from_str(&text).unwrap();
        assert_eq!((read.name_any().as_str(), read.resource_version().as_deref()), ("g", Some("5")));
        assert!(read.labels().is_empty());
        let error = read.0.unwrap_err().error;
        assert!(error.starts_with("the object has 4700") && error.ends_with("make it smaller"), "{error}");
    }

    #[test]
    fn two_templates_of_a_hundred_variables_are_far_from_too_many() {
        let from = json!({"secretKeyRef": {"name": "s", "key": "k", "optional": true}});
        let env: Vec<Value> = (0..100).map(|n| json!({"name": format!("E{n}"), "valueFrom": from})).collect();
        let template = json!({"containers": [{"name": "c", "image": "i", "env": env}]});
        let text = json!([template, template]).to_string();
        assert!(bounded(&text, MOST_VALUES / 5).is_ok());
    }

    #[test]
    fn a_list_survives_a_malformed_item() {
        let list: Vec<Lenient<DaskWorkerGroup>> =
            serde_json::from_value(json!([group(&json!("none")), group(&good())])).unwrap();
        assert_eq!(list.iter().map(|item| item.0.is_ok()).collect::<Vec<_>>(), [false, true]);
    }
}
