//! Twenty clusters whose schedulers answer the most expensive things they can think of, and three objects that would take
//! hundreds of megabytes, under the memory limit of the chart: the other clusters notice nothing.
//!
//! It takes `HOSTILE_SECONDS` (20; 600 for the long run). `OPERATOR_PROGRAM` names a program to hold to it, such as
//! the one that is shipped; otherwise this test program is the operator's process, too.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dask_operator_api::DaskCluster;
use dask_protocol::fake::{FakeScheduler, Task, Worker};
use futures::future::join_all;
use http::Request;
use integration_tests::dask::set_ip;
use integration_tests::hostile::{HostileScheduler, Hostility, SECRET};
use integration_tests::process::{self, OperatorProcess};
use integration_tests::wait::check;
use integration_tests::{ApiServer, Kubelet, Namespace, holds_for, templates, wait_for};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use serde::de::IgnoredAny;
use serde_json::json;

/// `resources.limits.memory` in the chart's values.
const MEMORY: u64 = 256 << 20;
const HOSTILE: usize = 20;
/// Objects with very many values.
const CROWDED: usize = 3;
/// Sources of a volume in each of them: 1.35 MB of the 1.5 MB that etcd takes, and 200 MB once they are decoded.
const SOURCES: usize = 450_000;
/// Label of these, which this test itself had better not decode.
const CROWDED_LABEL: &str = "integration-tests/crowded";
/// A cluster that has work is asked every second.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// The Lease is renewed every 2 s, and lost after 10 s.
const LONGEST_TERM: Duration = Duration::from_secs(6);

fn seconds() -> Duration {
    let seconds = std::env::var("HOSTILE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(20))
}

#[test]
#[ignore = "no test: the process of the operator, which the test below starts"]
fn operator_process() {
    process::enter();
}

/// A network of 127.0.0.0/8 of this test's own.
fn network() -> impl Fn(u8) -> Ipv4Addr + Copy {
    let (a, b) = (fastrand::u8(1..=254), fastrand::u8(..));
    move |host| Ipv4Addr::new(127, a, b, host)
}

/// Makes a cluster of three workers of which two are wanted, so that its scheduler is asked for all it can tell.
async fn shrinking_cluster(namespace: &Namespace, name: &str, scheduler: Ipv4Addr) {
    namespace.create_object(&templates::cluster(name, 2)).await;
    let selector = format!("dask.org/cluster-name={name},dask.org/component=scheduler");
    let pod = wait_for("the scheduler's pod runs", async || {
        let pods = namespace.list::<Pod>(&selector).await;
        let running = |pod: &&Pod| pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Running"));
        pods.iter().find(running).cloned().ok_or_else(|| format!("{} pods", pods.len()))
    })
    .await;
    set_ip(namespace, &pod, scheduler).await;
    namespace.wait_for_ready_workers(&format!("{name}-default"), 2).await;
}

/// Makes a cluster that the definition allows, and that takes 200 MB to decode. The API server takes 10 s for it.
async fn crowded_cluster(namespace: &Namespace, number: usize) {
    let mut cluster = templates::cluster_json(&format!("crowded-{number}"), 1);
    cluster["metadata"]["labels"] = json!({CROWDED_LABEL: "yes"});
    cluster["spec"]["worker"]["spec"]["volumes"] =
        json!([{"name": "v", "projected": {"sources": vec![json!({}); SOURCES]}}]);
    let path = format!("/apis/kubernetes.dask.org/v1/namespaces/{}/daskclusters", namespace.name);
    let request = Request::post(path).header("content-type", "application/json");
    let request = request.body(cluster.to_string().into_bytes()).unwrap();
    namespace.client.request::<IgnoredAny>(request).await.unwrap();
}

async fn lease(namespace: &Namespace) -> Option<(String, String, i32)> {
    let spec = namespace.list::<Lease>("").await.into_iter().next()?.spec?;
    Some((spec.renew_time?.0.to_string(), spec.holder_identity?, spec.lease_transitions.unwrap_or(0)))
}

/// The longest time between two changes of something that should change often.
struct Pulse<T> {
    last: Option<T>,
    at: Instant,
    longest: Duration,
}

impl<T: PartialEq> Pulse<T> {
    fn new() -> Self {
        Self { last: None, at: Instant::now(), longest: Duration::ZERO }
    }

    fn feel(&mut self, now: T) {
        self.longest = self.longest.max(self.at.elapsed());
        if self.last.as_ref() != Some(&now) {
            (self.last, self.at) = (Some(now), Instant::now());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_schedulers_cost_the_others_nothing() {
    let namespace = ApiServer::shared().await.namespace("hostile").await;
    let (_kubelet, address) = (Kubelet::start(&namespace).await, network());
    let mut schedulers = Vec::new();
    for number in 0..HOSTILE {
        let how = Hostility::ALL[number % Hostility::ALL.len()];
        let host = u8::try_from(number).unwrap() + 100;
        schedulers.push(HostileScheduler::start(address(host), how).await);
    }
    let good = FakeScheduler::start_at(&format!("{}:8786", address(1))).await.unwrap();
    let arguments = [
        format!("--namespace={}", namespace.name),
        format!("--lease-namespace={}", namespace.name),
        "--liveness=http://127.0.0.1:0/healthz".to_owned(),
        "--identity=hostile".to_owned(),
        "--scheduler-access=direct".to_owned(),
        "--log-format=text".to_owned(),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // All but one are there when the operator lists.
    for number in 1..CROWDED {
        crowded_cluster(&namespace, number).await;
    }
    let mut operator = OperatorProcess::start(&namespace, "hostile::operator_process", &arguments);
    operator.limit_memory(MEMORY);

    let name = |number: usize| format!("h{number}");
    shrinking_cluster(&namespace, "good", address(1)).await;
    crowded_cluster(&namespace, 0).await;
    let workers = namespace.workers("good-default").await;
    for (pod, host) in workers.iter().zip(2..) {
        set_ip(&namespace, pod, address(host)).await;
        let worker = Worker { name: pod.name_any(), ..Worker::new(&format!("tcp://{}:4000", address(host))) };
        good.with(|state| state.workers.push(worker));
    }
    let task = Task { prefix: "inc".into(), mean_seconds: None, queued: 1, processing: 0, unrunnable: 0 };
    good.with(|state| state.tasks = vec![task]);
    join_all((0..HOSTILE).map(async |number| {
        let host = u8::try_from(number).unwrap() + 100;
        shrinking_cluster(&namespace, &name(number), address(host)).await;
        namespace.scale_group(&format!("h{number}-default"), 1).await;
    }))
    .await;

    let (begun, mut questions, mut terms) = (Instant::now(), Pulse::new(), Pulse::new());
    let mut first = None;
    holds_for(seconds(), "the operator lives, leads and asks", async || {
        check(operator.ended().is_none(), || format!("{:?}", operator.ended()))?;
        questions
            .feel(good.with(|state| state.calls.iter().filter(|op| *op == "dask_operator_queue").count()));
        let (renewed, holder, changes) = lease(&namespace).await.ok_or("no lease")?;
        terms.feel(renewed);
        check(holder == "hostile" && *first.get_or_insert(changes) == changes, || {
            format!("{holder} {changes}")
        })
    })
    .await;
    let memory = operator.most_memory();
    eprintln!(
        "{} s: {} MB at most, {:.1} s between questions, {:.1} s between renewals",
        begun.elapsed().as_secs(),
        memory >> 20,
        questions.longest.as_secs_f64(),
        terms.longest.as_secs_f64()
    );
    assert!(memory > 0 && memory < MEMORY, "{memory}");
    assert!(questions.longest < LONGEST_SILENCE, "{:?}", questions.longest);
    assert!(terms.longest < LONGEST_TERM, "{:?}", terms.longest);

    // Pauses double up to 2 min; an address that comes later than the pod begins anew.
    let most = 25 + usize::try_from(begun.elapsed().as_secs() / 60).unwrap();
    for scheduler in schedulers.iter().filter(|scheduler| scheduler.how().is_useless()) {
        assert!(scheduler.connections() <= most, "{:?}: {}", scheduler.how(), scheduler.connections());
    }

    // Lists and the ranking come through as well.
    namespace.scale_group("good-default", 1).await;
    namespace.wait_for_ready_workers("good-default", 1).await;
    wait_for("the worker is retired", async || {
        let left = good.with(|state| state.workers.len());
        check(left == 1, || format!("{left} workers"))
    })
    .await;
    let clusters: Vec<DaskCluster> = namespace.list(&format!("!{CROWDED_LABEL}")).await;
    let reachable = |cluster: &DaskCluster| {
        let conditions = cluster.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == "SchedulerReachable")
    };
    for cluster in &clusters {
        // One that hangs may not have failed yet.
        let well = cluster.name_any() == "good";
        let Some(condition) = reachable(cluster) else {
            assert!(!well, "nothing is said of the good one");
            continue;
        };
        assert!(!well || condition.status == "True", "{condition:?}");
        assert!(!condition.message.contains(SECRET), "{}: {}", cluster.name_any(), condition.message);
    }
    assert_eq!(clusters.len(), HOSTILE + 1);
    let events: Vec<Event> = namespace.list("").await;
    let unreadable = events.iter().filter(|event| event.reason.as_deref() == Some("Unreadable"));
    let told: BTreeSet<_> = unreadable.filter_map(|event| event.regarding.as_ref()?.name.clone()).collect();
    assert_eq!(told, (0..CROWDED).map(|number| format!("crowded-{number}")).collect());
    assert!(events.iter().all(|event| !event.note.as_deref().unwrap_or_default().contains(SECRET)));
    let log = operator.log();
    assert!(!log.contains(SECRET), "{}", log.lines().find(|line| line.contains(SECRET)).unwrap_or_default());
    drop(schedulers);
}
