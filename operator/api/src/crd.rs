//! The custom resource definitions: derived from the types, then adjusted by [`schema`] to what
//! dask-kubernetes accepts.

mod schema;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;
use serde_json::{Number, Value};
use thiserror::Error;

use crate::{DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup};

/// First line of every generated YAML file.
pub const GENERATED: &str = "# Generated from operator/api by `make generate`. Do not edit.\n";

/// A definition that cannot be written as text.
#[derive(Debug, Error)]
pub enum CrdError {
    /// The definition has no JSON form.
    #[error("failed to write CustomResourceDefinition {name} as JSON")]
    Json {
        /// Name of the definition.
        name: String,
        /// What the serialiser says.
        source: serde_json::Error,
    },
    /// The definition has no YAML form.
    #[error("failed to write CustomResourceDefinition {name} as YAML")]
    Yaml {
        /// Name of the definition.
        name: String,
        /// What the serialiser says.
        source: serde_saphyr::SerializeError,
    },
}

/// The four definitions, in the order in which they should be installed.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        adjusted(DaskCluster::crd(), |_| {}),
        adjusted(DaskWorkerGroup::crd(), schema::require_cluster_name),
        adjusted(DaskJob::crd(), |root| {
            schema::restart_runner_on_failure(root);
            schema::keep_nulls_of_job_status(root);
        }),
        adjusted(DaskAutoscaler::crd(), |root| {
            schema::require_cluster_name(root);
            schema::order_bounds(root);
        }),
    ]
}

/// All definitions as one stream of YAML documents.
///
/// # Errors
/// When a definition has no text form.
pub fn to_yaml() -> Result<String, CrdError> {
    stream(&all())
}

fn stream(crds: &[CustomResourceDefinition]) -> Result<String, CrdError> {
    let documents = crds.iter().map(yaml).collect::<Result<Vec<_>, _>>()?;
    Ok(documents.join("---\n"))
}

/// One definition as a YAML document, keys sorted.
///
/// # Errors
/// When the definition has no text form.
pub fn yaml(crd: &CustomResourceDefinition) -> Result<String, CrdError> {
    serde_saphyr::to_string(&value(crd)?).map_err(|source| CrdError::Yaml { name: name(crd), source })
}

/// One definition as compact JSON, keys sorted: what a chart carries, because Helm keeps the whole chart in
/// a Secret of at most 1 MiB.
///
/// # Errors
/// When the definition has no text form.
pub fn json(crd: &CustomResourceDefinition) -> Result<String, CrdError> {
    Ok(value(crd)?.to_string())
}

/// Every generated file of these definitions: its path in the repository and its text.
///
/// # Errors
/// When a definition has no text form.
pub fn files(crds: &[CustomResourceDefinition]) -> Result<BTreeMap<String, String>, CrdError> {
    let mut files = BTreeMap::new();
    for crd in crds {
        let plural = &crd.spec.names.plural;
        files.insert(format!("crds/{plural}.yaml"), format!("{GENERATED}{}", yaml(crd)?));
        files.insert(format!("charts/dask-operator/files/crds/{plural}.json"), json(crd)? + "\n");
    }
    Ok(files)
}

fn name(crd: &CustomResourceDefinition) -> String {
    crd.metadata.name.clone().unwrap_or_default()
}

fn value(crd: &CustomResourceDefinition) -> Result<Value, CrdError> {
    let mut value = serde_json::to_value(crd).map_err(|source| CrdError::Json { name: name(crd), source })?;
    whole_numbers(&mut value);
    value.sort_all_objects();
    Ok(value)
}

/// Writes `0.0` as `0`, as the API server does: otherwise tools that compare the two see a difference that is none.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Number(number) => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "only bounds of 32-bit fields are written as floats"
            )]
            if let Some(float) = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0) {
                *number = Number::from(float as i64);
            }
        }
        _ => {}
    }
}

fn adjusted(
    mut crd: CustomResourceDefinition,
    adjust_kind: impl Fn(&mut JSONSchemaProps),
) -> CustomResourceDefinition {
    let kind = &crd.spec.names.kind;
    crd.spec.names.list_kind = Some(format!("{kind}List"));
    for version in &mut crd.spec.versions {
        if let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            schema::adjust(root);
            adjust_kind(root);
        }
    }
    crd
}
