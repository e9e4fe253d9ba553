//! Links to real schedulers with real workers.

use std::net::Ipv4Addr;
use std::time::Duration;

use dask_operator::cluster_cache::ObjectKey;
use dask_operator::scheduler_link::{DrainProgress, LinkView};
use dask_operator_api::{DaskCluster, DrainIntent, Reason, labels};
use integration_tests::dask::{Dask, Worker, set_ip};
use integration_tests::fault::{Call, listed};
use integration_tests::operator::Launch;
use integration_tests::wait::{check, holds_for, wait_for};
use integration_tests::{ApiServer, Kubelet, Namespace, Operator, templates, wait_until_quiet};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const GROUP: &str = "c-default";

/// A cluster `c` whose pods are real processes.
struct Cluster {
    namespace: Namespace,
    operator: Operator,
    _kubelet: Kubelet,
    dask: Dask,
    workers: Vec<Worker>,
}

fn launch(namespace: &Namespace) -> Launch {
    Launch::with_arguments(namespace, &["--leader-elect=false", "--scheduler-access=direct"])
}

/// The cluster's objects, with a scheduler pod of this address.
async fn objects(test: &str, workers: i32, ip: Ipv4Addr) -> (Namespace, Operator, Kubelet) {
    let namespace = ApiServer::shared().await.namespace(test).await;
    let kubelet = Kubelet::start(&namespace).await;
    let operator = Operator::launch(launch(&namespace)).await;
    namespace.create_object(&templates::cluster("c", workers)).await;
    namespace.wait_for_ready_workers(GROUP, workers).await;
    let pod = wait_for("the scheduler's pod runs", async || {
        let pods = namespace.list::<Pod>("dask.org/component=scheduler").await;
        let running = |pod: &&Pod| pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Running"));
        pods.iter().find(running).cloned().ok_or_else(|| format!("{} pods", pods.len()))
    })
    .await;
    set_ip(&namespace, &pod, ip).await;
    (namespace, operator, kubelet)
}

impl Cluster {
    async fn start(test: &str, workers: i32) -> Self {
        let mut dask = Dask::new().await;
        dask.start_scheduler().await;
        let (namespace, operator, kubelet) = objects(test, workers, dask.scheduler_ip()).await;
        let mut processes = Vec::new();
        for pod in namespace.workers(GROUP).await {
            let worker = dask.start_worker(&pod.name_any());
            set_ip(&namespace, &pod, worker.ip).await;
            processes.push(worker);
        }
        let cluster = Self { namespace, operator, _kubelet: kubelet, dask, workers: processes };
        cluster
            .wait_for_view("all workers are known", |view| {
                view.sample.as_ref().is_some_and(|sample| sample.workers == cluster.workers.len())
            })
            .await;
        cluster
    }

    fn view(&self) -> std::sync::Arc<LinkView> {
        let key = ObjectKey::new(self.namespace.name.as_str(), "c");
        self.operator.context().links.view(&key)
    }

    async fn wait_for_view(&self, what: &str, found: impl Fn(&LinkView) -> bool) {
        wait_for(what, async || {
            let view = self.view();
            check(found(&view), || format!("{view:?}"))
        })
        .await;
    }

    /// Marks the pod of a worker; gives its UID.
    async fn mark(&self, worker: usize) -> String {
        let name = &self.workers[worker].name;
        let since = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        let intent = DrainIntent { reason: Reason::ScaledDown, since }.to_annotation().unwrap();
        let patch = json!({"metadata": {"annotations": {labels::DRAIN: intent}}});
        self.namespace.patch::<Pod>(name, patch).await.uid().unwrap()
    }

    fn progress(&self, uid: &str) -> Option<DrainProgress> {
        self.view().sample.as_ref()?.drains.get(uid).cloned()
    }

    /// Waits until a drain is there; the pod may be deleted as soon as it is drained.
    async fn wait_for_progress(&self, uid: &str, what: &str, found: impl Fn(&DrainProgress) -> bool) {
        wait_for(what, async || {
            let progress = self.progress(uid);
            check(progress.as_ref().is_some_and(&found), || format!("{progress:?} of {:?}", self.view()))
        })
        .await;
    }

    async fn wait_until_drained(&self, worker: usize, uid: &str) {
        let name = &self.workers[worker].name;
        wait_for("the pod is drained", async || {
            let gone = self.namespace.find::<Pod>(name).await.is_err();
            let progress = self.progress(uid);
            let drained = progress.as_ref().is_some_and(DrainProgress::is_drained);
            check(gone || drained, || format!("{progress:?}"))
        })
        .await;
    }

    async fn wait_until_refused(&self, uid: &str, words: &str) {
        self.wait_for_progress(
            uid,
            "the drain is refused",
            |progress| matches!(progress, DrainProgress::Refused { message, .. } if message.contains(words)),
        )
        .await;
    }

    fn address(&self, worker: usize) -> String {
        let worker = &self.workers[worker];
        format!("[w for w in client.scheduler_info(n_workers=-1)['workers'] if '{}:' in w]", worker.ip)
    }
}

async fn condition(namespace: &Namespace) -> Option<(String, String)> {
    let status = namespace.get::<DaskCluster>("c").await.status?;
    let condition = status.conditions.into_iter().find(|c| c.type_ == "SchedulerReachable")?;
    Some((condition.status, condition.reason))
}

async fn wait_for_condition(namespace: &Namespace, status: &str, reason: Reason) {
    wait_for("the condition SchedulerReachable", async || {
        let found = condition(namespace).await;
        let expected = Some((status.to_owned(), reason.to_string()));
        check(found == expected, || format!("{found:?}"))
    })
    .await;
}

async fn scheduler_id(namespace: &Namespace) -> Option<String> {
    namespace.get::<DaskCluster>("c").await.status?.scheduler?.id
}

#[tokio::test]
async fn a_real_scheduler_is_named_followed_and_costs_no_writes() {
    let mut cluster = Cluster::start("links", 1).await;
    wait_for_condition(&cluster.namespace, "True", Reason::StandardOperations).await;
    let first = scheduler_id(&cluster.namespace).await.expect("an id");
    assert!(first.starts_with("Scheduler-"), "{first}");

    let faults = &cluster.operator.faults.clone();
    wait_until_quiet(faults).await;
    let changes = || faults.calls().into_iter().filter(Call::is_change).collect::<Vec<_>>();
    let (before, taken) = (changes().len(), cluster.view().sample.as_ref().unwrap().taken);
    holds_for(Duration::from_secs(6), "polling writes nothing", async || {
        let calls = changes();
        check(calls.len() == before, || listed(&calls[before..]))
    })
    .await;
    assert!(cluster.view().sample.as_ref().unwrap().taken > taken, "it was asked meanwhile");

    cluster.dask.start_scheduler().await;
    wait_for("the status names the new scheduler", async || {
        let id = scheduler_id(&cluster.namespace).await;
        check(id.as_ref().is_some_and(|id| *id != first), || format!("{id:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_drain_moves_the_data_and_nothing_is_computed_twice() {
    let cluster = Cluster::start("drain-data", 3).await;
    let mut client = cluster.dask.client().await;
    let log = cluster.dask.file("runs");
    let code = format!(
        "def make(i):\n    open('{log}', 'a').write('x')\n    return bytes([i]) * 1_000_000\n\
         futures = client.map(make, range(30), pure=False)\nwait(futures)"
    );
    client.run(&code).await;
    let uid = cluster.mark(0).await;
    cluster.wait_until_drained(0, &uid).await;
    let check = format!(
        "data = client.gather(futures)\n\
         result = [sum(len(d) == 1_000_000 and d[0] == i for i, d in enumerate(data)), len(open('{log}').read())]"
    );
    assert_eq!(client.run(&check).await, json!([30, 30]), "values, and runs of the tasks");
}

#[tokio::test]
async fn a_busy_worker_finishes_first_also_when_the_operator_restarts() {
    let mut cluster = Cluster::start("drain-busy", 2).await;
    let mut client = cluster.dask.client().await;
    let (log, go) = (cluster.dask.file("runs"), cluster.dask.file("go"));
    let code = format!(
        "def work(i):\n    open('{log}', 'a').write('x')\n    while not os.path.exists('{go}'):\n        time.sleep(0.05)\n    return i\n\
         futures = [client.submit(work, 7, workers={}, pure=False, allow_other_workers=True)]\n\
         while not os.path.exists('{log}'): time.sleep(0.05)",
        cluster.address(0)
    );
    client.run(&code).await;
    let uid = cluster.mark(0).await;
    let working = |progress: &DrainProgress| *progress == DrainProgress::Finishing { executing: 1 };
    cluster.wait_for_progress(&uid, "the worker finishes its task", working).await;

    cluster.operator.kill();
    cluster.operator = Operator::launch(launch(&cluster.namespace)).await;
    cluster.wait_for_progress(&uid, "the new operator goes on", working).await;
    holds_for(Duration::from_secs(3), "it is waited for", async || {
        let progress = cluster.progress(&uid);
        check(progress.as_ref().is_some_and(working), || format!("{progress:?}"))
    })
    .await;
    client.run(&format!("open('{go}', 'w').close()")).await;
    cluster.wait_until_drained(0, &uid).await;
    let result = client.run(&format!("result = [client.gather(futures), len(open('{log}').read())]")).await;
    assert_eq!(result, json!([[7], 1]), "the result, and one run");
    wait_for("the worker's process ends", async || {
        check(cluster.workers[0].has_ended(), || "it runs".to_owned())
    })
    .await;
}

#[tokio::test]
async fn a_worker_with_an_actor_is_refused_and_works_on() {
    let cluster = Cluster::start("drain-actor", 2).await;
    let mut client = cluster.dask.client().await;
    let code = format!(
        "class Counter:\n    def __init__(self): self.n = 0\n    def add(self):\n        self.n += 1\n        return self.n\n\
         counter = client.submit(Counter, actor=True, workers={}).result()",
        cluster.address(0)
    );
    client.run(&code).await;
    let uid = cluster.mark(0).await;
    cluster.wait_until_refused(&uid, "actor").await;
    assert_eq!(client.run("result = counter.add().result()").await, json!(1), "the actor lives");
}

#[tokio::test]
async fn the_last_worker_that_holds_data_is_refused() {
    let cluster = Cluster::start("drain-last", 1).await;
    let mut client = cluster.dask.client().await;
    client.run("[future] = client.scatter([b'x' * 1000])").await;
    let uid = cluster.mark(0).await;
    cluster.wait_until_refused(&uid, "no other running worker").await;
    assert_eq!(client.run("result = len(future.result())").await, json!(1000));
}

#[tokio::test]
async fn a_frozen_worker_is_not_taken_for_drained_and_goes_on_when_it_thaws() {
    let cluster = Cluster::start("drain-frozen", 2).await;
    let mut client = cluster.dask.client().await;
    client.run(&format!("[future] = client.scatter([b'x' * 1000], workers={})", cluster.address(0))).await;
    cluster.workers[0].freeze();
    let uid = cluster.mark(0).await;
    cluster.wait_for_progress(&uid, "the fence is asked for", |p| *p == DrainProgress::Fencing).await;
    let before = cluster.view().sample.as_ref().unwrap().taken;
    holds_for(Duration::from_secs(5), "it is not drained", async || {
        let progress = cluster.progress(&uid);
        check(progress == Some(DrainProgress::Fencing), || format!("{progress:?}"))
    })
    .await;
    assert!(cluster.view().sample.as_ref().unwrap().taken > before, "the call does not hold up the polling");
    cluster.workers[0].thaw();
    cluster.wait_until_drained(0, &uid).await;
    assert_eq!(client.run("result = len(future.result())").await, json!(1000), "the data moved");
}

#[tokio::test]
async fn a_scheduler_that_restarts_during_a_drain_knows_nothing_of_it() {
    let mut cluster = Cluster::start("drain-restart", 2).await;
    let mut client = cluster.dask.client().await;
    let code = format!(
        "future = client.submit(time.sleep, 600, workers={}, pure=False)\n\
         while not client.processing(): time.sleep(0.05)",
        cluster.address(0)
    );
    client.run(&code).await;
    let uid = cluster.mark(0).await;
    cluster
        .wait_for_progress(&uid, "its task is waited for", |p| matches!(p, DrainProgress::Finishing { .. }))
        .await;
    cluster.dask.start_scheduler().await;
    cluster.wait_until_drained(0, &uid).await;
}

#[tokio::test]
async fn garbage_and_silence_are_told_apart_and_do_not_make_the_cluster_unready() {
    let ip = Ipv4Addr::new(127, fastrand::u8(1..=254), fastrand::u8(..), 1);
    let listener = TcpListener::bind((ip, 8786)).await.unwrap();
    let silent = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            open.push(listener.accept().await.unwrap());
        }
    });
    let (namespace, _operator, _kubelet) = objects("links-bad", 1, ip).await;
    wait_for_condition(&namespace, "False", Reason::SchedulerUnreachable).await;
    silent.abort();
    assert!(silent.await.is_err());

    let listener = TcpListener::bind((ip, 8786)).await.unwrap();
    let _web = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    wait_for_condition(&namespace, "False", Reason::SchedulerGarbled).await;
    let status = namespace.get::<DaskCluster>("c").await.status.unwrap();
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
    assert_eq!(ready.status, "True", "{ready:?}");
}
