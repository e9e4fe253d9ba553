//! The Helm chart, rendered by the real helm.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio::process::Command;

/// Renders the chart as release `dask` in `namespace` with these `--set` values; all objects in order.
///
/// # Errors
/// When helm refuses the values: its words.
pub async fn render(namespace: &str, values: &[&str]) -> Result<Vec<Value>, String> {
    let helm = testbed::tools::path("helm").unwrap_or_else(|error| panic!("{error}"));
    let chart = testbed::workspace::root().join("charts/dask-operator");
    let mut command = Command::new(helm);
    command.args(["template", "dask"]).arg(chart).args(["--namespace", namespace]);
    for value in values {
        command.args(["--set-json", value]);
    }
    let output = command.output().await.expect("helm starts");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).expect("helm prints text");
    let objects =
        serde_saphyr::from_multiple::<Value>(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Ok(objects.into_iter().filter(|object| !object.is_null()).collect())
}

/// Those of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

/// The one object of a kind.
#[must_use]
pub fn the<'a>(objects: &'a [Value], kind: &'a str) -> &'a Value {
    let mut found = of_kind(objects, kind);
    let one = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    one
}

/// All rights that the (cluster) roles among the objects give, as `(verb, group, resource)`.
#[must_use]
pub fn rights(objects: &[Value]) -> BTreeSet<(String, String, String)> {
    let roles = of_kind(objects, "ClusterRole").chain(of_kind(objects, "Role"));
    let mut rights = BTreeSet::new();
    for rule in roles.flat_map(|role| role["rules"].as_array().into_iter().flatten()) {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                let verbs = words(&rule["verbs"]);
                rights.extend(verbs.into_iter().map(|verb| (verb, group.clone(), resource.clone())));
            }
        }
    }
    rights
}

fn words(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
