//! What kube-derive leaves to be done: the difference between a schema that describes our types and one
//! that accepts what dask-kubernetes accepts, says what is wrong in plain words, and stays small.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, ValidationRule,
};

use super::walk::{at_mut, for_each_property, items_mut, map_values_mut, property_mut};

/// Lists whose items have an identity, and the fields that make it. Kubernetes refuses duplicates of the
/// first three in a pod anyway, and dask-kubernetes 2026.3.0 keys all but containers the same way.
/// `env` is not among them: manifests may repeat a name, and the last one wins.
const KEYED_LISTS: [(&str, &[&str]); 6] = [
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("ports", &["containerPort", "port", "protocol"]),
    ("conditions", &["type"]),
    ("groups", &["name"]),
];

/// References whose `name` Kubernetes lets be absent, while the generated types ask for it.
const NAME_IS_OPTIONAL: [&str; 7] = [
    "configMap",
    "configMapKeyRef",
    "configMapRef",
    "nodePublishSecretRef",
    "secret",
    "secretKeyRef",
    "secretRef",
];

/// All adjustments that do not depend on the kind.
pub(super) fn adjust(root: &mut JSONSchemaProps) {
    drop_embedded_descriptions(root);
    treat_null_as_absent(root);
    default_protocol(root);
    key_lists(root);
    relax_references(root);
    require_a_container(root);
}

/// Removes the descriptions inside types of Kubernetes. With them a definition is larger than the 256 KiB
/// that `kubectl apply` can keep in its annotation.
fn drop_embedded_descriptions(root: &mut JSONSchemaProps) {
    for_each_property(root, &mut |name, property| {
        if is_pod_spec(property) || name == "service" || name == "conditions" {
            let own = property.description.take();
            drop_descriptions(property);
            property.description = own;
        }
    });
}

fn drop_descriptions(schema: &mut JSONSchemaProps) {
    schema.description = None;
    schema.properties.iter_mut().flatten().for_each(|(_, property)| drop_descriptions(property));
    if let Some(items) = items_mut(schema) {
        drop_descriptions(items);
    }
    if let Some(values) = map_values_mut(schema) {
        drop_descriptions(values);
    }
}

fn is_pod_spec(schema: &mut JSONSchemaProps) -> bool {
    property_mut(schema, "containers").is_some()
}

/// Makes the API server drop nulls, as it does with dask-kubernetes' definitions: KubeCluster sends
/// `env: null`, `resources: null`, `replicas: null` and `idleTimeout: null`.
fn treat_null_as_absent(root: &mut JSONSchemaProps) {
    for_each_property(root, &mut |_, property| property.nullable = None);
}

/// Ports are TCP unless they say otherwise. Part of a list's key, so it must have a default.
fn default_protocol(root: &mut JSONSchemaProps) {
    for_each_property(root, &mut |name, property| {
        if name == "ports"
            && let Some(protocol) = items_mut(property).and_then(|port| property_mut(port, "protocol"))
        {
            protocol.default = Some(JSON("TCP".into()));
        }
    });
}

/// Declares the identity of list items, so that server-side apply merges them and duplicates are refused.
fn key_lists(root: &mut JSONSchemaProps) {
    for_each_property(root, &mut |name, property| {
        let keys = KEYED_LISTS.iter().find(|(list, _)| *list == name).map(|(_, keys)| *keys);
        if let Some((keys, items)) = keys.zip(items_mut(property)) {
            let present = keys.iter().filter(|key| property_mut(items, key).is_some());
            let keys: Vec<String> = present.map(|key| (*key).to_owned()).collect();
            if !keys.is_empty() {
                property.x_kubernetes_list_type = Some("map".to_owned());
                property.x_kubernetes_list_map_keys = Some(keys);
            }
        }
    });
}

/// Asks for no field in a reference that Kubernetes does not ask for.
fn relax_references(root: &mut JSONSchemaProps) {
    fn relax(schema: Option<&mut JSONSchemaProps>, field: &str) {
        if let Some(schema) = schema
            && let Some(required) = &mut schema.required
        {
            required.retain(|name| name != field);
            if required.is_empty() {
                schema.required = None;
            }
        }
    }
    for_each_property(root, &mut |name, property| match name {
        "imagePullSecrets" => relax(items_mut(property), "name"),
        "hostAliases" => relax(items_mut(property), "ip"),
        name if NAME_IS_OPTIONAL.contains(&name) => relax(Some(property), "name"),
        _ => {}
    });
}

fn require_a_container(root: &mut JSONSchemaProps) {
    for_each_property(root, &mut |_, property| {
        if let Some(containers) = property_mut(property, "containers") {
            rule(
                containers,
                "self.size() > 0",
                "must hold at least one container, such as {name: worker, image: \"ghcr.io/dask/dask:latest\"}",
            );
        }
    });
}

/// A group or an autoscaler belongs to a cluster.
pub(super) fn require_cluster_name(root: &mut JSONSchemaProps) {
    if let Some(cluster) = at_mut(root, &["spec", "cluster"]) {
        rule(cluster, "self != ''", "must be the name of a DaskCluster in the same namespace");
    }
}

/// A runner that fails is started again in place, as in dask-kubernetes.
pub(super) fn restart_runner_on_failure(root: &mut JSONSchemaProps) {
    if let Some(policy) = at_mut(root, &["spec", "job", "spec", "restartPolicy"]) {
        policy.default = Some(JSON("OnFailure".into()));
    }
}

/// Clients of dask-kubernetes may see nulls in a job's status, so they stay. Not in `jobStatus`: the API server
/// refuses null where words are listed (seen on 1.36), even if null is one of them.
pub(super) fn keep_nulls_of_job_status(root: &mut JSONSchemaProps) {
    for field in ["endTime", "jobRunnerPodName", "startTime"] {
        if let Some(property) = at_mut(root, &["status", field]) {
            property.nullable = Some(true);
        }
    }
}

/// An autoscaler's bounds are in order. The message cannot show them: the API server refuses definitions
/// whose messages are computed, because it cannot bound their cost.
pub(super) fn order_bounds(root: &mut JSONSchemaProps) {
    if let Some(spec) = property_mut(root, "spec") {
        rule(
            spec,
            "self.minimum <= self.maximum",
            "minimum must not be greater than maximum: lower minimum or raise maximum",
        );
    }
}

fn rule(schema: &mut JSONSchemaProps, rule: &str, message: &str) {
    schema.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
        rule: rule.to_owned(),
        message: Some(message.to_owned()),
        ..Default::default()
    });
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn after(adjust: impl Fn(&mut JSONSchemaProps), schema: Value) -> Value {
        let mut schema = serde_json::from_value(schema).unwrap();
        adjust(&mut schema);
        serde_json::to_value(schema).unwrap()
    }

    fn object(properties: &Value) -> Value {
        json!({"type": "object", "properties": properties})
    }

    #[test]
    fn descriptions_are_dropped_below_embedded_types_only() {
        let text = |description: &str| json!({"type": "string", "description": description});
        let list = json!({"type": "array", "items": text("theirs")});
        let pod =
            json!({"description": "ours", "properties": {"containers": list, "hostname": text("theirs")}});
        let service = json!({"description": "ours", "additionalProperties": text("theirs")});
        let adjusted = after(
            drop_embedded_descriptions,
            object(&json!({"pod": pod, "service": service, "name": text("ours")})),
        );
        let written = adjusted.to_string();
        assert_eq!((written.matches("ours").count(), written.matches("theirs").count()), (3, 0), "{written}");
    }

    #[test]
    fn lists_are_keyed_by_the_fields_they_have() {
        let ports = |field: &str| json!({"type": "array", "items": object(&json!({field: {"type": "integer"}, "protocol": {"type": "string"}}))});
        for field in ["containerPort", "port"] {
            let adjusted = after(key_lists, object(&json!({"ports": ports(field)})));
            assert_eq!(
                adjusted["properties"]["ports"]["x-kubernetes-list-map-keys"],
                json!([field, "protocol"])
            );
        }
        let text = json!({"type": "array", "items": {"type": "string"}});
        let adjusted = after(key_lists, object(&json!({"groups": text})));
        assert_eq!(adjusted["properties"]["groups"], text, "a list of words has no keys");
    }

    #[test]
    fn only_ports_with_a_protocol_get_its_default() {
        let port = object(&json!({"protocol": {"type": "string"}}));
        let adjusted = after(
            default_protocol,
            object(&json!({"ports": {"type": "array", "items": port}, "protocol": {"type": "string"}})),
        );
        assert_eq!(adjusted["properties"]["ports"]["items"]["properties"]["protocol"]["default"], "TCP");
        assert!(adjusted["properties"]["protocol"].get("default").is_none());
    }

    #[test]
    fn a_required_list_that_becomes_empty_goes() {
        let reference = json!({"type": "object", "required": ["name"]});
        let key = json!({"type": "object", "required": ["key", "name"]});
        let adjusted = after(
            relax_references,
            object(&json!({"secretRef": reference, "secretKeyRef": key, "containers": {"items": reference}})),
        );
        assert!(adjusted["properties"]["secretRef"].get("required").is_none());
        assert_eq!(adjusted["properties"]["secretKeyRef"]["required"], json!(["key"]));
        assert_eq!(adjusted["properties"]["containers"]["items"]["required"], json!(["name"]));
    }

    #[test]
    fn adjusting_for_another_kind_changes_nothing() {
        let schema = object(&json!({"spec": object(&json!({"name": {"type": "string"}}))}));
        for adjust in [require_cluster_name, restart_runner_on_failure, keep_nulls_of_job_status] {
            assert_eq!(after(adjust, schema.clone()), schema);
        }
    }
}
