use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Derived once: without optimisation it takes a second.
static ALL: LazyLock<Vec<CustomResourceDefinition>> = LazyLock::new(all);

fn crd(plural: &str) -> Value {
    let crd = ALL.iter().find(|crd| crd.spec.names.plural == plural).unwrap();
    serde_json::from_str(&json(crd).unwrap()).unwrap()
}

fn version(plural: &str) -> Value {
    let crd = crd(plural);
    assert_eq!(crd["spec"]["versions"].as_array().unwrap().len(), 1);
    crd["spec"]["versions"][0].clone()
}

/// The schema at a path such as `spec.worker.spec.containers[].env`.
fn at(plural: &str, path: &str) -> Value {
    path.split('.').fold(version(plural)["schema"]["openAPIV3Schema"].clone(), |schema, step| {
        let name = step.trim_end_matches("[]");
        let property = schema["properties"][name].clone();
        assert!(property.is_object(), "{plural}: no {name} on the way to {path}");
        if step.ends_with("[]") { property["items"].clone() } else { property }
    })
}

/// Calls `visit` with every schema of every definition and the path to it.
fn for_each_schema(mut visit: impl FnMut(&str, &Value)) {
    fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
        visit(path, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, visit);
        }
        for (key, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
            if schema[key].is_object() {
                walk(&format!("{path}{suffix}"), &schema[key], visit);
            }
        }
    }
    for plural in ["daskclusters", "daskworkergroups", "daskjobs", "daskautoscalers"] {
        walk(plural, &version(plural)["schema"]["openAPIV3Schema"], &mut visit);
    }
}

#[test]
fn the_repository_holds_what_the_types_say() {
    let files = files(&ALL).unwrap();
    for (path, text) in &files {
        let found = fs::read_to_string(repository().join(path)).unwrap_or_default();
        assert!(found == *text, "{path} does not match the types in operator/api: run `make generate`");
    }
    for folder in ["crds", "charts/dask-operator/files/crds"] {
        for entry in fs::read_dir(repository().join(folder)).unwrap() {
            let path = format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy());
            assert!(files.contains_key(&path), "{path} belongs to no kind any more: delete it");
        }
    }
}

#[rstest]
#[case("daskclusters", "daskcluster", "DaskCluster", &["daskcluster", "dsk"])]
#[case("daskworkergroups", "daskworkergroup", "DaskWorkerGroup", &["daskworkers"])]
#[case("daskjobs", "daskjob", "DaskJob", &["djb"])]
#[case("daskautoscalers", "daskautoscaler", "DaskAutoscaler", &[])]
fn names_are_those_of_dask_kubernetes(
    #[case] plural: &str,
    #[case] singular: &str,
    #[case] kind: &str,
    #[case] short_names: &[&str],
) {
    let crd = crd(plural);
    assert_eq!(crd["metadata"], json!({"name": format!("{plural}.kubernetes.dask.org")}));
    assert_eq!(crd["spec"]["group"], crate::GROUP);
    assert_eq!(crd["spec"]["scope"], "Namespaced");
    let names = &crd["spec"]["names"];
    assert_eq!((&names["singular"], &names["kind"]), (&json!(singular), &json!(kind)));
    assert_eq!(names["listKind"], format!("{kind}List"));
    let found = names["shortNames"].as_array().cloned().unwrap_or_default();
    assert_eq!(found, short_names);
    assert!(names.get("categories").is_none());
}

#[rstest]
#[case("daskclusters", true)]
#[case("daskworkergroups", true)]
#[case("daskjobs", false)]
#[case("daskautoscalers", false)]
fn one_version_with_subresources(#[case] plural: &str, #[case] scales: bool) {
    let version = version(plural);
    assert_eq!(
        (&version["name"], &version["served"], &version["storage"]),
        (&json!("v1"), &json!(true), &json!(true))
    );
    assert_eq!(version["subresources"]["status"], json!({}));
    let scale = json!({
        "specReplicasPath": ".spec.worker.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    });
    assert_eq!(version["subresources"].get("scale"), scales.then_some(&scale));
}

#[rstest]
#[case("daskclusters", "spec", &["scheduler", "worker"])]
#[case("daskclusters", "spec.scheduler", &["service", "spec"])]
#[case("daskclusters", "spec.worker", &["spec"])]
#[case("daskworkergroups", "spec", &["cluster", "worker"])]
#[case("daskjobs", "spec", &["cluster", "job"])]
#[case("daskautoscalers", "spec", &["cluster", "maximum", "minimum"])]
fn required_fields_are_those_of_dask_kubernetes(
    #[case] plural: &str,
    #[case] path: &str,
    #[case] fields: &[&str],
) {
    assert_eq!(at(plural, path)["required"], json!(fields));
}

#[rstest]
#[case("daskclusters", "spec.idleTimeout", json!(0))]
#[case("daskclusters", "spec.worker.replicas", json!(1))]
#[case("daskclusters", "spec.scheduler.service.ports[].protocol", json!("TCP"))]
#[case("daskclusters", "spec.scheduler.spec.containers[].ports[].protocol", json!("TCP"))]
#[case("daskclusters", "spec.worker.spec.initContainers[].ports[].protocol", json!("TCP"))]
#[case("daskworkergroups", "spec.worker.replicas", json!(1))]
#[case("daskworkergroups", "spec.worker.spec.containers[].ports[].protocol", json!("TCP"))]
#[case("daskjobs", "spec.job.spec.restartPolicy", json!("OnFailure"))]
#[case("daskjobs", "spec.job.spec.containers[].ports[].protocol", json!("TCP"))]
#[case("daskjobs", "spec.cluster.spec.worker.replicas", json!(1))]
fn defaults_are_those_of_dask_kubernetes(#[case] plural: &str, #[case] path: &str, #[case] value: Value) {
    assert_eq!(at(plural, path)["default"], value);
}

#[test]
fn only_the_runner_has_a_default_restart_policy() {
    for path in
        ["spec.cluster.spec.worker.spec.restartPolicy", "spec.cluster.spec.scheduler.spec.restartPolicy"]
    {
        assert!(at("daskjobs", path).get("default").is_none(), "{path}");
    }
}

#[test]
fn kubectl_apply_can_keep_each_definition_in_its_annotation() {
    for crd in ALL.iter() {
        let bytes = json(crd).unwrap().len();
        assert!(bytes < 200 * 1024, "{}: {bytes} bytes of 256 KiB", name(crd));
    }
}

#[test]
fn our_fields_are_described_and_those_of_kubernetes_are_not() {
    let embedded = |path: &str| {
        [".spec.containers", ".service.", ".conditions[]."].iter().any(|part| path.contains(part))
    };
    for_each_schema(|path, schema| {
        let described = schema["description"].is_string();
        if embedded(path) {
            assert!(!described, "{path} is described by Kubernetes");
        } else if path.matches('.').count() <= 2 && !path.ends_with(['.', ']', '}']) {
            assert!(described, "{path} is not described");
        }
    });
    assert!(at("daskclusters", "spec.scheduler.service")["description"].is_string());
    assert!(at("daskclusters", "spec.worker.spec")["description"].is_string());
}

#[test]
fn nulls_are_dropped_but_in_the_status_of_a_job() {
    let mut nullable = BTreeSet::new();
    for_each_schema(|path, schema| {
        if schema["nullable"] == true {
            nullable.insert(path.to_owned());
        }
    });
    let expected = ["endTime", "jobRunnerPodName", "startTime"];
    assert_eq!(nullable, expected.map(|field| format!("daskjobs.status.{field}")).into());
}

#[test]
fn quantities_and_ports_may_be_numbers_or_words() {
    for path in [
        "spec.scheduler.service.ports[].targetPort",
        "spec.worker.spec.containers[].livenessProbe.httpGet.port",
        "spec.worker.spec.volumes[].emptyDir.sizeLimit",
    ] {
        assert_eq!(at("daskclusters", path)["x-kubernetes-int-or-string"], true, "{path}");
    }
    for path in
        ["containers[].resources.limits", "containers[].resources.requests", "overhead", "resources.limits"]
    {
        let values = &at("daskclusters", &format!("spec.worker.spec.{path}"))["additionalProperties"];
        assert_eq!(values["x-kubernetes-int-or-string"], true, "{path}");
    }
}

#[rstest]
#[case("daskclusters", "status.conditions", &["type"])]
#[case("daskclusters", "status.groups", &["name"])]
#[case("daskclusters", "spec.scheduler.service.ports", &["port", "protocol"])]
#[case("daskclusters", "spec.worker.spec.containers", &["name"])]
#[case("daskclusters", "spec.worker.spec.initContainers", &["name"])]
#[case("daskclusters", "spec.worker.spec.containers[].ports", &["containerPort", "protocol"])]
#[case("daskworkergroups", "status.conditions", &["type"])]
#[case("daskjobs", "spec.job.spec.topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"])]
fn lists_with_identity_are_keyed(#[case] plural: &str, #[case] path: &str, #[case] keys: &[&str]) {
    let list = at(plural, path);
    assert_eq!(list["x-kubernetes-list-type"], "map");
    assert_eq!(list["x-kubernetes-list-map-keys"], json!(keys));
}

#[test]
fn lists_that_may_repeat_a_name_are_not_keyed() {
    for list in ["containers[].env", "containers[].envFrom", "imagePullSecrets", "tolerations"] {
        let list = at("daskclusters", &format!("spec.worker.spec.{list}"));
        assert!(list.get("x-kubernetes-list-type").is_none());
    }
}

#[test]
fn keys_of_lists_are_always_present() {
    let mut lists = 0;
    for_each_schema(|path, schema| {
        for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
            lists += 1;
            let items = &schema["items"];
            let required = items["required"].as_array().is_some_and(|names| names.contains(key));
            let defaulted = items["properties"][key.as_str().unwrap()].get("default").is_some();
            assert!(required || defaulted, "{path}: {key} may be absent");
        }
    });
    assert!(lists > 0);
}

#[rstest]
#[case("imagePullSecrets[]", "name")]
#[case("hostAliases[]", "ip")]
#[case("containers[].envFrom[].secretRef", "name")]
#[case("containers[].env[].valueFrom.secretKeyRef", "name")]
#[case("volumes[].configMap", "name")]
fn references_ask_for_no_more_than_kubernetes(#[case] path: &str, #[case] field: &str) {
    let schema = at("daskclusters", &format!("spec.worker.spec.{path}"));
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    assert!(!required.contains(&json!(field)), "{required:?}");
}

#[test]
fn what_kubernetes_asks_for_is_asked_for() {
    for path in ["containers[]", "volumes[]", "containers[].env[]", "containers[].volumeMounts[]"] {
        let schema = at("daskclusters", &format!("spec.worker.spec.{path}"));
        assert!(schema["required"].as_array().unwrap().contains(&json!("name")), "{path}");
    }
    let key = at("daskclusters", "spec.worker.spec.containers[].env[].valueFrom.secretKeyRef");
    assert_eq!(key["required"], json!(["key"]));
}

#[test]
fn rules_stand_where_they_are_meant_to() {
    let mut rules = BTreeSet::new();
    for_each_schema(|path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            assert!(rule["message"].is_string(), "{path}: {rule} has no message");
            rules.insert(format!("{path}: {}", rule["rule"].as_str().unwrap()));
        }
    });
    let expected = [
        "daskautoscalers.spec.cluster: self != ''",
        "daskautoscalers.spec: self.minimum <= self.maximum",
        "daskclusters.spec.scheduler.spec.containers: self.size() > 0",
        "daskclusters.spec.worker.spec.containers: self.size() > 0",
        "daskjobs.spec.cluster.spec.scheduler.spec.containers: self.size() > 0",
        "daskjobs.spec.cluster.spec.worker.spec.containers: self.size() > 0",
        "daskjobs.spec.job.spec.containers: self.size() > 0",
        "daskworkergroups.spec.cluster: self != ''",
        "daskworkergroups.spec.worker.spec.containers: self.size() > 0",
    ];
    assert_eq!(rules.iter().collect::<Vec<_>>(), expected);
}

#[rstest]
#[case("daskclusters", "spec.idleTimeout")]
#[case("daskclusters", "spec.worker.replicas")]
#[case("daskworkergroups", "spec.worker.replicas")]
#[case("daskautoscalers", "spec.minimum")]
fn counts_and_times_are_not_negative(#[case] plural: &str, #[case] path: &str) {
    assert_eq!(at(plural, path)["minimum"], json!(0));
}

#[test]
fn every_wanted_number_of_workers_has_the_same_maximum() {
    let fields = [
        ("daskclusters", "spec.worker.replicas"),
        ("daskworkergroups", "spec.worker.replicas"),
        ("daskjobs", "spec.cluster.spec.worker.replicas"),
        ("daskautoscalers", "spec.minimum"),
        ("daskautoscalers", "spec.maximum"),
    ];
    for (plural, path) in fields {
        let field = at(plural, path);
        assert_eq!(field["maximum"], json!(crate::MAX_REPLICAS), "{plural}: {path}");
        assert_eq!(field["minimum"], json!(0), "{plural}: {path}");
    }
    let mut bounded = BTreeSet::new();
    for_each_schema(|path, schema| {
        if path.contains(".spec") && path.ends_with("eplicas") {
            bounded.insert((path.to_owned(), schema["maximum"].clone() == json!(crate::MAX_REPLICAS)));
        }
    });
    assert!(bounded.len() == 3 && bounded.iter().all(|(_, is_bounded)| *is_bounded), "{bounded:?}");
}

#[test]
fn names_of_clusters_are_not_judged_at_admission() {
    // dask-kubernetes accepts them and sets phase Error, which its clients rely on.
    let metadata = &version("daskclusters")["schema"]["openAPIV3Schema"]["properties"]["metadata"];
    assert!(metadata.is_null());
}

#[test]
fn yaml_and_json_say_the_same() {
    for crd in ALL.iter() {
        let from_yaml: Value = serde_saphyr::from_str(&yaml(crd).unwrap()).unwrap();
        let from_json: Value = serde_json::from_str(&json(crd).unwrap()).unwrap();
        assert!(from_yaml == from_json, "{}", name(crd));
    }
    let stream = stream(&ALL).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&stream).unwrap();
    assert_eq!(documents.len(), 4);
}

#[test]
fn whole_numbers_are_written_without_a_fraction() {
    let mut value = json!({"a": [0.0, 1.5, 3], "b": {"c": -2.0}});
    whole_numbers(&mut value);
    assert_eq!(value.to_string(), json!({"a": [0, 1.5, 3], "b": {"c": -2}}).to_string());
}
