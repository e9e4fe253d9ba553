//! What helm makes of the chart.

use integration_tests::{ApiServer, chart};
use serde_json::{Value, json};

const NAMESPACE: &str = "dask-system";

async fn rendered(values: &[&str]) -> Vec<Value> {
    chart::render(NAMESPACE, values).await.unwrap_or_else(|error| panic!("{values:?}: {error}"))
}

fn container(objects: &[Value]) -> Value {
    let containers = &chart::the(objects, "Deployment")["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers.as_array().map(Vec::len), Some(1));
    containers[0].clone()
}

fn arguments(objects: &[Value]) -> Vec<String> {
    serde_json::from_value(container(objects)["args"].clone()).unwrap()
}

#[tokio::test]
async fn two_replicas_that_may_nothing() {
    let objects = rendered(&[]).await;
    let deployment = chart::the(&objects, "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(
        pod["securityContext"],
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    let container = container(&objects);
    let security = &container["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(chart::the(&objects, "PodDisruptionBudget")["spec"]["minAvailable"], 1);
    assert_eq!(chart::of_kind(&objects, "CustomResourceDefinition").count(), 4);
    let arguments = arguments(&objects);
    for argument in
        ["run", "--leader-elect=true", "--all-namespaces", "--liveness=http://0.0.0.0:8080/healthz"]
    {
        assert!(arguments.iter().any(|given| given == argument), "{argument}: {arguments:?}");
    }
}

#[rstest::rstest]
#[case::without_crds(&["crds.install=false"], &[("CustomResourceDefinition", 0), ("Deployment", 1)])]
#[case::one_replica(&["replicas=1"], &[("PodDisruptionBudget", 0)])]
#[case::one_without_lease(&["replicas=1", "leaderElection.enabled=false"], &[("Role", 0), ("RoleBinding", 0), ("ClusterRole", 1)])]
#[case::namespaced(&["rbac.cluster=false"], &[("ClusterRole", 0), ("ClusterRoleBinding", 0), ("Role", 2), ("RoleBinding", 2)])]
#[case::two_namespaces(&[r#"namespaces=["a","b"]"#], &[("ClusterRole", 0), ("Role", 3), ("RoleBinding", 3)])]
#[case::without_policy(&[], &[("NetworkPolicy", 0)])]
#[case::with_policy(&["networkPolicy.enabled=true"], &[("NetworkPolicy", 1), ("Deployment", 1)])]
#[case::own_rbac(&["rbac.create=false", "serviceAccount.create=false"], &[("ClusterRole", 0), ("Role", 0), ("ServiceAccount", 0)])]
#[case::metrics(&[r#"metrics={"scheduler":{"enabled":true,"serviceMonitor":{"enabled":true}},"worker":{"enabled":true,"podMonitor":{"enabled":true}}}"#], &[("Deployment", 1)])]
#[tokio::test]
async fn values_choose_the_objects(#[case] values: &[&str], #[case] expected: &[(&str, usize)]) {
    let objects = rendered(values).await;
    for (kind, count) in expected {
        assert_eq!(chart::of_kind(&objects, kind).count(), *count, "{kind}");
    }
}

#[tokio::test]
async fn leases_and_definitions_are_granted_by_name() {
    let objects = rendered(&[]).await;
    let arguments = arguments(&objects);
    let lease = arguments.iter().find_map(|argument| argument.strip_prefix("--lease-name=")).unwrap();
    let definitions = chart::of_kind(&objects, "CustomResourceDefinition");
    let definitions: Vec<&Value> = definitions.map(|definition| &definition["metadata"]["name"]).collect();
    let roles = chart::of_kind(&objects, "Role").chain(chart::of_kind(&objects, "ClusterRole"));
    let mut by_name = 0;
    for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
        let names = match rule["resources"][0].as_str().unwrap() {
            "leases" if rule["verbs"] == json!(["create"]) => continue,
            "leases" => json!([lease]),
            "customresourcedefinitions" => json!(definitions),
            _ => continue,
        };
        by_name += 1;
        let sorted =
            |names: &Value| serde_json::from_value::<std::collections::BTreeSet<String>>(names.clone());
        assert_eq!(sorted(&rule["resourceNames"]).unwrap(), sorted(&names).unwrap(), "{rule}");
    }
    assert_eq!(by_name, 2);
}

#[rstest::rstest]
#[case::the_own_namespace(&[], json!([{"podSelector": {}}]))]
#[case::prometheus(
    &[r#"networkPolicy.from=[{"namespaceSelector":{"matchLabels":{"a":"b"}}}]"#],
    json!([{"namespaceSelector": {"matchLabels": {"a": "b"}}}])
)]
#[tokio::test]
async fn a_network_policy_lets_in_who_is_named(#[case] values: &[&str], #[case] from: Value) {
    let objects = rendered(&[&["networkPolicy.enabled=true"], values].concat()).await;
    let spec = &chart::the(&objects, "NetworkPolicy")["spec"];
    let port = &container(&objects)["ports"][0]["containerPort"];
    assert_eq!(spec["ingress"], json!([{"from": from, "ports": [{"protocol": "TCP", "port": port}]}]));
    assert_eq!(spec["policyTypes"], json!(["Ingress"]), "what it sends is not restricted");
    let template = &chart::the(&objects, "Deployment")["spec"]["template"];
    let selected = spec["podSelector"]["matchLabels"].as_object().unwrap();
    assert!(selected.iter().all(|(key, value)| template["metadata"]["labels"][key] == *value));
}

#[rstest::rstest]
#[case::all(&[], &["--all-namespaces"], &["--namespace=dask-system"])]
#[case::own_namespace(&["rbac.cluster=false"], &["--namespace=dask-system"], &["--all-namespaces"])]
#[case::upstreams_way(&["rbac.cluster=false", r#"kopfArgs=["--namespace=x"]"#], &["--namespace=x"], &["--all-namespaces"])]
#[case::no_telemetry(&["telemetry=false"], &["--telemetry=false"], &["--telemetry=true"])]
#[case::json_logs(&[], &["--log-format=json"], &[])]
#[case::text_logs(&[r#"logFormat="text""#], &["--log-format=text"], &["--log-format=json"])]
#[tokio::test]
async fn values_choose_the_arguments(
    #[case] values: &[&str],
    #[case] given: &[&str],
    #[case] absent: &[&str],
) {
    let arguments = arguments(&rendered(values).await);
    for argument in given {
        assert!(arguments.iter().any(|given| given == argument), "{argument}: {arguments:?}");
    }
    for argument in absent {
        assert!(arguments.iter().all(|given| given != argument), "{argument}: {arguments:?}");
    }
    // What the chart writes, the operator reads.
    let settings = dask_operator::settings::Settings::from_arguments(&arguments[1..]);
    assert!(settings.is_ok(), "{arguments:?}: {}", settings.unwrap_err());
}

#[rstest::rstest]
#[case::two_without_lease(&["replicas=2", "leaderElection.enabled=false"], "set replicas to 1 or enable leader election")]
#[case::misspelt(&["replica=2"], "replica")]
#[case::wrong_type(&[r#"replicas="two""#], "replicas")]
#[case::contradiction(&["rbac.cluster=false", r#"kopfArgs=["--all-namespaces"]"#], "remove one of the two")]
#[case::python_image(&[r#"image.name="ghcr.io/dask/dask-kubernetes-operator""#], "the Python operator")]
#[tokio::test]
async fn values_that_cannot_work_are_refused(#[case] values: &[&str], #[case] words: &str) {
    let error = chart::render(NAMESPACE, values).await.unwrap_err();
    assert!(error.contains(words), "{words:?} is not in: {error}");
}

#[rstest::rstest]
#[case::default(&[])]
#[case::everything(&[
    r#"podLabels={"a":"b"}"#, r#"podAnnotations={"a":"b"}"#, r#"extraEnv=[{"name":"A","value":"b"}]"#,
    r#"volumes=[{"name":"v","emptyDir":{}}]"#, r#"volumeMounts=[{"name":"v","mountPath":"/v"}]"#,
    r#"tolerations=[{"operator":"Exists"}]"#, r#"nodeSelector={"a":"b"}"#, r#"imagePullSecrets=[{"name":"s"}]"#,
    r#"workerAllocation={"size":10,"delay":2}"#, r#"priorityClassName="system-cluster-critical""#,
    r#"logLevel="debug""#, r#"networkPolicy={"enabled":true,"from":[{"podSelector":{}}]}"#,
])]
#[tokio::test]
async fn the_api_server_takes_the_objects_and_restricted_namespaces_the_pods(#[case] values: &[&str]) {
    let namespace = ApiServer::shared().await.namespace("chart").await;
    namespace
        .kubectl(
            &format!("label namespace {} pod-security.kubernetes.io/enforce=restricted", namespace.name),
            "",
        )
        .await;
    let objects = chart::render(&namespace.name, values).await.unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    namespace.kubectl("apply --server-side --dry-run=server --validate=strict -f -", &list.to_string()).await;

    let template = &chart::the(&objects, "Deployment")["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator"}, "spec": template["spec"]});
    pod["spec"]["serviceAccountName"] = "default".into();
    pod["spec"]["priorityClassName"] = Value::Null;
    namespace.kubectl("create --dry-run=server --validate=strict -f -", &pod.to_string()).await;
}
