//! `DaskWorkerGroup`: workers of one kind that belong to a cluster.

#![expect(clippy::duplicated_attributes, reason = "every printer column has a type and a priority")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::WorkerSpec;

/// Desired state of a worker group.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubernetes.dask.org",
    version = "v1",
    kind = "DaskWorkerGroup",
    plural = "daskworkergroups",
    singular = "daskworkergroup",
    shortname = "daskworkers",
    namespaced,
    status = "DaskWorkerGroupStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Workers of one kind that belong to a DaskCluster in the same namespace.",
    scale(
        spec_replicas_path = ".spec.worker.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".spec.worker.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='WorkersReady')].reason",
        priority = 1
    )
)]
pub struct DaskWorkerGroupSpec {
    /// Name of the DaskCluster, in the same namespace.
    pub cluster: String,
    /// The workers.
    pub worker: WorkerSpec,
}

/// Observed state of a worker group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaskWorkerGroupStatus {
    /// Conditions `WorkersReady`, `Scaling`, `Updating`; where it applies `ModulesReady`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Workers that exist and are not to go.
    #[serde(default)]
    pub replicas: i32,
    /// Of these, those that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Label selector of the worker pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Highest ordinal ever given to a worker of this group; ordinals are never used twice.
    #[serde(default)]
    pub highest_ordinal: i64,
    /// Failures that slow down the replacement of workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<WorkerFailures>,
}

/// What is remembered about workers that failed, so that a restart of the operator does not hurry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerFailures {
    /// Failures in a row without a quiet period between them.
    pub consecutive: i32,
    /// Names of failed pods that are counted already and wait to be replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// Reason of the last one.
    pub last_reason: String,
    /// What happened, in one sentence that names the pod.
    pub last_message: String,
    /// When the last one was seen.
    pub last_time: Time,
    /// No replacement is made before this time.
    pub retry_after: Time,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_group_of_the_python_client_is_read() {
        let group: DaskWorkerGroup = serde_json::from_value(json!({
            "apiVersion": "kubernetes.dask.org/v1",
            "kind": "DaskWorkerGroup",
            "metadata": {"name": "simple-extra"},
            "spec": {"cluster": "simple", "worker": {"spec": {"containers": [{"name": "worker"}]}}},
        }))
        .unwrap();
        assert_eq!(group.spec.cluster, "simple");
        assert_eq!(group.spec.worker.replicas, 1);
        assert!(group.status.is_none());
    }

    #[test]
    fn what_must_survive_a_restart_is_in_the_status() {
        let time = |text: &str| Time(text.parse().unwrap());
        let status = DaskWorkerGroupStatus {
            highest_ordinal: 12,
            failures: Some(WorkerFailures {
                consecutive: 3,
                pods: vec!["a".to_owned()],
                last_reason: "OutOfMemory".to_owned(),
                last_message: "pod a ran out of memory".to_owned(),
                last_time: time("2026-01-01T00:00:00Z"),
                retry_after: time("2026-01-01T00:00:40Z"),
            }),
            ..Default::default()
        };
        let written = serde_json::to_value(&status).unwrap();
        assert_eq!(written["highestOrdinal"], 12);
        assert_eq!(written["failures"]["retryAfter"], "2026-01-01T00:00:40Z");
        assert_eq!(serde_json::from_value::<DaskWorkerGroupStatus>(written).unwrap(), status);
    }

    #[test]
    fn a_status_without_any_field_is_read() {
        let status: DaskWorkerGroupStatus = serde_json::from_value(json!({})).unwrap();
        assert_eq!(status, DaskWorkerGroupStatus::default());
    }
}
