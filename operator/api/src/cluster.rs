//! `DaskCluster`: a scheduler, its Service and a default group of workers.

#![expect(clippy::duplicated_attributes, reason = "every printer column has a type and a priority")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

use crate::pod_spec::deserialize_pod_spec;
use crate::update::UpdatePolicy;

/// Desired state of a Dask cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubernetes.dask.org",
    version = "v1",
    kind = "DaskCluster",
    plural = "daskclusters",
    singular = "daskcluster",
    shortname = "daskcluster",
    shortname = "dsk",
    namespaced,
    status = "DaskClusterStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "A Dask scheduler, its Service and the workers that belong to it.",
    scale(
        spec_replicas_path = ".spec.worker.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".spec.worker.replicas", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = 1
    ),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.scheduler.address", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct DaskClusterSpec {
    /// Seconds without work after which the cluster is deleted; 0 means never.
    #[serde(default, deserialize_with = "zero_if_null")]
    #[schemars(range(min = 0))]
    pub idle_timeout: i64,
    /// The scheduler's pod and Service.
    pub scheduler: SchedulerSpec,
    /// The default worker group.
    pub worker: WorkerSpec,
    /// How edits reach running pods, and how workers are drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdatePolicy>,
}

impl DaskClusterSpec {
    /// How edits reach running pods, and how workers are drained.
    #[must_use]
    pub fn update_policy(&self) -> UpdatePolicy {
        self.update.clone().unwrap_or_default()
    }
}

/// The scheduler's pod template and Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SchedulerSpec {
    /// Labels and annotations added to the scheduler's Deployment, Pod and Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Pod of the scheduler, as in `kubectl explain pod.spec`.
    #[serde(deserialize_with = "deserialize_pod_spec")]
    pub spec: PodSpec,
    /// Service in front of the scheduler, created as written; as in `kubectl explain service.spec`.
    pub service: ServiceSpec,
}

/// Most workers of one group, and so the greatest value of every field that asks for a number of workers.
///
/// Kubernetes is made for up to 150,000 pods in a whole cluster
/// (kubernetes.io/docs/setup/best-practices/cluster-large), so that more than this is a slip of the hand.
pub const MAX_REPLICAS: i32 = 100_000;

/// A worker's pod template and the wanted number of workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerSpec {
    /// Labels and annotations added to the worker group and its pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Wanted number of worker pods, 100000 at most.
    #[serde(default = "one", deserialize_with = "one_if_null")]
    #[schemars(range(min = 0, max = MAX_REPLICAS))]
    pub replicas: i32,
    /// Pod of each worker, as in `kubectl explain pod.spec`.
    #[serde(deserialize_with = "deserialize_pod_spec")]
    pub spec: PodSpec,
}

fn one() -> i32 {
    1
}

// KubeCluster sends nulls. The API server drops them; readers of manifests meet them.

fn one_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(one))
}

fn zero_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The labels and annotations a user may add to generated objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateMetadata {
    /// Labels to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Where a cluster is in its life, in the words of dask-kubernetes.
///
/// `Running` only says that the scheduler's Service can be resolved; real readiness is in the conditions,
/// because unmodified clients delete a cluster whose phase is not `Running` in time.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Display, EnumString, IntoStaticStr,
)]
pub enum ClusterPhase {
    /// Seen by the operator; its objects are being made.
    Created,
    /// Its load balancer has no address yet.
    Pending,
    /// Its Service exists. Never left again.
    Running,
    /// Its name cannot be used; nothing is made.
    Error,
}

/// Observed state of a Dask cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaskClusterStatus {
    /// Phase as dask-kubernetes defines it; see the conditions for readiness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<ClusterPhase>,
    /// Conditions `Ready`, `SchedulerReady`, `WorkersReady`, `SchedulerReachable`, `Updating`; where they apply
    /// `SchedulerLostState`, `RunnerReady`, `ModulesReady`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Worker pods that exist in the default group.
    #[serde(default)]
    pub replicas: i32,
    /// Worker pods of the default group that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Ready and wanted workers of all groups, as `ready/wanted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<String>,
    /// Label selector of the default group's worker pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The scheduler as it was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerStatus>,
    /// Worker counts of each group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupCounts>,
}

/// The scheduler as it was last seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SchedulerStatus {
    /// Address for workers and clients in the cluster, such as `tcp://demo-scheduler.ns.svc:8786`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// URL of the dashboard inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard: Option<String>,
    /// Name of the scheduler's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Container restarts of that pod.
    #[serde(default)]
    pub restarts: i32,
    /// Identity that the scheduler process gave itself; another one means that it restarted and lost all results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// When that process started, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
}

/// Number of worker pods of one group, by state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupCounts {
    /// Name of the DaskWorkerGroup.
    pub name: String,
    /// Wanted.
    pub desired: i32,
    /// Not on a node yet.
    pub pending: i32,
    /// On a node, not ready yet.
    pub starting: i32,
    /// Ready.
    pub ready: i32,
    /// Finishing their tasks and handing over their data before they go.
    #[serde(default)]
    pub draining: i32,
    /// Ended for good, waiting to be replaced.
    pub failed: i32,
    /// On their way out.
    pub terminating: i32,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn spec(idle_timeout: &Value, replicas: &Value) -> Result<DaskClusterSpec, serde_json::Error> {
        serde_json::from_value(json!({
            "idleTimeout": idle_timeout,
            "scheduler": {"service": {}, "spec": {"containers": [{"name": "scheduler"}]}},
            "worker": {"replicas": replicas, "spec": {"containers": [{"name": "worker"}]}},
        }))
    }

    #[test]
    fn a_spec_that_says_little_has_the_defaults_of_dask_kubernetes() {
        let spec: DaskClusterSpec = serde_json::from_value(json!({
            "scheduler": {"service": {}, "spec": {"containers": []}},
            "worker": {"spec": {"containers": []}},
        }))
        .unwrap();
        assert_eq!((spec.idle_timeout, spec.worker.replicas), (0, 1));
        assert!(spec.scheduler.metadata.is_none() && spec.worker.metadata.is_none());
    }

    #[test]
    fn nulls_mean_the_defaults() {
        let spec = spec(&Value::Null, &Value::Null).unwrap();
        assert_eq!((spec.idle_timeout, spec.worker.replicas), (0, 1));
    }

    #[rstest]
    #[case(json!("3"))]
    #[case(json!(1.5))]
    #[case(json!(3_000_000_000_u64))]
    fn replicas_are_a_whole_number_of_32_bits(#[case] replicas: Value) {
        assert!(spec(&json!(0), &replicas).is_err());
    }

    #[test]
    fn phases_are_the_words_of_dask_kubernetes() {
        use ClusterPhase::{Created, Error, Pending, Running};
        let words = [Created, Pending, Running, Error].map(|phase| phase.to_string());
        assert_eq!(words, ["Created", "Pending", "Running", "Error"]);
        assert_eq!(serde_json::to_value(Running).unwrap(), "Running");
        assert_eq!("Pending".parse(), Ok(Pending));
    }

    #[test]
    fn a_status_that_dask_kubernetes_wrote_is_read() {
        let status: DaskClusterStatus = serde_json::from_value(json!({"phase": "Running"})).unwrap();
        assert_eq!(status, DaskClusterStatus { phase: Some(ClusterPhase::Running), ..Default::default() });
    }

    #[test]
    fn an_empty_status_writes_only_its_counts() {
        let written = serde_json::to_value(DaskClusterStatus::default()).unwrap();
        assert_eq!(written, json!({"replicas": 0, "readyReplicas": 0}));
    }
}
