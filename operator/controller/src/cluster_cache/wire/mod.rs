//! What is read of watched objects. Every other field is skipped while decoding, so that a pod costs a few
//! hundred bytes instead of a few thousand.

mod deployment;
mod lenient;
mod pod;
mod service;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::ObjectKey;

pub use deployment::WireDeployment;
pub use lenient::{Lenient, Malformed};
pub use pod::{
    ContainerState, ContainerStatus, PodCondition, PodStatus, Terminated, Waiting, WirePod, WirePodSpec,
};
pub use service::WireService;

/// Metadata of an object, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "RawMeta")]
pub struct WireMeta {
    /// Name, namespace, UID and resource version; nothing else.
    pub object: ObjectMeta,
    /// `creationTimestamp`.
    pub created: Option<Timestamp>,
    /// Whether there is a `deletionTimestamp`.
    pub terminating: bool,
    /// UID of the controlling owner.
    pub controller_uid: Option<String>,
    /// Label `dask.org/cluster-name`.
    pub cluster: Option<String>,
    /// Label `dask.org/workergroup-name`.
    pub group: Option<String>,
    /// Label `dask.org/component`.
    pub component: Option<String>,
    /// Annotation `kubernetes.dask.org/ordinal`, if it is a number.
    pub ordinal: Option<i64>,
}

impl WireMeta {
    /// Namespace and name.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let name = self.object.name.as_deref().unwrap_or_default();
        ObjectKey::new(self.object.namespace.as_deref().unwrap_or_default(), name)
    }

    /// Name, or nothing.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object.name.as_deref().unwrap_or_default()
    }

    /// UID, or nothing.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.object.uid.as_deref().unwrap_or_default()
    }

    /// The resource version as a number.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        resource_version(&self.object)
    }
}

/// An object's resource version as a number; 0 when it has none. Greater is later for objects of one kind, as
/// Kubernetes guarantees since 1.35 and etcd always did.
#[must_use]
pub fn resource_version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<IgnoredAny>,
    labels: Option<RawLabels>,
    annotations: Option<RawAnnotations>,
    owner_references: Option<Vec<RawOwner>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawLabels {
    #[serde(rename = "dask.org/cluster-name")]
    cluster: Option<String>,
    #[serde(rename = "dask.org/workergroup-name")]
    group: Option<String>,
    #[serde(rename = "dask.org/component")]
    component: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAnnotations {
    #[serde(rename = "kubernetes.dask.org/ordinal")]
    ordinal: Option<String>,
}

#[derive(Deserialize)]
struct RawOwner {
    uid: String,
    #[serde(default)]
    controller: Option<bool>,
}

impl From<RawMeta> for WireMeta {
    fn from(raw: RawMeta) -> Self {
        let labels = raw.labels.unwrap_or_default();
        let mut owners = raw.owner_references.into_iter().flatten();
        Self {
            object: ObjectMeta {
                name: raw.name,
                namespace: raw.namespace,
                uid: raw.uid,
                resource_version: raw.resource_version,
                ..ObjectMeta::default()
            },
            created: raw.creation_timestamp.map(|time| time.0),
            terminating: raw.deletion_timestamp.is_some(),
            controller_uid: owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid),
            cluster: labels.cluster,
            group: labels.group,
            component: labels.component,
            ordinal: raw.annotations.and_then(|annotations| annotations.ordinal?.parse().ok()),
        }
    }
}

/// Lets kube's client and watcher handle a wire type as the built-in kind that it is a part of.
macro_rules! part_of {
    ($wire:ty, $whole:ty) => {
        impl kube::Resource for $wire {
            type DynamicType = ();
            type Scope = <$whole as kube::Resource>::Scope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                <$whole as kube::Resource>::kind(&())
            }

            fn group((): &()) -> std::borrow::Cow<'_, str> {
                <$whole as kube::Resource>::group(&())
            }

            fn version((): &()) -> std::borrow::Cow<'_, str> {
                <$whole as kube::Resource>::version(&())
            }

            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                <$whole as kube::Resource>::plural(&())
            }

            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata.object
            }

            fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata.object
            }
        }
    };
}
use part_of;

#[cfg(test)]
mod tests {
    use kube::{Resource, ResourceExt};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_names_of_labels_and_annotations_are_the_apis() {
        let pod: WirePod = serde_json::from_value(json!({"metadata": {
            "labels": {labels::CLUSTER_NAME: "c", labels::WORKER_GROUP_NAME: "g", labels::COMPONENT: "worker"},
            "annotations": {labels::ORDINAL: "7"},
        }}))
        .unwrap();
        assert_eq!(pod.metadata.cluster.as_deref(), Some("c"));
        assert_eq!(pod.metadata.group.as_deref(), Some("g"));
        assert_eq!(pod.metadata.component.as_deref(), Some("worker"));
        assert_eq!(pod.metadata.ordinal, Some(7));
    }
}
