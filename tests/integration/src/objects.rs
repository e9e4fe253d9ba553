//! All objects of a namespace in a form that can be compared between runs, and whether any of them is an orphan.

use std::collections::{BTreeMap, BTreeSet};

use dask_operator_api::{DaskCluster, DaskWorkerGroup, labels};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::namespace::{Namespace, Object};

/// What the operator made and wrote, by kind and name, without what differs from run to run: worker names become
/// numbers, UIDs, times and addresses are left out.
pub async fn comparable(namespace: &Namespace) -> BTreeMap<String, Value> {
    let mut objects = BTreeMap::new();
    for cluster in namespace.list::<DaskCluster>("").await {
        let mut status = json!(cluster.status);
        // Its name is the ReplicaSet controller's choice.
        status["scheduler"]["pod"] = Value::Null;
        add(namespace, &mut objects, &cluster, &cluster.name_any(), &json!(cluster.spec), status);
    }
    for group in namespace.list::<DaskWorkerGroup>("").await {
        let mut status = json!(group.status);
        // Depends on how many creations were tried again under a new ordinal.
        status["highestOrdinal"] = Value::Null;
        let name = group.name_any();
        add(namespace, &mut objects, &group, &name, &json!(group.spec), status);
        for (number, worker) in namespace.workers(&name).await.iter().enumerate() {
            let mut spec = json!(worker.spec).to_string().replace(&worker.name_any(), "<worker>");
            for volume in worker.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
                if volume.name.starts_with("kube-api-access-") {
                    spec = spec.replace(&volume.name, "<token>");
                }
            }
            let spec = serde_json::from_str(&spec).expect("still JSON");
            add(namespace, &mut objects, worker, &format!("{name}-worker-#{number}"), &spec, Value::Null);
        }
    }
    for map in namespace.list::<ConfigMap>(labels::CLUSTER_NAME).await {
        add(namespace, &mut objects, &map, &map.name_any(), &json!(map.data), Value::Null);
    }
    for service in namespace.list::<Service>("").await {
        let mut spec = json!(service.spec);
        spec["clusterIP"] = Value::Null;
        spec["clusterIPs"] = Value::Null;
        for port in spec["ports"].as_array_mut().into_iter().flatten() {
            port["nodePort"] = port["nodePort"].is_number().into();
        }
        add(namespace, &mut objects, &service, &service.name_any(), &spec, Value::Null);
    }
    for deployment in namespace.list::<Deployment>("").await {
        add(
            namespace,
            &mut objects,
            &deployment,
            &deployment.name_any(),
            &json!(deployment.spec),
            Value::Null,
        );
    }
    objects
}

fn add<K>(
    namespace: &Namespace,
    objects: &mut BTreeMap<String, Value>,
    object: &K,
    name: &str,
    spec: &Value,
    status: Value,
) where
    K: Resource<DynamicType = ()>,
{
    let owners: Vec<_> = object.owner_references().iter().map(|o| format!("{} {}", o.kind, o.name)).collect();
    let mut annotations = object.annotations().clone();
    for bookkeeping in ["deployment.kubernetes.io/revision", "kubernetes.dask.org/ordinal"] {
        annotations.remove(bookkeeping);
    }
    let object = json!({
        "labels": object.labels(), "annotations": annotations, "owners": owners,
        "finalizers": object.finalizers(), "spec": spec, "status": timeless(status),
    });
    let text = object.to_string().replace(&namespace.name, "<namespace>");
    let object = serde_json::from_str(&text).expect("still JSON");
    objects.insert(format!("{} {name}", K::kind(&())), object);
}

/// A status without times, and without the generations that count edits.
fn timeless(mut status: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|key, value| {
                    !value.is_null() && !["lastTransitionTime", "observedGeneration"].contains(&key.as_str())
                });
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut status);
    status
}

/// Where two sets of objects differ, in words; empty if they do not.
#[must_use]
pub fn difference(expected: &BTreeMap<String, Value>, found: &BTreeMap<String, Value>) -> Vec<String> {
    let names: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let mut differences = Vec::new();
    for name in names {
        match (expected.get(name), found.get(name)) {
            (Some(expected), Some(found)) => compare(name, expected, found, &mut differences),
            (Some(_), None) => differences.push(format!("{name} is missing")),
            (None, _) => differences.push(format!("{name} is too many")),
        }
    }
    differences
}

fn compare(path: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
            for key in keys {
                let (expected, found) = (expected.get(key), found.get(key));
                let null = Value::Null;
                compare(
                    &format!("{path}.{key}"),
                    expected.unwrap_or(&null),
                    found.unwrap_or(&null),
                    differences,
                );
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                compare(&format!("{path}[{index}]"), expected, found, differences);
            }
        }
        _ if expected == found => {}
        _ => differences.push(format!("{path} is {found}, expected {expected}")),
    }
}

/// Objects that belong to a cluster, or should, but have no owner that lives; in words.
pub async fn orphans(namespace: &Namespace) -> Vec<String> {
    let mut owners = BTreeSet::new();
    collect_uids::<DaskCluster>(namespace, &mut owners).await;
    collect_uids::<DaskWorkerGroup>(namespace, &mut owners).await;
    collect_uids::<Deployment>(namespace, &mut owners).await;
    collect_uids::<ReplicaSet>(namespace, &mut owners).await;
    let mut orphans = Vec::new();
    collect_orphans::<DaskWorkerGroup>(namespace, "", &owners, &mut orphans).await;
    collect_orphans::<Deployment>(namespace, "", &owners, &mut orphans).await;
    collect_orphans::<ReplicaSet>(namespace, "", &owners, &mut orphans).await;
    collect_orphans::<ConfigMap>(namespace, labels::CLUSTER_NAME, &owners, &mut orphans).await;
    collect_orphans::<Service>(namespace, "", &owners, &mut orphans).await;
    collect_orphans::<Pod>(namespace, "", &owners, &mut orphans).await;
    orphans
}

async fn collect_uids<K: Object>(namespace: &Namespace, uids: &mut BTreeSet<String>) {
    uids.extend(namespace.list::<K>("").await.iter().filter_map(ResourceExt::uid));
}

async fn collect_orphans<K: Object>(
    namespace: &Namespace,
    selector: &str,
    owners: &BTreeSet<String>,
    orphans: &mut Vec<String>,
) {
    for object in namespace.list::<K>(selector).await {
        let owned = object.owner_references().iter().any(|owner| owners.contains(&owner.uid));
        if !owned && object.meta().deletion_timestamp.is_none() {
            orphans.push(format!("{} {}", K::kind(&()), object.name_any()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let objects = |value: Value| -> BTreeMap<String, Value> { serde_json::from_value(value).unwrap() };
        let expected = objects(json!({"a": {"x": [1, {"y": 2}]}, "b": {}}));
        assert_eq!(difference(&expected, &expected), [""; 0]);
        let found = objects(json!({"a": {"x": [1, {"y": 3}], "z": 1}, "c": {}}));
        assert_eq!(
            difference(&expected, &found),
            ["a.x[1].y is 3, expected 2", "a.z is 1, expected null", "b is missing", "c is too many"]
        );
    }

    #[test]
    fn times_do_not_count() {
        let status = json!({"conditions": [{"type": "Ready", "lastTransitionTime": "x", "message": null}]});
        assert_eq!(timeless(status), json!({"conditions": [{"type": "Ready"}]}));
    }
}
