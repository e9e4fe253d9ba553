//! Fake workers, which must pass for real ones.

use std::time::Duration;

use dask_protocol::{
    Deadlines, Limits, Retirement, SchedulerClient, WorkerStatus,
    fake::{FakeScheduler, FakeWorker, FakeWorkerConfig},
};
use protocol_tests::{cluster::Cluster, lab::Lab, wait::until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

async fn client(host_port: &str) -> SchedulerClient {
    SchedulerClient::connect(host_port, Limits::default(), Deadlines::default()).await.unwrap()
}

/// Workers that nobody listens for, one after the other, as a thousand at once would have to wait for each other.
async fn join(host_port: &str, count: usize) -> Vec<FakeWorker> {
    let mut workers = Vec::new();
    for number in 0..count {
        let address = format!("tcp://10.{}.{}.{}:4000", number / 65536, number / 256 % 256, number % 256);
        let config =
            FakeWorkerConfig { address: Some(address), ..FakeWorkerConfig::named(&format!("fake-{number}")) };
        workers.push(FakeWorker::join(host_port, config).await.unwrap());
    }
    workers
}

#[tokio::test(flavor = "multi_thread")]
async fn fake_workers_live_and_die_with_a_real_scheduler() {
    let lab = Lab::start("2026.8.0", 0, &[]).await;
    let mut workers = join(&lab.host_port(), 100).await;
    let mut client = client(&lab.host_port()).await;
    assert_eq!(client.identity(false).await.unwrap().worker_count, Some(100));
    workers[0].with(|worker| (worker.executing, worker.long_running) = (1, 1));
    let seen = until(
        "its heartbeat is told",
        async || {
            client
                .identity(true)
                .await
                .unwrap()
                .workers
                .into_iter()
                .find(|worker| worker.name == "fake-0")
                .unwrap()
        },
        |worker| worker.executing == 2,
    );
    assert_eq!(seen.await.long_running, 1);
    let addresses = [workers[1].address().to_owned()];
    assert_eq!(client.retire(&addresses, Retirement::Fence).await.unwrap(), addresses);
    let status = async || workers[1].with(|worker| worker.status);
    until("it knows that it is fenced", status, |status| *status == WorkerStatus::ClosingGracefully).await;
    assert_eq!(client.retire(&addresses, Retirement::Close).await.unwrap(), addresses);
    workers[1].closed().await;
    drop(workers.pop());
    let count = async || client.identity(false).await.unwrap().worker_count;
    until("the killed one is missed", count, |count| *count == Some(98)).await;
    drop(lab);
    workers[2].closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_fake_workers_fit_into_one_process() {
    // Two connections for each, with both ends in this process.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let scheduler = FakeScheduler::start().await.unwrap();
    let workers = join(&scheduler.host_port(), 1000).await;
    let mut client = client(&scheduler.host_port()).await;
    let identity = client.identity(true).await.unwrap();
    assert_eq!((identity.workers.len(), identity.threads), (1000, Some(1000)));
    let ranking = client.workers_to_close(1000).await.unwrap();
    let leaving = &ranking[..500];
    assert_eq!(client.retire(leaving, Retirement::Close).await.unwrap().len(), 500);
    let closed = async || workers.iter().filter(|worker| worker.is_closed()).count();
    until("half of them are closed", closed, |closed| *closed == 500).await;
    assert_eq!(client.identity(false).await.unwrap().worker_count, Some(500));
    let silent =
        scheduler.with(|state| state.workers.iter().filter(|worker| worker.last_seen == 0.0).count());
    assert_eq!(silent, 0);
    tokio::time::timeout(Duration::from_mins(1), client.close()).await.unwrap();
}
