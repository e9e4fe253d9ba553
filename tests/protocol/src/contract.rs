//! What the operator relies on, whichever release it talks to.

use dask_protocol::{
    Deadlines, Idleness, Limits, Retirement, SchedulerClient, WorkerState, WorkerStatus, rmpv::Value,
};

use crate::{cluster::Cluster, wait::until};

/// The whole contract, on a fresh cluster.
///
/// # Panics
/// When it is broken.
pub async fn holds_for(cluster: &mut impl Cluster) {
    let mut client = SchedulerClient::connect(&cluster.host_port(), Limits::default(), Deadlines::default())
        .await
        .unwrap();
    scheduler_knows_itself(&mut client).await;
    questions_that_make_no_sense_are_harmless(&mut client).await;
    module_is_noticed(&mut client, cluster.has_module()).await;
    idleness_is_told(&mut client, cluster).await;
    cheapest_workers_are_first(&mut client, cluster).await;
    drain_loses_nothing(&mut client, cluster).await;
    actors_are_not_moved(&mut client, cluster).await;
    events_are_logged(&mut client, cluster).await;
    client.close().await;
}

async fn scheduler_knows_itself(client: &mut SchedulerClient) {
    let identity = client.identity(false).await.unwrap();
    assert_eq!((identity.worker_count, identity.threads), (Some(3), Some(3)));
    assert!(identity.workers.is_empty() && identity.started.is_some_and(|started| started > 1e9));
    assert!(identity.address.starts_with("tcp://") && !identity.id.is_empty());
    let whole = client.identity(true).await.unwrap();
    assert_eq!((whole.id, whole.started), (identity.id, identity.started));
    let mut workers = whole.workers;
    workers.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<_> = workers.iter().map(|worker| worker.name.as_str()).collect();
    assert_eq!(names, ["w0", "w1", "w2"]);
    for worker in workers {
        let fresh = (worker.status, worker.nthreads, worker.executing, worker.long_running);
        assert_eq!(fresh, (WorkerStatus::Running, 1, 0, 0), "{worker:?}");
        assert!(worker.address.starts_with("tcp://") && worker.address.contains(&worker.host), "{worker:?}");
        assert!(worker.last_seen.is_some(), "{worker:?}");
    }
}

async fn questions_that_make_no_sense_are_harmless(client: &mut SchedulerClient) {
    assert_eq!(client.call("no_such_operation", vec![]).await.unwrap(), Value::Nil);
    let both = vec![("workers", Value::Array(vec!["a".into()])), ("names", Value::Array(vec!["b".into()]))];
    let error = client.call("retire_workers", both).await.unwrap_err();
    assert!(error.is_exception("TypeError"), "{error:?}");
    client.retire(&[], Retirement::Close).await.unwrap_err();
    let unknown = client.retire(&["tcp://127.0.0.1:1".to_owned()], Retirement::Close).await.unwrap();
    assert!(unknown.is_empty() && client.is_usable());
}

async fn module_is_noticed(client: &mut SchedulerClient, loaded: bool) {
    let queue = client.queue().await.unwrap();
    let workers = client.workers().await.unwrap();
    assert_eq!((queue.is_some(), workers.is_some()), (loaded, loaded));
    if let (Some(queue), Some(workers)) = (queue, workers) {
        let identity = client.identity(false).await.unwrap();
        assert_eq!((queue.id, queue.started), (identity.id, identity.started));
        assert_eq!((queue.workers, queue.running, queue.threads), (3, 3, 3));
        assert_eq!((queue.queued, queue.unrunnable, queue.processing), (0, 0, 0));
        assert!(queue.prefixes.is_empty());
        assert_eq!(workers.len(), 3);
        for worker in workers {
            assert_eq!((worker.executing, worker.keys, worker.actors), (0, Some(0), Some(0)), "{worker:?}");
        }
    }
}

async fn idleness_is_told(client: &mut SchedulerClient, cluster: &mut impl Cluster) {
    if cluster.release() < [2023, 3, 2] {
        assert_eq!(client.check_idle().await.unwrap(), Idleness::Unsupported);
        return;
    }
    let idle = |idleness: &Idleness| matches!(idleness, Idleness::Since(since) if *since > 1e9);
    until("it is idle", async || client.check_idle().await.unwrap(), idle).await;
}

async fn worker(client: &mut SchedulerClient, name: &str) -> Option<WorkerState> {
    client.identity(true).await.unwrap().workers.into_iter().find(|worker| worker.name == name)
}

async fn cheapest_workers_are_first(client: &mut SchedulerClient, cluster: &mut impl Cluster) {
    cluster.store("w0", 2).await;
    cluster.occupy("w1").await;
    let stores =
        |worker: &Option<WorkerState>| worker.as_ref().is_some_and(|worker| worker.stored_bytes >= 2000);
    let full = until("results are reported", async || worker(client, "w0").await, stores).await;
    assert_eq!(full.unwrap().keys, Some(2));
    let runs = |worker: &Option<WorkerState>| worker.as_ref().is_some_and(|worker| worker.executing == 1);
    until("the task is reported", async || worker(client, "w1").await, runs).await;
    if cluster.release() >= [2023, 3, 2] {
        assert_eq!(client.check_idle().await.unwrap(), Idleness::Busy);
    }
    assert!(client.adaptive_target().await.unwrap() >= 1);
    let mut expected = Vec::new();
    for name in ["w2", "w0", "w1"] {
        expected.push(worker(client, name).await.unwrap().address);
    }
    assert_eq!(client.workers_to_close(3).await.unwrap(), expected);
    assert_eq!(client.workers_to_close(1).await.unwrap(), expected[..1]);
}

async fn drain_loses_nothing(client: &mut SchedulerClient, cluster: &mut impl Cluster) {
    // One that holds results, one that is at work; w2 takes everything.
    let mut leaving = Vec::new();
    for name in ["w0", "w1"] {
        leaving.push(worker(client, name).await.unwrap().address);
    }
    let mut fenced = client.retire(&leaving, Retirement::Fence).await.unwrap();
    fenced.sort();
    leaving.sort();
    assert_eq!(fenced, leaving);
    for name in ["w0", "w1"] {
        let status = worker(client, name).await.unwrap().status;
        assert_eq!(status, WorkerStatus::ClosingGracefully, "{name}");
    }
    cluster.free().await;
    let rests = |worker: &Option<WorkerState>| worker.as_ref().is_some_and(|worker| worker.executing == 0);
    until("the task is done", async || worker(client, "w1").await, rests).await;
    let mut closed = client.retire(&leaving, Retirement::Close).await.unwrap();
    closed.sort();
    assert_eq!(closed, leaving);
    let identity = client.identity(true).await.unwrap();
    let left: Vec<_> = identity.workers.iter().map(|worker| worker.name.as_str()).collect();
    assert_eq!(left, ["w2"]);
    assert_eq!(cluster.repeated().await, 0, "tasks that ran again");
}

async fn actors_are_not_moved(client: &mut SchedulerClient, cluster: &mut impl Cluster) {
    cluster.settle("w2").await;
    let address = worker(client, "w2").await.unwrap().address;
    for how in [Retirement::Fence, Retirement::Close] {
        let refused = client.retire(std::slice::from_ref(&address), how).await.unwrap();
        assert!(refused.is_empty(), "{how:?}: {refused:?}");
        // By way of the worker; whoever asks again before that makes it stay fenced for good.
        let running = |worker: &Option<WorkerState>| {
            worker.as_ref().is_some_and(|worker| worker.status == WorkerStatus::Running)
        };
        until("it runs as before", async || worker(client, "w2").await, running).await;
    }
}

async fn events_are_logged(client: &mut SchedulerClient, cluster: &mut impl Cluster) {
    client.log_event("dask-operator", "draining w0").await.unwrap();
    let logged = |texts: &Vec<String>| texts.iter().any(|text| text == "draining w0");
    until("the event is there", async || cluster.logged("dask-operator").await, logged).await;
}
