//! `DaskAutoscaler`: the bounds between which a cluster's default group is scaled.

#![expect(clippy::duplicated_attributes, reason = "every printer column has a type and a priority")]

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::MAX_REPLICAS;

/// Desired state of an autoscaler.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubernetes.dask.org",
    version = "v1",
    kind = "DaskAutoscaler",
    plural = "daskautoscalers",
    singular = "daskautoscaler",
    namespaced,
    status = "DaskAutoscalerStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Scales the default worker group of a DaskCluster between two bounds.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Minimum", type_ = "integer", json_path = ".spec.minimum"),
    printcolumn(name = "Maximum", type_ = "integer", json_path = ".spec.maximum"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct DaskAutoscalerSpec {
    /// Name of the DaskCluster, in the same namespace.
    pub cluster: String,
    /// Least number of workers.
    #[schemars(range(min = 0, max = MAX_REPLICAS))]
    pub minimum: i32,
    /// Greatest number of workers, 100000 at most.
    #[schemars(range(min = 0, max = MAX_REPLICAS))]
    pub maximum: i32,
}

/// Observed state of an autoscaler.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaskAutoscalerStatus {
    /// Conditions of the autoscaler.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_autoscaler_of_the_python_client_is_read() {
        let autoscaler: DaskAutoscaler = serde_json::from_value(json!({
            "apiVersion": "kubernetes.dask.org/v1",
            "kind": "DaskAutoscaler",
            "metadata": {"name": "simple"},
            "spec": {"cluster": "simple", "minimum": 0, "maximum": 10},
        }))
        .unwrap();
        assert_eq!(
            autoscaler.spec,
            DaskAutoscalerSpec { cluster: "simple".to_owned(), minimum: 0, maximum: 10 }
        );
    }

    #[test]
    fn bounds_have_no_defaults() {
        assert!(
            serde_json::from_value::<DaskAutoscalerSpec>(json!({"cluster": "simple", "minimum": 1})).is_err()
        );
    }
}
