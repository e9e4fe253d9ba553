use super::*;
use crate::{Executing, Retirement, SchedulerClient, WorkerClient, fake::FakeScheduler};

async fn client(scheduler: &FakeScheduler) -> SchedulerClient {
    SchedulerClient::connect(&scheduler.host_port(), Limits::default(), Deadlines::default()).await.unwrap()
}

#[tokio::test]
async fn worker_joins_beats_and_leaves_when_told() {
    let scheduler = FakeScheduler::start().await.unwrap();
    let mut worker = FakeWorker::join(&scheduler.host_port(), FakeWorkerConfig::named("w1")).await.unwrap();
    worker.with(|worker| worker.executing = 3);
    let mut client = client(&scheduler).await;
    let patience = tokio::time::Instant::now() + Duration::from_secs(30);
    while client.identity(true).await.unwrap().workers[0].executing != 3 {
        assert!(tokio::time::Instant::now() < patience, "no heartbeat");
        sleep(Duration::from_millis(20)).await;
    }
    let addresses = [worker.address().to_owned()];
    client.retire(&addresses, Retirement::Fence).await.unwrap();
    assert!(!worker.is_closed());
    client.retire(&addresses, Retirement::Close).await.unwrap();
    worker.closed().await;
    assert!(worker.is_closed() && scheduler.with(|state| state.workers.is_empty()));
}

#[tokio::test]
async fn worker_answers_for_itself() {
    let scheduler = FakeScheduler::start().await.unwrap();
    let worker = FakeWorker::join(&scheduler.host_port(), FakeWorkerConfig::named("w1")).await.unwrap();
    worker.with(|worker| (worker.executing, worker.long_running) = (2, 1));
    let mut client =
        WorkerClient::connect(worker.address(), Limits::default(), Deadlines::default()).await.unwrap();
    assert_eq!(client.executing().await.unwrap(), Some(Executing { executing: 3, long_running: 1 }));
    assert!(client.is_usable());
    client.close().await;
}

#[tokio::test]
async fn name_is_given_once() {
    let scheduler = FakeScheduler::start().await.unwrap();
    let _first = FakeWorker::join(&scheduler.host_port(), FakeWorkerConfig::named("w1")).await.unwrap();
    let error = FakeWorker::join(&scheduler.host_port(), FakeWorkerConfig::named("w1")).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to call register-worker: name taken, w1");
}

#[tokio::test]
async fn killed_worker_and_restarted_scheduler_are_noticed() {
    let scheduler = FakeScheduler::start().await.unwrap();
    let worker = FakeWorker::join(&scheduler.host_port(), FakeWorkerConfig::named("w1")).await.unwrap();
    let mut other = FakeWorker::join(&scheduler.host_port(), FakeWorkerConfig::named("w2")).await.unwrap();
    drop(worker);
    let patience = tokio::time::Instant::now() + Duration::from_secs(30);
    while scheduler.with(|state| state.workers.len()) != 1 {
        assert!(tokio::time::Instant::now() < patience, "not noticed");
        sleep(Duration::from_millis(5)).await;
    }
    scheduler.restart();
    other.closed().await;
}
