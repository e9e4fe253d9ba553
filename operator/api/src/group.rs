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
    /// Condition `WorkersReady`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Worker pods that exist and are not on their way out.
    #[serde(default)]
    pub replicas: i32,
    /// Worker pods that are ready.
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
