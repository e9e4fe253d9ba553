//! Clusters with nodes. Skipped, with the reason, where nodes cannot run.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "helpers of tests are tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Cleanup, apply, eventually, kill_9, kubectl, machine, processes, try_kubectl, unique};
use testbed::{Cluster, ClusterConfig, images, requirements, tools};
use tokio::sync::{Mutex, MutexGuard};

const PATIENCE: Duration = Duration::from_mins(2);

/// One test at a time: each cluster is a whole machine's worth of work.
static TURN: Mutex<()> = Mutex::const_new(());

/// The turn of a test, or `None` when nodes cannot run here.
async fn turn() -> Option<MutexGuard<'static, ()>> {
    if let Err(missing) = requirements::check_nodes() {
        println!("skipped: {missing}");
        return None;
    }
    Some(TURN.lock().await)
}

/// A web server on every node, behind a Service. The DNS image is there anyway and can answer HTTP.
const ECHO: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: echo}
data: {Corefile: ".:53 {\n  health\n}"}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: echo
        image: localhost/coredns:1
        imagePullPolicy: Never
        args: ["-conf", "/etc/echo/Corefile"]
        volumeMounts: [{name: config, mountPath: /etc/echo}]
        readinessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 1}
      volumes: [{name: config, configMap: {name: echo}}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{port: 80, targetPort: 8080}]}
"#;

/// GET over a plain socket: the answer, or why there is none.
fn http_get(address: &str, path: &str) -> Result<String, String> {
    use std::io::{Read, Write};
    // A pod that is being made has no address yet.
    let address: std::net::SocketAddr = address.parse().map_err(|error| format!("{address:?}: {error}"))?;
    let fetch = || {
        let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    fetch().map_err(|error| format!("{address}: {error}"))
}

fn node_status(cluster: &Cluster, node: &str) -> Result<String, String> {
    let status = r#"-o jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
    try_kubectl(cluster, &format!("get node {node} {status}"))
}

async fn wait_node(cluster: &Cluster, node: &str, status: &str) {
    eventually(&format!("{node} Ready={status}"), PATIENCE, || {
        let seen = node_status(cluster, node)?;
        if seen == status { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test]
async fn pods_run_on_every_node_and_nothing_is_left_behind() {
    let Some(_turn) = turn().await else { return };
    let name = unique("pods");
    let _cleanup = Cleanup(name.clone());
    let config = ClusterConfig::with_nodes(&name, 2);
    let start = Instant::now();
    let cluster = Cluster::up(config.clone()).await.unwrap();
    println!("two nodes ready after {:.1} s", start.elapsed().as_secs_f32());
    let prefix = cluster.resource_prefix();
    let state_dir = cluster.state_dir().to_owned();
    cluster.down().await.unwrap();
    let before = machine(&prefix);

    let cluster = Cluster::up(config).await.unwrap();
    apply(&cluster, ECHO);
    kubectl(&cluster, "rollout status daemonset/echo --timeout=60s");
    let pods = kubectl(&cluster, "get pods -l app=echo -o jsonpath={.items[*].status.podIP}");
    assert_eq!(pods.split(' ').count(), 2, "{pods}");
    for pod in pods.split(' ') {
        assert!(http_get(&format!("{pod}:8080"), "/health").unwrap().ends_with("OK"));
    }
    let service = kubectl(&cluster, "get service echo -o jsonpath={.spec.clusterIP}");
    eventually("Service", PATIENCE, || http_get(&format!("{service}:80"), "/health")).await;
    let during = machine(&prefix);
    for kind in ["link", "route", "namespace", "control group", "mount"] {
        let own = |line: &&String| line.starts_with(kind) && !before.contains(*line);
        assert!(during.iter().any(|line| own(&line)), "the test does not see any {kind} of the cluster");
    }

    cluster.down().await.unwrap();
    let left: Vec<_> = machine(&prefix).difference(&before).cloned().collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
    assert!(processes(&state_dir).is_empty());
    assert!(!state_dir.exists());
}

/// A table of the host's firewall, removed when the test ends.
struct Table(&'static str);

impl Table {
    fn new(name: &'static str, rule: &str) -> Self {
        let chain = "{ type filter hook input priority 5; }";
        for words in [
            vec!["add", "table", "ip", name],
            vec!["add", "chain", "ip", name, "input", chain],
            [vec!["add", "rule", "ip", name, "input"], rule.split(' ').collect()].concat(),
        ] {
            nft(&words);
        }
        Self(name)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        nft(&["delete", "table", "ip", self.0]);
    }
}

fn nft(words: &[&str]) -> String {
    let output = std::process::Command::new("nft").args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn firewall_gets_a_rule_for_the_link_of_the_cluster_until_it_is_taken_down() {
    let Some(_turn) = turn().await else { return };
    let name = unique("firewall");
    let _cleanup = Cleanup(name.clone());
    let config = ClusterConfig::with_nodes(&name, 1);
    let cluster = Cluster::up(config.clone()).await.unwrap();
    let link = cluster.resource_prefix();
    cluster.down().await.unwrap();
    // As a policy that drops, for this link only: the tests of others go on.
    let table = Table::new("testbed_test", &format!("iifname {link} drop"));
    let before = nft(&["list", "table", "ip", table.0]);

    let cluster = Cluster::up(config).await.unwrap();
    wait_node(&cluster, "node1", "True").await;
    let during = nft(&["list", "table", "ip", table.0]);
    let rule = format!(r#"iifname "{link}" accept comment "{link}""#);
    assert!(during.find(&rule) < during.find("drop") && during.contains(&rule), "{during}");
    cluster.down().await.unwrap();
    assert_eq!(nft(&["list", "table", "ip", table.0]), before);
}

#[tokio::test]
async fn nodes_fail_and_come_back() {
    let Some(_turn) = turn().await else { return };
    let name = unique("failures");
    let _cleanup = Cleanup(name.clone());
    let cluster = Cluster::up(ClusterConfig::with_nodes(&name, 2).with_fast_node_failure()).await.unwrap();
    apply(&cluster, ECHO);
    kubectl(&cluster, "rollout status daemonset/echo --timeout=60s");
    let pod_on = |node: &str| {
        let line = format!(
            "get pods -l app=echo --field-selector spec.nodeName={node} -o jsonpath={{.items[0].status.podIP}}:8080"
        );
        try_kubectl(&cluster, &line)
    };
    let (one, two) = (pod_on("node1").unwrap(), pod_on("node2").unwrap());
    let service = kubectl(&cluster, "get service echo -o jsonpath={.spec.clusterIP}:80");

    cluster.partition_node("node1").await.unwrap();
    assert!(http_get(&one, "/health").is_err(), "a partitioned node does not answer");
    http_get(&two, "/health").unwrap();
    wait_node(&cluster, "node1", "Unknown").await;
    // The host's way to the Services led through node1.
    eventually("Service through node2", PATIENCE, || http_get(&service, "/health")).await;
    cluster.heal_node("node1").await.unwrap();
    wait_node(&cluster, "node1", "True").await;
    http_get(&one, "/health").expect("a partition ends no container");

    cluster.kill_node("node1").await.unwrap();
    assert!(http_get(&one, "/health").is_err(), "a dead node does not answer");
    let error = cluster.partition_node("node1").await.unwrap_err().to_string();
    assert!(error.contains("node1") && error.contains("node restart"), "{error}");
    wait_node(&cluster, "node1", "Unknown").await;
    cluster.restart_node("node1").await.unwrap();
    wait_node(&cluster, "node1", "True").await;
    // The image is still there: nobody loaded it again.
    eventually("pod on node1", PATIENCE, || http_get(&pod_on("node1")?, "/health")).await;

    let error = cluster.kill_node("node9").await.unwrap_err().to_string();
    assert!(error.contains("node9") && error.contains("node1, node2"), "{error}");
}

#[tokio::test]
async fn up_mends_what_is_broken() {
    let Some(_turn) = turn().await else { return };
    let name = unique("mend");
    let _cleanup = Cleanup(name.clone());
    let config = ClusterConfig::with_nodes(&name, 1);
    let cluster = Cluster::up(config.clone()).await.unwrap();
    kubectl(&cluster, "create namespace before");

    // A dead node: the rest is kept.
    cluster.kill_node("node1").await.unwrap();
    let cluster = Cluster::up(config.clone()).await.unwrap();
    kubectl(&cluster, "get namespace before");
    wait_node(&cluster, "node1", "True").await;

    // Everything dead: a new cluster.
    kill_9(cluster.state_dir());
    let cluster = Cluster::up(config).await.unwrap();
    wait_node(&cluster, "node1", "True").await;
    assert!(try_kubectl(&cluster, "get namespace before").unwrap_err().contains("NotFound"));
}

/// A pod that runs a command once. Images come by `load_image` only.
fn one_shot(name: &str, image: &str, args: &str) -> String {
    format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  containers:
  - name: c
    image: {image}
    imagePullPolicy: Never
    args: {args}
    securityContext:
      runAsNonRoot: true
      allowPrivilegeEscalation: false
      capabilities: {{drop: [ALL]}}
      seccompProfile: {{type: RuntimeDefault}}
"
    )
}

#[tokio::test]
async fn images_are_loaded_and_run_as_restricted_users() {
    let Some(_turn) = turn().await else { return };
    let name = unique("images");
    let _cleanup = Cleanup(name.clone());
    let (dask, renamed, operator) = tokio::task::spawn_blocking(|| {
        let dask = images::dask().unwrap();
        let renamed = images::dask_as(&["ghcr.io/dask/dask:latest", "localhost/other:1"]).unwrap();
        // Any static program can stand for the operator here.
        let operator = images::operator(&tools::path("coredns").unwrap()).unwrap();
        (dask, renamed, operator)
    })
    .await
    .unwrap();
    let cluster = Cluster::up(ClusterConfig::with_nodes(&name, 1)).await.unwrap();
    for archive in [&dask, &renamed, &operator] {
        let start = Instant::now();
        cluster.load_image(archive).await.unwrap();
        println!("{} loaded in {:.1} s", archive.display(), start.elapsed().as_secs_f32());
    }
    let python =
        r#"["python", "-c", "import bokeh, distributed, msgpack, numpy, os, pandas; print(os.getuid())"]"#;
    for (pod, image, args, expected) in [
        ("scheduler", images::DASK, r#"["dask-scheduler", "--version"]"#, "2026.8.0"),
        ("worker", "ghcr.io/dask/dask:latest", r#"["dask-worker", "--version"]"#, "2026.8.0"),
        ("dask", "localhost/other:1", r#"["dask", "--version"]"#, "2026.8.0"),
        ("python", images::DASK, python, "1000"),
        ("operator", images::OPERATOR, r#"["-version"]"#, "CoreDNS"),
    ] {
        apply(&cluster, &one_shot(pod, image, args));
        eventually(pod, PATIENCE, || {
            let phase = kubectl(&cluster, &format!("get pod {pod} -o jsonpath={{.status.phase}}"));
            match phase.as_str() {
                "Succeeded" => Ok(()),
                _ => Err(kubectl(&cluster, &format!("get pod {pod} -o jsonpath={{.status}}"))),
            }
        })
        .await;
        let log = kubectl(&cluster, &format!("logs {pod}"));
        assert!(log.contains(expected), "{pod}: {log}");
    }
    let error = cluster.load_image("/no/such/archive.tar".as_ref()).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/archive.tar"), "{error}");
}
