//! Manifests in the shapes that dask-kubernetes documents and its clients send, and the table of what the API
//! server accepts, as far as both can be checked without an API server.

mod fixtures;
mod offline_schema;

use std::collections::HashSet;
use std::error::Error;
use std::path::Path;
use std::{fs, io};

use dask_operator_api::{DaskAutoscaler, DaskCluster, DaskJob, DaskWorkerGroup};
use fixtures::missing;
use offline_schema::{Schemas, without_nulls};
use serde_json::{Value, json};

/// Reads an object into its type and writes it again.
fn through_types(object: &Value) -> Result<Value, serde_json::Error> {
    fn through<T: serde::Serialize + serde::de::DeserializeOwned>(
        object: &Value,
    ) -> Result<Value, serde_json::Error> {
        serde_json::to_value(T::deserialize(object)?)
    }
    match object["kind"].as_str() {
        Some("DaskCluster") => through::<DaskCluster>(object),
        Some("DaskWorkerGroup") => through::<DaskWorkerGroup>(object),
        Some("DaskJob") => through::<DaskJob>(object),
        _ => through::<DaskAutoscaler>(object),
    }
}

/// The object with quantities as text, as the types write them.
fn with_text_quantities(object: &Value) -> Value {
    match object {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| {
                let quantities = ["limits", "requests"].contains(&key.as_str());
                let value = match value {
                    Value::Object(amounts) if quantities => amounts
                        .iter()
                        .map(|(resource, amount)| (resource.clone(), as_text(amount)))
                        .collect::<serde_json::Map<_, _>>()
                        .into(),
                    Value::Number(_) if ["sizeLimit", "divisor"].contains(&key.as_str()) => as_text(value),
                    _ => with_text_quantities(value),
                };
                (key.clone(), value)
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(with_text_quantities).collect(),
        other => other.clone(),
    }
}

fn as_text(amount: &Value) -> Value {
    if amount.is_number() { amount.to_string().into() } else { amount.clone() }
}

#[test]
fn manifests_survive_the_types() -> Result<(), Box<dyn Error>> {
    let manifests = fixtures::manifests()?;
    assert!(manifests.len() >= 9, "{} manifests", manifests.len());
    for manifest in &manifests {
        let written =
            through_types(&manifest.object).map_err(|error| format!("{}: {error}", manifest.file))?;
        let lost = missing(&with_text_quantities(&without_nulls(&manifest.object)), &written);
        assert!(lost.is_empty(), "{} lost {lost:#?}", manifest.file);
        assert_eq!(through_types(&written)?, written, "{}: a second pass changes it", manifest.file);
    }
    Ok(())
}

#[test]
fn manifests_and_examples_fit_the_schemas() -> Result<(), Box<dyn Error>> {
    let schemas = Schemas::generated();
    let mut objects: Vec<(String, Value)> =
        fixtures::manifests()?.into_iter().map(|manifest| (manifest.file, manifest.object)).collect();
    objects.extend(examples()?);
    for (file, object) in &objects {
        let findings = schemas.check(object);
        assert!(findings.refusals.is_empty() && findings.unknown.is_empty(), "{file}: {findings:#?}");
    }
    Ok(())
}

fn examples() -> Result<Vec<(String, Value)>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    let mut examples = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml")) {
        for object in serde_saphyr::from_multiple::<Value>(&fs::read_to_string(path)?)? {
            examples.push((path.display().to_string(), object));
        }
    }
    assert!(!examples.is_empty(), "no examples");
    Ok(examples)
}

#[test]
fn examples_survive_the_types() -> Result<(), Box<dyn Error>> {
    for (file, object) in examples()? {
        let written = through_types(&object).map_err(|error| format!("{file}: {error}"))?;
        let lost = missing(&with_text_quantities(&object), &written);
        assert!(lost.is_empty(), "{file} lost {lost:#?}");
    }
    Ok(())
}

#[test]
fn cases_are_well_formed() -> Result<(), Box<dyn Error>> {
    let mut names = HashSet::new();
    let cases = fixtures::cases()?;
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for case in cases {
        let kind = case.manifest["kind"].as_str().unwrap_or_default().to_owned();
        assert!(names.insert(format!("{kind}: {}", case.name)), "{kind}: {} is there twice", case.name);
        assert_eq!(case.manifest["apiVersion"], "kubernetes.dask.org/v1", "{}", case.name);
        if case.accepted {
            assert!(case.message.is_empty(), "{}: an accepted object has no message", case.name);
        } else {
            assert!(!case.message.is_empty(), "{}: say what the message contains", case.name);
            assert!(case.stored.is_null() && case.absent.is_empty(), "{}: nothing is stored", case.name);
        }
    }
    Ok(())
}

#[test]
fn accepted_cases_fit_the_schemas_and_the_types() -> Result<(), Box<dyn Error>> {
    let schemas = Schemas::generated();
    for case in fixtures::cases()?.iter().filter(|case| case.accepted) {
        let findings = schemas.check(&case.manifest);
        assert!(findings.refusals.is_empty(), "{}: {findings:#?}", case.name);
        for dropped in &findings.unknown {
            assert!(case.absent.contains(dropped), "{}: {dropped} is dropped: list it in absent", case.name);
        }
        through_types(&case.manifest).map_err(|error| format!("{}: {error}", case.name))?;
    }
    Ok(())
}

#[test]
fn the_offline_check_finds_what_is_wrong() {
    let schemas = Schemas::generated();
    let findings = schemas.check(&json!({
        "kind": "DaskWorkerGroup",
        "spec": {"worker": {"replicas": -1, "spec": {"containers": [{"image": 3, "colour": "red"}]}}},
    }));
    assert_eq!(findings.unknown, ["/spec/worker/spec/containers/0/colour"]);
    let mut refusals = findings.refusals;
    refusals.sort();
    assert_eq!(
        refusals,
        [
            "/spec/cluster is required",
            "/spec/worker/replicas is -1, expected at least 0.0",
            "/spec/worker/spec/containers/0/image is 3, expected \"string\"",
            "/spec/worker/spec/containers/0/name is required",
        ]
    );
}

#[test]
fn missing_names_each_difference() {
    let expected = json!({"a": [1, {"b": 2}], "c": {"d": 3}, "e": 1});
    let found = json!({"a": [1, {"b": 3, "x": 1}], "c": {}, "e": 1, "y": 1});
    assert_eq!(missing(&expected, &found), ["/a/1/b is 3, expected 2", "/c/d is absent, expected 3"]);
    assert_eq!(missing(&json!([1]), &json!([1, 2])), [" is [1,2], expected [1]"]);
}
