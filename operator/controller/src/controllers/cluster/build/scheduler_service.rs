//! The Service in front of the scheduler.

use dask_operator_api::address::{DEFAULT_COMM_PORT, SchedulerAddress};
use dask_operator_api::{ClusterName, DaskCluster, labels};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::scheduler_ports::comm_port;
use crate::pods::metadata;

/// The Service, its spec exactly as the user wrote it.
#[must_use]
pub fn scheduler_service(cluster: &DaskCluster, name: &ClusterName) -> Service {
    let mut meta = metadata::of_scheduler(cluster, &name.scheduler());
    if let Some(labels) = &mut meta.labels {
        labels.remove(labels::ISTIO_INJECT);
    }
    Service { metadata: meta, spec: Some(cluster.spec.scheduler.service.clone()), status: None }
}

/// The merge patch that brings a live Service's spec to what the user wrote; `None` when it is already there.
///
/// Only fields that the user wrote are compared, because the API server adds defaults; empty values ask for
/// such a default. Lists are compared in order and replaced whole.
#[must_use]
pub fn service_patch(wanted: &ServiceSpec, live: &ServiceSpec) -> Option<Value> {
    let (Ok(Value::Object(wanted)), Ok(live)) = (serde_json::to_value(wanted), serde_json::to_value(live))
    else {
        return None;
    };
    let mut patch = serde_json::Map::new();
    for (key, value) in wanted {
        let live = live.get(&key).unwrap_or(&Value::Null);
        let exact = key == "selector" && live != &value;
        if exact || !contains(live, &value) {
            let stale =
                live.as_object().into_iter().flatten().filter(|(key, _)| value.get(key.as_str()).is_none());
            let mut replacement = value.clone();
            if let Value::Object(fields) = &mut replacement {
                fields.extend(stale.map(|(key, _)| (key.clone(), Value::Null)));
            }
            patch.insert(key, replacement);
        }
    }
    (!patch.is_empty()).then(|| json!({ "spec": patch }))
}

/// Whether `live` has every field of `wanted` that is not empty.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| contains(live.get(key).unwrap_or(&Value::Null), value))
        }
        (Value::Array(live), Value::Array(wanted)) if !wanted.is_empty() => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        (live, wanted) => is_empty(wanted) || live == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) => false,
    }
}

/// Address of the scheduler for workers and runners: its Service and the port that leads to it, or Dask's own number if
/// none does.
#[must_use]
pub fn scheduler_address(cluster: &DaskCluster) -> SchedulerAddress {
    let port = comm_port(&cluster.spec.scheduler).in_service.unwrap_or(DEFAULT_COMM_PORT);
    let service = format!("{}-scheduler", cluster.name_any());
    SchedulerAddress::new(service, cluster.namespace().unwrap_or_default(), port)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn spec(value: Value) -> ServiceSpec {
        serde_json::from_value(value).unwrap()
    }

    #[rstest]
    #[case::defaults_were_added(
        json!({"type": "ClusterIP", "clusterIP": "", "ports": [{"name": "tcp-comm", "port": 8786, "nodePort": 0}]}),
        json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "sessionAffinity": "None",
               "ports": [{"name": "tcp-comm", "port": 8786, "targetPort": 8786, "protocol": "TCP"}]}),
        None)]
    #[case::type_was_edited(
        json!({"type": "LoadBalancer"}), json!({"type": "ClusterIP"}), Some(json!({"type": "LoadBalancer"})))]
    #[case::port_was_added(
        json!({"ports": [{"port": 1}, {"port": 2}]}), json!({"ports": [{"port": 1, "protocol": "TCP"}]}),
        Some(json!({"ports": [{"port": 1}, {"port": 2}]})))]
    #[case::port_was_removed(
        json!({"ports": [{"port": 1}]}), json!({"ports": [{"port": 1}, {"port": 2}]}),
        Some(json!({"ports": [{"port": 1}]})))]
    #[case::selector_was_edited(
        json!({"selector": {"a": "1"}}), json!({"selector": {"a": "2", "b": "3"}}),
        Some(json!({"selector": {"a": "1", "b": null}})))]
    #[case::selector_lost_a_key(
        json!({"selector": {"a": "1"}}), json!({"selector": {"a": "1", "b": "2"}}),
        Some(json!({"selector": {"a": "1", "b": null}})))]
    #[case::nothing_wanted(json!({}), json!({"type": "ClusterIP"}), None)]
    #[case::a_node_port_was_set_by_hand(
        json!({"type": "NodePort", "ports": [{"name": "x", "protocol": "TCP", "port": 18786, "targetPort": "tcp-comm"}]}),
        json!({"type": "NodePort", "ports": [
            {"name": "x", "protocol": "TCP", "port": 18786, "targetPort": "tcp-comm", "nodePort": 31234}]}),
        None)]
    fn patches(#[case] wanted: Value, #[case] live: Value, #[case] patch: Option<Value>) {
        assert_eq!(service_patch(&spec(wanted), &spec(live)), patch.map(|spec| json!({ "spec": spec })));
    }

    #[test]
    fn the_address_follows_the_services_port() {
        let cluster = |service: Value| -> DaskCluster {
            serde_json::from_value(json!({
                "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster",
                "metadata": {"name": "simple", "namespace": "ns"},
                "spec": {"scheduler": {"spec": {"containers": []}, "service": service},
                         "worker": {"spec": {"containers": []}}},
            }))
            .unwrap()
        };
        let address = |service| scheduler_address(&cluster(service)).to_string();
        assert_eq!(address(json!({})), "tcp://simple-scheduler.ns.svc.cluster.local:8786");
        assert_eq!(
            address(json!({"ports": [{"name": "tcp-comm", "port": 9000}]})),
            "tcp://simple-scheduler.ns.svc.cluster.local:9000"
        );
        assert_eq!(
            address(json!({"ports": [{"name": "dask-tcp-comm", "port": 18786, "targetPort": 8786}]})),
            "tcp://simple-scheduler.ns.svc.cluster.local:18786"
        );
    }
}
