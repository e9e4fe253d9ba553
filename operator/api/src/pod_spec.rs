//! Reading a user's `PodSpec`: quantities may be numbers in a manifest, but are strings in the typed API.

use k8s_openapi::api::core::v1::PodSpec;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Objects whose values are all quantities.
const QUANTITY_MAPS: [&str; 4] = ["limits", "requests", "overhead", "capacity"];
/// Fields that are quantities themselves.
const QUANTITY_FIELDS: [&str; 2] = ["sizeLimit", "divisor"];

/// Deserialises a `PodSpec` in which quantities may be numbers (`cpu: 1`), as the API server accepts them.
///
/// # Errors
/// When a field has another type than Kubernetes gives it.
pub(crate) fn deserialize_pod_spec<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PodSpec, D::Error> {
    let mut value = Value::deserialize(deserializer)?;
    stringify_quantities(&mut value);
    serde_json::from_value(value).map_err(D::Error::custom)
}

fn stringify_quantities(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(stringify_quantities),
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                match field {
                    Value::Object(quantities) if QUANTITY_MAPS.contains(&key.as_str()) => {
                        stringify_numbers(quantities);
                    }
                    Value::Number(number) if QUANTITY_FIELDS.contains(&key.as_str()) => {
                        *field = Value::String(number.to_string());
                    }
                    _ => stringify_quantities(field),
                }
            }
        }
        _ => {}
    }
}

fn stringify_numbers(quantities: &mut Map<String, Value>) {
    for quantity in quantities.values_mut() {
        if let Value::Number(number) = quantity {
            *quantity = Value::String(number.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<PodSpec, serde_json::Error> {
        deserialize_pod_spec(value)
    }

    #[test]
    fn numbers_become_quantities() {
        let spec = parse(json!({
            "containers": [{"name": "worker", "resources": {"limits": {"cpu": 1, "memory": "2Gi"}, "requests": {"cpu": 0.5}}}],
            "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": 1000}}],
            "overhead": {"cpu": 1},
        }))
        .unwrap();
        let resources = spec.containers[0].resources.as_ref().unwrap();
        assert_eq!(resources.limits.as_ref().unwrap()["cpu"].0, "1");
        assert_eq!(resources.limits.as_ref().unwrap()["memory"].0, "2Gi");
        assert_eq!(resources.requests.as_ref().unwrap()["cpu"].0, "0.5");
        let scratch = spec.volumes.as_ref().unwrap()[0].empty_dir.as_ref().unwrap();
        assert_eq!(scratch.size_limit.as_ref().unwrap().0, "1000");
        assert_eq!(spec.overhead.unwrap()["cpu"].0, "1");
    }

    #[test]
    fn nulls_are_absent_fields() {
        let spec =
            parse(json!({"containers": [{"name": "worker", "env": null, "resources": null}]})).unwrap();
        assert!(spec.containers[0].env.is_none());
        assert!(spec.containers[0].resources.is_none());
    }

    #[test]
    fn wrong_types_are_errors() {
        assert!(parse(json!({"containers": "worker"})).is_err());
    }
}
