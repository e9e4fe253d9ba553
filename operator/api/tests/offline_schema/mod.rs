//! A small check of objects against the generated schemas, without an API server: types, required fields,
//! bounds and unknown fields. Rules and duplicates are for the API server to check.

use dask_operator_api::crd;
use serde_json::{Map, Value};

/// What is wrong with an object.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// JSON pointers to fields that the API server would drop.
    pub(crate) unknown: Vec<String>,
    /// Why the API server would refuse the object.
    pub(crate) refusals: Vec<String>,
}

/// The schemas by kind.
#[derive(Debug)]
pub(crate) struct Schemas(Map<String, Value>);

impl Schemas {
    /// Those of the crate's definitions.
    pub(crate) fn generated() -> Self {
        let by_kind = crd::all().into_iter().map(|crd| {
            let schema = crd.spec.versions.first().and_then(|version| version.schema.as_ref());
            let schema = serde_json::to_value(schema.and_then(|schema| schema.open_api_v3_schema.as_ref()));
            (crd.spec.names.kind, schema.unwrap_or_default())
        });
        Self(by_kind.collect())
    }

    /// Checks an object, without its metadata.
    pub(crate) fn check(&self, object: &Value) -> Findings {
        let mut object = without_nulls(object);
        let schema = object["kind"].as_str().and_then(|kind| self.0.get(kind)).cloned().unwrap_or_default();
        for field in ["apiVersion", "kind", "metadata"] {
            object.as_object_mut().map(|fields| fields.remove(field));
        }
        let mut findings = Findings::default();
        check("", &object, &schema, &mut findings);
        findings
    }
}

/// The value without fields that are null, as the API server reads it.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn check(path: &str, value: &Value, schema: &Value, findings: &mut Findings) {
    let right_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        _ => schema["x-kubernetes-int-or-string"] == true && (value.is_i64() || value.is_string()),
    };
    if !right_type {
        findings.refusals.push(format!("{path} is {value}, expected {}", schema["type"]));
        return;
    }
    if schema["minimum"].as_f64().is_some_and(|least| value.as_f64().is_some_and(|value| value < least)) {
        findings.refusals.push(format!("{path} is {value}, expected at least {}", schema["minimum"]));
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        findings.refusals.push(format!("{path} is {value}, expected one of {allowed:?}"));
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(required).is_none() {
            findings.refusals.push(format!("{path}/{required} is required"));
        }
    }
    for (key, field) in value.as_object().into_iter().flatten() {
        let path = format!("{path}/{key}");
        match [&schema["properties"][key], &schema["additionalProperties"]]
            .into_iter()
            .find(|s| s.is_object())
        {
            Some(schema) => check(&path, field, schema, findings),
            None => findings.unknown.push(path),
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&format!("{path}/{index}"), item, &schema["items"], findings);
    }
}
