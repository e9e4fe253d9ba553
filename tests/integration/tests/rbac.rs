//! The chart grants what the operator uses, no less and no more.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dask_operator::pods::telemetry;
use dask_operator_api::labels::KOPF_FINALIZER;
use dask_operator_api::{DaskAutoscaler, DaskCluster, DaskWorkerGroup, JobStatus};
use integration_tests::jobs::{job, wait_for_status};
use integration_tests::kubelet::{Ending, end_pod, wait_until_running};
use integration_tests::operator::Launch;
use integration_tests::wait::check;
use integration_tests::{
    ApiServer, Fault, Faults, Kubelet, Link, Namespace, Operator, chart, scenario, templates, wait_for,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::config::AuthInfo;
use kube::{Config, ResourceExt};
use serde_json::{Value, json};

type Rights = BTreeSet<(String, String, String)>;

/// Granted for the admission plugin `OwnerReferencesPermissionEnforcement`, which asks for these rights when an owner
/// reference blocks deletion (`OpenShift` turns it on); no request uses them.
fn for_admission() -> Rights {
    ["daskclusters/finalizers", "daskworkergroups/finalizers", "daskjobs/finalizers"]
        .map(|resource| ("update".to_owned(), "kubernetes.dask.org".to_owned(), resource.to_owned()))
        .into()
}

/// Every process may ask these, by the roles `system:basic-user` and `system:discovery`.
fn everybody_has(right: &(String, String, String)) -> bool {
    right.1 == "authorization.k8s.io"
}

/// The service account and roles of the chart, applied; returns what they grant and how to connect as the operator.
async fn install(namespace: &Namespace, values: &[&str]) -> (Rights, Config) {
    let rendered = chart::render(&namespace.name, values).await.unwrap();
    let kinds = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    let rbac: Vec<&Value> =
        rendered.iter().filter(|object| kinds.iter().any(|kind| object["kind"] == *kind)).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": rbac});
    namespace.kubectl("apply -f -", &list.to_string()).await;
    (chart::rights(&rendered), as_account(namespace, &service_account(&rendered)).await)
}

fn service_account(rendered: &[Value]) -> String {
    chart::the(rendered, "ServiceAccount")["metadata"]["name"].as_str().unwrap().to_owned()
}

/// How to connect with a token of this account, and without the administrator's certificate.
async fn as_account(namespace: &Namespace, account: &str) -> Config {
    let token = namespace.kubectl(&format!("create token {account} --duration=1h"), "").await.stdout;
    let mut config = namespace.server().config().clone();
    config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
    config
}

fn arguments(lease_namespace: &str) -> Vec<String> {
    let fixed = [
        "--liveness=http://127.0.0.1:0/healthz",
        "--leader-elect=true",
        "--identity=rbac",
        // The chart grants no other.
        "--lease-name=dask-dask-operator",
        "--scheduler-access=none",
    ];
    fixed.into_iter().map(str::to_owned).chain([format!("--lease-namespace={lease_namespace}")]).collect()
}

#[tokio::test]
async fn the_chart_grants_exactly_what_is_used() {
    let server = ApiServer::own("rbac").await;
    server.apply_crds().await;
    let home = server.namespace("home").await;
    let (granted, config) = install(&home, &[]).await;

    // What the life of a cluster does not show by itself: a reply that is lost while the watch is late, names that
    // are taken, and traces of the Python operator.
    let first = AtomicBool::new(true);
    let (period, open) = (Duration::from_secs(3), Duration::from_millis(100));
    let faults = Faults::plan(move |call| match call.verb {
        "create" if call.is_about("pods") && first.swap(false, Ordering::SeqCst) => Fault::LoseReply,
        "watch" if call.is_about("pods") => Fault::HoldBackWatch { period, open },
        _ => Fault::None,
    });
    let launch =
        Launch { config, arguments: arguments(&home.name), faults: faults.clone(), link: Link::obliging() };
    let namespace = server.namespace("life").await;
    let legacy = server.namespace("legacy").await;
    Box::pin(leave_traces_of_the_python_operator(&legacy)).await;
    take_names(&legacy).await;
    let jobs = server.namespace("jobs").await;
    let _kubelet = Kubelet::start(&jobs).await;
    leave_a_job_and_an_autoscaler(&jobs).await;
    leave_a_scheduler_without_its_volume(&jobs).await;

    let ends = async {
        let runner = wait_until_running(&jobs, "job-runner").await;
        end_pod(&jobs, &runner, Ending::Completed).await;
        wait_for_status(&jobs, "job", JobStatus::Successful).await;
        wait_for("the autoscaler was looked at", async || {
            let autoscaler = jobs.find::<DaskAutoscaler>("a").await?;
            let released = autoscaler.finalizers().is_empty() && autoscaler.status.is_some();
            if released { Ok(()) } else { Err(format!("{autoscaler:?}")) }
        })
        .await;
    };
    tokio::join!(scenario::play(&namespace, &launch), ends);
    jobs.wait_for_cluster_condition("waits", "SchedulerReady", "ContainerCannotStart").await;
    for cluster in ["one", "two"] {
        legacy.wait_for_cluster_condition(cluster, "SchedulerReady", "NameTaken").await;
    }
    wait_for("the traces of the Python operator are gone", async || {
        let workers = legacy.list::<Deployment>("dask.org/component=worker").await.len();
        let finalizers = legacy.find::<DaskCluster>("legacy").await?.metadata.finalizers.unwrap_or_default();
        check(workers == 0 && finalizers.is_empty(), || format!("{workers} workers, {finalizers:?}"))
    })
    .await;
    let used: Rights = faults.rights_used().into_iter().filter(|right| !everybody_has(right)).collect();
    let missing: Vec<_> = used.difference(&granted).collect();
    assert!(missing.is_empty(), "used but not granted: {missing:?}");
    let allowed: Rights = used.into_iter().chain(for_admission()).collect();
    let unused: Vec<_> = granted.difference(&allowed).collect();
    assert!(unused.is_empty(), "granted but not used: {unused:?}");
    assert!(
        granted.iter().all(|(verb, group, resource)| [verb, group, resource].iter().all(|word| *word != "*"))
    );
    server.down().await;
}

/// Of what it waits for only Events tell.
async fn leave_a_scheduler_without_its_volume(namespace: &Namespace) {
    let mut cluster = templates::cluster_json("waits", 0);
    cluster["spec"]["scheduler"]["spec"]["volumes"] =
        json!([{"name": "site", "configMap": {"name": "missing"}}]);
    namespace.create_object(&serde_json::from_value::<DaskCluster>(cluster).unwrap()).await;
}

/// Both with the finalizer of the Python operator.
async fn leave_a_job_and_an_autoscaler(namespace: &Namespace) {
    let mut job = job("job");
    job.metadata.finalizers = Some(vec![KOPF_FINALIZER.to_owned()]);
    namespace.create_object(&job).await;
    let autoscaler = json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler",
        "metadata": {"name": "a", "finalizers": [KOPF_FINALIZER]},
        "spec": {"cluster": "none", "minimum": 0, "maximum": 1},
    });
    namespace.create_object(&serde_json::from_value::<DaskAutoscaler>(autoscaler).unwrap()).await;
}

/// Strangers with the names of a Service and of a Deployment that clusters need, without labels that we watch.
async fn take_names(namespace: &Namespace) {
    let service = json!({"metadata": {"name": "one-scheduler"}, "spec": {"ports": [{"port": 80}]}});
    namespace.create_object(&serde_json::from_value::<Service>(service).unwrap()).await;
    let labels = json!({"app": "stranger"});
    let deployment = json!({
        "metadata": {"name": "two-scheduler"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "c:1"}]}},
        },
    });
    namespace.create_object(&serde_json::from_value::<Deployment>(deployment).unwrap()).await;
    for cluster in ["one", "two"] {
        namespace.create_object(&templates::cluster(cluster, 0)).await;
    }
}

/// A finalizer, a worker's Deployment that is one too many, and a scheduler Deployment that is rolled, not recreated.
async fn leave_traces_of_the_python_operator(namespace: &Namespace) {
    let mut cluster = templates::cluster("legacy", 0);
    cluster.metadata.finalizers = Some(vec![KOPF_FINALIZER.to_owned()]);
    let cluster: DaskCluster = namespace.create_object(&cluster).await;
    let group: DaskWorkerGroup =
        namespace.create_object(&templates::group("legacy-default", "legacy", 0)).await;
    let labels = json!({
        "dask.org/cluster-name": "legacy", "dask.org/component": "worker",
        "dask.org/workergroup-name": "legacy-default",
    });
    let worker: Deployment = serde_json::from_value(json!({
        "metadata": {
            "name": "legacy-default-worker-0123456789", "labels": labels,
            "ownerReferences": [{
                "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup", "name": "legacy-default",
                "uid": group.metadata.uid, "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": group.spec.worker.spec},
        },
    }))
    .unwrap();
    namespace.create_object(&worker).await;
    let labels = json!({"dask.org/cluster-name": "legacy", "dask.org/component": "scheduler"});
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {
            "name": "legacy-scheduler", "labels": labels,
            "ownerReferences": [{
                "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "name": "legacy",
                "uid": cluster.metadata.uid, "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": cluster.spec.scheduler.spec},
        },
    }))
    .unwrap();
    namespace.create_object(&deployment).await;

    // Of an earlier release of this operator.
    let mut modules = telemetry::config_map(&cluster);
    modules.data = None;
    namespace.create_object(&modules).await;
}

#[tokio::test]
async fn roles_of_one_namespace_are_enough_for_it() {
    let namespace = ApiServer::shared().await.namespace("roles").await;
    let (granted, config) = install(&namespace, &["rbac.cluster=false"]).await;
    let cluster_wide = ["customresourcedefinitions", "namespaces", "nodes"];
    assert!(granted.iter().all(|(_, _, resource)| !cluster_wide.contains(&resource.as_str())), "{granted:?}");
    let mut arguments = arguments(&namespace.name);
    arguments.push(format!("--namespace={}", namespace.name));
    let faults = Faults::recorder();
    scenario::play(&namespace, &Launch { config, arguments, faults, link: Link::obliging() }).await;
}

#[tokio::test]
async fn the_charts_role_is_enough_for_patterns_of_namespaces() {
    let namespace = ApiServer::shared().await.namespace("pattern").await;
    let _kubelet = Kubelet::start(&namespace).await;
    let pattern = format!("--namespace={}*", namespace.name.trim_end_matches(char::is_alphanumeric));
    let (_, config) = install(&namespace, &[&format!("kopfArgs={}", json!([pattern]))]).await;
    let mut arguments = arguments(&namespace.name);
    arguments.push(pattern);
    let operator =
        Operator::launch(Launch { config, arguments, faults: Faults::recorder(), link: Link::obliging() })
            .await;
    operator.wait_until_ready().await;
    namespace.create_object(&templates::cluster("c", 1)).await;
    namespace.wait_for_ready_workers("c-default", 1).await;
}

#[tokio::test]
async fn a_missing_right_is_named_and_waited_for() {
    let namespace = ApiServer::shared().await.namespace("no-right").await;
    let _kubelet = Kubelet::start(&namespace).await;
    let (_, config) = install(&namespace, &["rbac.cluster=false"]).await;
    let role = namespace.kubectl("get role dask-dask-operator -o json", "").await.stdout;
    let mut lesser: Value = serde_json::from_str(&role).unwrap();
    let rules = lesser["rules"].as_array_mut().unwrap();
    let pods = rules.iter_mut().find(|rule| rule["resources"] == json!(["pods"])).expect("a rule for pods");
    pods["verbs"] = json!(["get", "list", "watch"]);
    namespace.kubectl("replace -f -", &lesser.to_string()).await;

    let mut launch = Launch::alone(&namespace);
    launch.config = config;
    let operator = Operator::launch(launch).await;
    let words = wait_for("the probe names the right", async || {
        let words = operator.readiness().await.err().ok_or("ready")?;
        if words.contains("create") { Ok(words) } else { Err(words) }
    })
    .await;
    for word in ["no right to create, patch, delete pods", &namespace.name, "helm upgrade"] {
        assert!(words.contains(word), "{word:?} is not in: {words}");
    }
    namespace.create_object(&templates::cluster("c", 1)).await;

    lesser = serde_json::from_str(&role).unwrap();
    lesser["metadata"]["resourceVersion"] = Value::Null;
    namespace.kubectl("replace -f -", &lesser.to_string()).await;
    operator.wait_until_ready().await;
    namespace.wait_for_ready_workers("c-default", 1).await;
}
