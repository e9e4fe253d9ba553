//! The API tier: quick, many side by side, nothing left behind.

mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use common::{Cleanup, apply, eventually, kill_9, kubectl, processes, try_kubectl, unique};
use testbed::{Cluster, ClusterConfig};

/// Busy cores make everything slower; a stuck start takes longer than this.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn is_ready_in_seconds_and_leaves_nothing() {
    let name = unique("ready");
    let _cleanup = Cleanup(name.clone());
    let start = Instant::now();
    let cluster = Cluster::up(ClusterConfig::api_only(&name)).await.unwrap();
    println!("API tier ready after {:.1} s", start.elapsed().as_secs_f32());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());

    assert!(kubectl(&cluster, "get namespaces").contains("kube-system"));
    assert_eq!(kubectl(&cluster, "get --raw /readyz"), "ok");
    assert!(cluster.nodes().is_empty());
    let state_dir = cluster.state_dir().to_owned();
    assert_eq!(processes(&state_dir).len(), 2, "etcd and kube-apiserver");

    cluster.down().await.unwrap();
    assert!(processes(&state_dir).is_empty());
    assert!(!state_dir.exists());
    let error = Cluster::attach(&name).await.unwrap_err().to_string();
    assert!(error.contains(&name) && error.contains("dask-testbed up"), "{error}");
    testbed::down(&name).await.expect("nothing to do is no error");
}

#[tokio::test]
async fn is_found_again_unless_the_configuration_differs() {
    let name = unique("again");
    let _cleanup = Cleanup(name.clone());
    let config = ClusterConfig::api_only(&name);
    let first = Cluster::up(config.clone()).await.unwrap();
    let before = processes(first.state_dir());
    let second = Cluster::up(config.clone()).await.unwrap();
    assert_eq!(processes(second.state_dir()), before, "nothing was started anew");
    assert_eq!(Cluster::attach(&name).await.unwrap().api_server_url(), first.api_server_url());

    let error = Cluster::up(config.with_audit_log()).await.unwrap_err().to_string();
    assert!(error.contains("audit log") && error.contains(&format!("down --name {name}")), "{error}");
    assert_eq!(processes(first.state_dir()), before, "the running cluster is left alone");
}

#[tokio::test]
async fn two_run_side_by_side() {
    let names = [unique("one"), unique("two")];
    let _cleanup = names.clone().map(Cleanup);
    let [one, two] = names.each_ref().map(|name| Cluster::up(ClusterConfig::api_only(name)));
    let (one, two) = tokio::join!(one, two);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.api_server_url(), two.api_server_url());
    kubectl(&one, "create namespace only-in-one");
    assert!(try_kubectl(&two, "get namespace only-in-one").unwrap_err().contains("NotFound"));
    // The credentials of one are worth nothing to the other.
    let foreign = format!("--server={} --insecure-skip-tls-verify=true get namespaces", two.api_server_url());
    assert!(try_kubectl(&one, &foreign).unwrap_err().contains("logged in"));
}

#[tokio::test]
async fn audit_log_holds_a_request_as_soon_as_it_is_answered() {
    let name = unique("audit");
    let _cleanup = Cleanup(name.clone());
    let cluster = Cluster::up(ClusterConfig::api_only(&name).with_audit_log()).await.unwrap();
    kubectl(&cluster, "create configmap audited-object --from-literal=a=b");
    let log = fs::read_to_string(cluster.audit_log_path()).unwrap();
    let event =
        log.lines().find(|line| line.contains("\"audited-object\"")).expect("an event of the request");
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["verb"], "create");
    assert_eq!(event["responseStatus"]["code"], 201);
    assert_eq!(event["user"]["username"], "admin");
}

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: pod, namespace: work}
spec: {containers: [{name: c, image: "localhost/none:1"}]}
"#;

#[tokio::test]
async fn pods_can_be_created_without_controllers() {
    let name = unique("pod");
    let _cleanup = Cleanup(name.clone());
    let cluster = Cluster::up(ClusterConfig::api_only(&name)).await.unwrap();
    kubectl(&cluster, "create namespace work");
    apply(&cluster, POD);
    assert_eq!(kubectl(&cluster, "get pod pod -n work -o jsonpath={.status.phase}"), "Pending");
}

#[tokio::test]
async fn controller_manager_empties_and_removes_namespaces() {
    let name = unique("kcm");
    let _cleanup = Cleanup(name.clone());
    let config = ClusterConfig::api_only(&name).with_controller_manager().with_controller_qps(200);
    let cluster = Cluster::up(config).await.unwrap();
    kubectl(&cluster, "create namespace work");
    eventually("default service account", PATIENCE, || {
        try_kubectl(&cluster, "get serviceaccount default -n work")
    })
    .await;
    apply(&cluster, POD);
    kubectl(&cluster, "delete namespace work --timeout=60s");
    assert!(try_kubectl(&cluster, "get namespace work").unwrap_err().contains("NotFound"));
}

#[tokio::test]
async fn killed_cluster_is_replaced_by_a_new_one() {
    let name = unique("killed");
    let _cleanup = Cleanup(name.clone());
    let config = ClusterConfig::api_only(&name);
    let cluster = Cluster::up(config.clone()).await.unwrap();
    kubectl(&cluster, "create namespace before-the-crash");
    kill_9(cluster.state_dir());
    eventually("no process", PATIENCE, || {
        let left = processes(cluster.state_dir());
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert!(Cluster::attach(&name).await.is_err(), "a dead cluster does not run");

    let cluster = Cluster::up(config).await.unwrap();
    assert!(try_kubectl(&cluster, "get namespace before-the-crash").unwrap_err().contains("NotFound"));
}

#[tokio::test]
async fn cluster_without_its_state_folder_is_still_taken_down() {
    let name = unique("lost");
    let _cleanup = Cleanup(name.clone());
    let cluster = Cluster::up(ClusterConfig::api_only(&name)).await.unwrap();
    // As `cargo clean` does.
    fs::remove_dir_all(cluster.state_dir()).unwrap();
    assert!(testbed::names().contains(&name), "{:?}", testbed::names());
    let status = testbed::status().into_iter().find(|status| status.name == name).unwrap();
    assert!(!status.ready && status.processes == 2, "{status}");
    testbed::down(&name).await.unwrap();
    assert!(processes(cluster.state_dir()).is_empty());
    assert!(!testbed::names().contains(&name));
}

#[tokio::test]
async fn impossible_name_is_refused_with_the_rule() {
    let error = Cluster::up(ClusterConfig::api_only("../Evil")).await.unwrap_err().to_string();
    assert!(error.contains("../Evil") && error.contains("a-z"), "{error}");
}
