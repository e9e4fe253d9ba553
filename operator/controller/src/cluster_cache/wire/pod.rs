//! The parts of a pod that are read.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{WireMeta, part_of};

/// A pod, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WirePod {
    /// Metadata.
    pub metadata: WireMeta,
    /// Spec.
    pub spec: WirePodSpec,
    /// Status.
    pub status: PodStatus,
}

part_of!(WirePod, Pod);

/// Spec of a pod, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WirePodSpec {
    /// The node it was given to.
    pub node_name: Option<String>,
}

/// Status of a pod, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: Option<String>,
    /// Why the pod is in this phase, such as `Evicted`.
    pub reason: Option<String>,
    /// The same in words.
    pub message: Option<String>,
    /// Conditions.
    pub conditions: Vec<PodCondition>,
    /// Statuses of the init containers.
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Statuses of the containers.
    pub container_statuses: Vec<ContainerStatus>,
}

impl PodStatus {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&PodCondition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether the condition of this type is `True`.
    #[must_use]
    pub fn is(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == "True")
    }

    /// Statuses of all containers, init containers first.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.init_container_statuses.iter().chain(&self.container_statuses)
    }
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCondition {
    /// Such as `PodScheduled` or `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: Option<String>,
    /// Words.
    pub message: Option<String>,
    last_transition_time: Option<Time>,
}

impl PodCondition {
    /// When the status changed last.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        self.last_transition_time.as_ref().map(|time| time.0)
    }
}

/// Status of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Name of the container.
    pub name: String,
    /// Image, as in the spec or as resolved.
    pub image: String,
    /// Restarts.
    pub restart_count: i32,
    /// What it does now.
    pub state: ContainerState,
    /// How it ended before its last restart.
    pub last_state: ContainerState,
}

/// What a container does; at most one of these is there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// It waits to start.
    pub waiting: Option<Waiting>,
    /// It runs.
    pub running: Option<IgnoredAny>,
    /// It ended.
    pub terminated: Option<Terminated>,
}

/// Why a container waits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// One word, such as `ImagePullBackOff`.
    pub reason: Option<String>,
    /// The kubelet's words.
    pub message: Option<String>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// Exit code of the process.
    pub exit_code: i32,
    /// One word, such as `OOMKilled`.
    pub reason: Option<String>,
    /// The kubelet's words, or the container's own termination message.
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use kube::{Resource, ResourceExt};
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_needed_is_read() {
        let pod: WirePod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "w", "namespace": "ns", "uid": "u", "resourceVersion": "42",
                "creationTimestamp": "2026-11-23T10:00:00Z", "deletionTimestamp": "2026-11-23T10:01:00Z",
                "labels": {"dask.org/cluster-name": "c", "other": "x"},
                "annotations": {"kubernetes.dask.org/ordinal": "not a number"},
                "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}],
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "other"},
                    {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "owner", "controller": true},
                ],
            },
            "spec": {"nodeName": "node", "containers": [{"name": "worker"}]},
            "status": {"phase": "Running", "hostIP": "10.0.0.1"},
        }))
        .unwrap();
        assert_eq!(pod.metadata.key().to_string(), "ns/w");
        assert_eq!((pod.metadata.uid(), pod.metadata.resource_version()), ("u", 42));
        assert_eq!(pod.metadata.created.map(|t| t.to_string()).as_deref(), Some("2026-11-23T10:00:00Z"));
        assert!(pod.metadata.terminating);
        assert_eq!(pod.metadata.controller_uid.as_deref(), Some("owner"));
        assert_eq!(pod.metadata.ordinal, None);
        assert_eq!(pod.resource_version().as_deref(), Some("42"), "kube's watcher reads this");
        assert!(pod.meta().managed_fields.is_none());
        assert_eq!(WirePod::url_path(&(), Some("ns")), "/api/v1/namespaces/ns/pods");
    }

    #[test]
    fn a_pod_with_hardly_anything_is_read() {
        let pod: WirePod = serde_json::from_value(json!({"metadata": {"creationTimestamp": null}})).unwrap();
        assert_eq!((pod.metadata.uid(), pod.metadata.resource_version()), ("", 0));
        assert!(!pod.metadata.terminating);
    }
}
