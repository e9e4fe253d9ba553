//! What the real API server makes of our definitions.

use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use integration_tests::wait::check;
use integration_tests::{ApiServer, Namespace, World, kubectl, templates, wait_for};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use serde_json::{Value, json};

use crate::fixtures::{self, missing};

fn api(namespace: &Namespace, object: &Value) -> Api<DynamicObject> {
    let types: TypeMeta = serde_json::from_value(object.clone()).unwrap();
    let kind = GroupVersionKind::try_from(types).unwrap();
    let resource = ApiResource::from_gvk(&kind);
    Api::namespaced_with(namespace.client.clone(), &namespace.name, &resource)
}

/// The object as the API server would store it, or its refusal.
async fn dry_run(namespace: &Namespace, manifest: &Value) -> Result<Value, String> {
    let object: DynamicObject = serde_json::from_value(manifest.clone()).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    match api(namespace, manifest).create(&params, &object).await {
        Ok(stored) => Ok(serde_json::to_value(stored).unwrap()),
        Err(kube::Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn each_case_of_the_table() {
    let namespace = ApiServer::shared().await.namespace("cases").await;
    let mut wrong = Vec::new();
    for case in fixtures::cases().unwrap() {
        let complaints = match dry_run(&namespace, &case.manifest).await {
            Ok(stored) if case.accepted => {
                let mut complaints =
                    if case.stored.is_null() { Vec::new() } else { missing(&case.stored, &stored) };
                let present = case.absent.iter().filter(|pointer| stored.pointer(pointer).is_some());
                complaints.extend(present.map(|pointer| format!("{pointer} is there")));
                complaints
            }
            Err(message) if !case.accepted => {
                let unsaid = case.message.iter().filter(|words| !message.contains(*words));
                unsaid.map(|words| format!("{words:?} is not in: {message}")).collect()
            }
            Ok(_) => vec!["accepted".to_owned()],
            Err(message) => vec![message],
        };
        if !complaints.is_empty() {
            wrong.push(format!("{}: {}", case.name, complaints.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn documented_manifests_go_through_kubectl_apply_unchanged() {
    let namespace = ApiServer::shared().await.namespace("manifests").await;
    let mut wrong = Vec::new();
    for mut manifest in fixtures::manifests().unwrap() {
        manifest.object["metadata"]["namespace"] = namespace.name.as_str().into();
        // Client side: the whole object goes into an annotation of limited size.
        let output = namespace.try_kubectl("apply -f - -o json", &manifest.object.to_string()).await;
        if !output.success || output.stderr.contains("Warning") {
            wrong.push(format!("{}: {}", manifest.file, output.stderr));
            continue;
        }
        let stored: Value = serde_json::from_str(&output.stdout).unwrap();
        let lost = missing(&without_nulls(&manifest.object), &stored);
        if !lost.is_empty() {
            wrong.push(format!("{}: {}", manifest.file, lost.join("; ")));
        }
        let again = namespace.kubectl("apply -f - -o json", &manifest.object.to_string()).await;
        let again: Value = serde_json::from_str(&again.stdout).unwrap();
        if again["metadata"]["generation"] != stored["metadata"]["generation"] {
            wrong.push(format!("{}: applied again, it changes: {}", manifest.file, again["spec"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn kubectl_apply_names_fields_that_do_not_exist() {
    let namespace = ApiServer::shared().await.namespace("unknown").await;
    let mut manifest = templates::cluster_json("c", 1);
    manifest["spec"]["worker"]["workers"] = 3.into();
    let strict = namespace.try_kubectl("apply -f -", &manifest.to_string()).await;
    assert!(
        !strict.success && strict.stderr.contains("unknown field \"spec.worker.workers\""),
        "{}",
        strict.stderr
    );
    let warned = namespace.kubectl("apply --validate=warn -f -", &manifest.to_string()).await;
    assert!(warned.stderr.contains("unknown field \"spec.worker.workers\""), "{}", warned.stderr);
    manifest["metadata"]["name"] = "another".into();
    let stored = dry_run(&namespace, &manifest).await.unwrap();
    assert_eq!(
        stored.pointer("/spec/worker/workers"),
        None,
        "an old client that does not ask is not refused"
    );
}

#[tokio::test]
async fn the_definitions_themselves_go_through_client_side_apply() {
    let server = ApiServer::own("apply").await;
    let crds = testbed::workspace::root().join("crds");
    let crds = crds.to_str().unwrap();
    for verb in ["created", "unchanged"] {
        let output = kubectl::run(&server, &["apply", "-f", crds], "").await;
        assert!(output.success, "{}", output.stderr);
        let done = output.stdout.lines().filter(|line| line.ends_with(verb)).count();
        assert_eq!(done, 4, "{}", output.stdout);
    }
    server.down().await;
}

/// A cluster `c` of 2 workers that is ready as a whole.
async fn ready_cluster(test: &str) -> World {
    let world = World::with_cluster(test, 2).await;
    world.namespace.wait_for_cluster_condition("c", "Ready", "AllReady").await;
    world
}

#[tokio::test]
async fn kubectl_get_shows_what_matters() {
    let world = ready_cluster("columns").await;
    let namespace = &world.namespace;
    let table = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    for name in ["daskcluster", "daskclusters", "dsk"] {
        let rows = table(&namespace.kubectl(&format!("get {name}"), "").await.stdout);
        assert_eq!(rows[0], ["NAME", "PHASE", "READY", "AGE"]);
        assert_eq!(rows[1][..3], ["c", "Running", "2/2"]);
    }
    let wide = table(&namespace.kubectl("get dsk -o wide", "").await.stdout);
    assert_eq!(wide[0], ["NAME", "PHASE", "READY", "AGE", "WORKERS", "REASON", "ADDRESS"]);
    assert_eq!(wide[1][4..6], ["2", "AllReady"]);
    let groups = table(&namespace.kubectl("get daskworkers", "").await.stdout);
    assert_eq!(groups[0], ["NAME", "CLUSTER", "WORKERS", "READY", "AGE"]);
    assert_eq!(groups[1][..4], ["c-default", "c", "2", "2"]);
    let described = namespace.kubectl("describe daskcluster c", "").await.stdout;
    for words in ["AllReady", "2 of 2 workers are ready", "the scheduler is ready"] {
        assert!(described.contains(words), "{words:?} is not in:\n{described}");
    }
}

#[tokio::test]
async fn kubectl_scale_works_on_cluster_and_group_both_ways() {
    let world = ready_cluster("scale").await;
    let namespace = &world.namespace;
    for (target, replicas) in
        [("daskcluster/c", 4), ("daskworkergroup/c-default", 1), ("daskcluster/c", 3), ("daskcluster/c", 0)]
    {
        namespace.kubectl(&format!("scale {target} --replicas={replicas}"), "").await;
        namespace.wait_for_ready_workers("c-default", replicas).await;
    }
}

#[tokio::test]
async fn autoscalers_find_replicas_and_selector_in_the_scale_subresource() {
    let world = ready_cluster("scale-status").await;
    let namespace = &world.namespace;
    let scales = || async {
        let cluster =
            namespace.api::<DaskCluster>().get_scale("c").await.map_err(|error| error.to_string())?;
        let group = namespace.api::<DaskWorkerGroup>().get_scale("c-default").await;
        Ok::<_, String>([cluster, group.map_err(|error| error.to_string())?])
    };
    let [cluster, group] = wait_for("both count 2", async || {
        let scales = scales().await?;
        let counted =
            scales.iter().all(|scale| scale.status.as_ref().is_some_and(|status| status.replicas == 2));
        check(counted, || format!("{scales:?}"))?;
        Ok(scales)
    })
    .await;
    let selector = group.status.unwrap().selector.expect("a selector");
    assert_eq!(cluster.status.unwrap().selector.as_ref(), Some(&selector));
    let selected: Vec<k8s_openapi::api::core::v1::Pod> = namespace.list(&selector).await;
    let workers = namespace.workers("c-default").await;
    let names = |pods: &[k8s_openapi::api::core::v1::Pod]| {
        let mut names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
        names.sort();
        names
    };
    assert_eq!(names(&selected), names(&workers));
}

#[tokio::test]
async fn status_is_written_through_its_subresource_only() {
    let namespace = ApiServer::shared().await.namespace("subresource").await;
    namespace.create_object(&templates::cluster("c", 0)).await;
    let through_main = namespace.patch::<DaskCluster>("c", json!({"status": {"phase": "Running"}})).await;
    assert_eq!(through_main.status, None);
    let generation = through_main.metadata.generation;
    let params = kube::api::PatchParams::default();
    let patch = kube::api::Patch::Merge(json!({"status": {"phase": "Running"}, "spec": {"idleTimeout": 5}}));
    let through_status = namespace.api::<DaskCluster>().patch_status("c", &params, &patch).await.unwrap();
    assert!(through_status.status.is_some());
    assert_eq!((through_status.spec.idle_timeout, through_status.metadata.generation), (0, generation));
}
