//! Links to real schedulers with real workers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use dask_operator::cluster_cache::ObjectKey;
use dask_operator::scheduler_link::{DrainProgress, LinkView};
use dask_operator_api::{DaskCluster, DaskWorkerGroup, DrainIntent, Reason, labels};
use integration_tests::dask::{Dask, Worker, set_ip, try_set_ip};
use integration_tests::fault::{Call, listed};
use integration_tests::kubelet::wait_until_running;
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

/// The worker that is started for a pod, and the address that the pod says it has.
type Start = fn(&mut Dask, &Pod) -> (Worker, IpAddr);

/// Name and address are those of the pod.
fn as_usual(dask: &mut Dask, pod: &Pod) -> (Worker, IpAddr) {
    let worker = dask.start_worker(&pod.name_any());
    let ip = worker.ip.into();
    (worker, ip)
}

/// Only its name tells whose it is: Kubernetes knows the IPv6 address of its pod, Dask took the IPv4 one.
fn by_name(dask: &mut Dask, pod: &Pod) -> (Worker, IpAddr) {
    elsewhere(dask.start_worker(&pod.name_any()))
}

/// Nothing tells whose it is.
fn by_nothing(dask: &mut Dask, pod: &Pod) -> (Worker, IpAddr) {
    elsewhere(dask.start_worker(&format!("mine-of-{}", pod.name_any())))
}

fn elsewhere(worker: Worker) -> (Worker, IpAddr) {
    let [.., last] = worker.ip.octets();
    (worker, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()).into())
}

impl Cluster {
    async fn start(test: &str, workers: i32) -> Self {
        Self::start_with(test, workers, as_usual).await
    }

    async fn start_with(test: &str, workers: i32, start: Start) -> Self {
        let mut dask = Dask::new().await;
        dask.start_scheduler().await;
        let (namespace, operator, kubelet) = objects(test, workers, dask.scheduler_ip()).await;
        let mut processes = Vec::new();
        for pod in namespace.workers(GROUP).await {
            let (worker, ip) = start(&mut dask, &pod);
            set_ip(&namespace, &pod, ip).await;
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
        view(&self.operator, &self.namespace)
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

/// What is known from the scheduler of the cluster `c`.
fn view(operator: &Operator, namespace: &Namespace) -> std::sync::Arc<LinkView> {
    let (key, context) = (ObjectKey::new(namespace.name.as_str(), "c"), operator.context());
    let uid = context.cache.cluster_snapshot(&key).and_then(|snapshot| snapshot.cluster.metadata.uid.clone());
    context.links.view(&key, uid.as_deref())
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
async fn a_worker_at_an_address_that_is_not_its_pods_is_drained_by_its_name() {
    let cluster = Cluster::start_with("drain-by-name", 2, by_name).await;
    let mut client = cluster.dask.client().await;
    client.run(&format!("[future] = client.scatter([b'x' * 1000], workers={})", cluster.address(0))).await;
    let uid = cluster.mark(0).await;
    cluster.wait_until_drained(0, &uid).await;
    assert_eq!(client.run("result = len(future.result())").await, json!(1000), "the data moved");
}

#[tokio::test]
async fn a_worker_that_fits_no_pod_keeps_all_pods_and_is_named() {
    let cluster = Cluster::start_with("drain-unknown", 2, by_nothing).await;
    let mut client = cluster.dask.client().await;
    client.run(&format!("[future] = client.scatter([b'x' * 1000], workers={})", cluster.address(0))).await;
    cluster.namespace.scale_group(GROUP, 0).await;
    let told = wait_for("it is said what is not known", async || {
        let group = cluster.namespace.find::<DaskWorkerGroup>(GROUP).await?;
        let conditions = group.status.unwrap_or_default().conditions;
        let told = conditions.iter().find(|c| c.type_ == "Scaling" && c.reason == "DrainUnconfirmed");
        told.map(|told| told.message.clone()).ok_or_else(|| format!("{conditions:?}"))
    })
    .await;
    let pods = cluster.namespace.workers(GROUP).await;
    assert!(told.contains(&pods[0].name_any()) && told.contains("mine-of-"), "{told}");
    assert!(told.contains("--name $(DASK_WORKER_NAME)"), "{told}");
    // A worker that the scheduler does not know is given up after 10 s.
    holds_for(Duration::from_secs(14), "nobody is taken for empty", async || {
        let left = cluster.namespace.workers(GROUP).await.len();
        check(left == 2, || format!("{left} left"))
    })
    .await;
    assert_eq!(client.run("result = len(future.result())").await, json!(1000));
}

/// As with `hostNetwork`.
#[tokio::test]
async fn of_pods_with_one_address_only_the_marked_one_is_retired() {
    let mut dask = Dask::new().await;
    dask.start_scheduler().await;
    let (namespace, operator, kubelet) = objects("drain-host", 3, dask.scheduler_ip()).await;
    let node = dask.new_ip();
    let mut workers = Vec::new();
    for pod in namespace.workers(GROUP).await {
        set_ip(&namespace, &pod, node).await;
        workers.push(dask.start_worker_at(&pod.name_any(), node));
    }
    let mut cluster = Cluster { namespace, operator, _kubelet: kubelet, dask, workers };
    let three = |view: &LinkView| view.sample.as_ref().is_some_and(|sample| sample.workers == 3);
    cluster.wait_for_view("all workers are known", three).await;
    let mut client = cluster.dask.client().await;
    let scatter = "futures = [client.scatter(bytes([i]) * 1000, workers=[w]) \
                   for i, w in enumerate(client.scheduler_info(n_workers=-1)['workers'])]";
    client.run(scatter).await;
    cluster.namespace.scale_group(GROUP, 2).await;
    cluster.namespace.wait_for_ready_workers(GROUP, 2).await;
    let known = "result = sorted(w['name'] for w in client.scheduler_info(n_workers=-1)['workers'].values())";
    let left: Vec<_> = cluster.namespace.workers(GROUP).await.iter().map(ResourceExt::name_any).collect();
    assert_eq!(client.run(known).await, json!(left), "those whose pods are left");
    let gathered = client.run("result = [len(data) for data in client.gather(futures)]").await;
    assert_eq!(gathered, json!([1000, 1000, 1000]));
    let ended =
        cluster.workers.iter_mut().filter_map(|worker| worker.has_ended().then(|| worker.name.clone()));
    let ended: Vec<_> = ended.collect();
    assert!(ended.len() <= 1 && ended.iter().all(|name| !left.contains(name)), "{ended:?}");
}

#[tokio::test]
async fn a_pod_with_the_labels_of_a_scheduler_is_none() {
    let cluster = Cluster::start("links-copy", 1).await;
    let id = cluster.view().sample.as_ref().unwrap().scheduler_id.clone();
    let schedulers = async || cluster.namespace.list::<Pod>("dask.org/component=scheduler").await;
    let real = schedulers().await[0].name_any();
    let mut other = Dask::new().await;
    other.start_scheduler().await;
    let copy = json!({
        "metadata": {"name": "copy", "labels": {
            "dask.org/cluster-name": "c", "dask.org/component": "scheduler",
        }},
        "spec": {"containers": [{"name": "scheduler", "image": "dask:test"}]},
    });
    cluster.namespace.create_object(&serde_json::from_value::<Pod>(copy).unwrap()).await;
    let copy = wait_until_running(&cluster.namespace, "copy").await;
    set_ip(&cluster.namespace, &copy, other.scheduler_ip()).await;
    let taken = cluster.view().sample.as_ref().unwrap().taken;
    holds_for(Duration::from_secs(3), "the real one is asked", async || {
        let view = cluster.view();
        let asked = view.sample.as_ref().is_some_and(|sample| sample.scheduler_id == id);
        check(asked && view.failure.is_none(), || format!("{view:?}"))
    })
    .await;
    assert_eq!(schedulers().await.len(), 2);
    cluster.wait_for_view("it was asked meanwhile", |view| view.sample.as_ref().unwrap().taken > taken).await;
    let status = cluster.namespace.get::<DaskCluster>("c").await.status.unwrap().scheduler.unwrap();
    assert_eq!((status.pod.as_deref(), status.id.as_deref()), (Some(real.as_str()), Some(&*id)));

    // Its copy keeps the labels of the ReplicaSet, too, which therefore adopts it and then has one too many.
    let debug = format!("debug pod/{real} --copy-to=debugged --keep-labels --image=dask:test");
    cluster.namespace.kubectl(&debug, "").await;
    wait_for("only the real one and the stranger are left, and it is asked", async || {
        let mut left: Vec<_> = schedulers().await.iter().map(ResourceExt::name_any).collect();
        left.sort_unstable();
        let mut expected = ["copy".to_owned(), real.clone()];
        expected.sort_unstable();
        check(left == expected, || format!("{left:?}"))?;
        let view = cluster.view();
        let asked = view.sample.as_ref().is_some_and(|sample| sample.scheduler_id == id);
        check(asked && view.failure.is_none(), || format!("{view:?}"))
    })
    .await;
    assert_eq!(cluster.namespace.workers(GROUP).await.len(), 1);
}

#[tokio::test]
async fn a_cluster_made_again_at_once_has_lost_nothing() {
    let mut cluster = Cluster::start("links-again", 1).await;
    let first =
        wait_for("an id", async || scheduler_id(&cluster.namespace).await.ok_or("none".to_owned())).await;
    let clusters = cluster.namespace.api::<DaskCluster>();
    clusters.delete("c", &kube::api::DeleteParams::background()).await.unwrap();
    let made = wait_for("it is made again", async || {
        let made = clusters.create(&kube::api::PostParams::default(), &templates::cluster("c", 1)).await;
        made.map_err(|error| error.to_string())
    })
    .await;
    cluster.dask.start_scheduler().await;
    let second = wait_for("the status names the new scheduler", async || {
        for pod in cluster.namespace.list::<Pod>("dask.org/component=scheduler").await {
            let runs = pod.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Running"));
            if runs {
                // That of the cluster before may be going.
                let _ = try_set_ip(&cluster.namespace, &pod, cluster.dask.scheduler_ip()).await;
            }
        }
        let id = scheduler_id(&cluster.namespace).await.ok_or("none")?;
        check(id != first, || id.clone())?;
        Ok(id)
    })
    .await;
    assert!(second.starts_with("Scheduler-"), "{second}");
    let now = cluster.namespace.get::<DaskCluster>("c").await;
    assert_eq!(now.uid(), made.uid());
    let lost = now.status.unwrap().conditions.into_iter().find(|c| c.type_ == "SchedulerLostState");
    assert!(lost.as_ref().is_none_or(|lost| lost.status != "True"), "{lost:?}");
}

/// The mark of the worker was taken off, or somebody retired it by hand: Dask gives it no task any more.
#[tokio::test]
async fn a_fence_that_is_found_by_a_new_operator_has_its_worker_replaced() {
    let mut cluster = Cluster::start("links-fenced", 2).await;
    let mut client = cluster.dask.client().await;
    client.run(&format!("[future] = client.scatter([b'x' * 1000], workers={})", cluster.address(0))).await;
    cluster.operator.kill();
    let fence = format!(
        "client.sync(client.scheduler.retire_workers, workers={}, close_workers=False, remove=False)",
        cluster.address(0)
    );
    client.run(&fence).await;
    cluster.operator = Operator::launch(launch(&cluster.namespace)).await;
    let name = cluster.workers[0].name.clone();
    wait_for("its pod is gone and another one there", async || {
        let left: Vec<_> = cluster.namespace.workers(GROUP).await.iter().map(ResourceExt::name_any).collect();
        check(left.len() == 2 && !left.contains(&name), || {
            format!("{left:?} of {:?}", view(&cluster.operator, &cluster.namespace))
        })
    })
    .await;
    assert_eq!(client.run("result = len(future.result())").await, json!(1000), "the data moved");
    let events = cluster.namespace.wait_for_event(GROUP, "WorkerReplaced").await;
    assert!(
        events.iter().any(|event| event.note.as_ref().is_some_and(|note| note.contains(&name))),
        "{events:?}"
    );
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
