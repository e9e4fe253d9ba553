use super::*;
use crate::{Deadlines, Error, Limits, SchedulerClient};

async fn client(scheduler: &FakeScheduler) -> SchedulerClient {
    SchedulerClient::connect(&scheduler.host_port(), Limits::default(), Deadlines::default()).await.unwrap()
}

#[tokio::test]
async fn restart_changes_the_id_and_ends_connections() {
    let scheduler = FakeScheduler::start().await.unwrap();
    let mut before = client(&scheduler).await;
    let first = before.identity(false).await.unwrap();
    scheduler.with(|state| state.has_module = false);
    scheduler.restart();
    let error = before.identity(false).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    let mut after = client(&scheduler).await;
    let second = after.identity(false).await.unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(after.queue().await.unwrap(), None, "settings stay");
}

#[tokio::test]
async fn disconnected_clients_find_the_same_scheduler() {
    let scheduler = FakeScheduler::start().await.unwrap();
    let mut before = client(&scheduler).await;
    let first = before.identity(false).await.unwrap();
    scheduler.disconnect();
    before.identity(false).await.unwrap_err();
    assert_eq!(client(&scheduler).await.identity(false).await.unwrap(), first);
}

#[tokio::test]
async fn faults_end_when_mended_or_used_up() {
    let scheduler = FakeScheduler::start().await.unwrap();
    scheduler.inject("identity", Fault::Raise("KeyError('x')".into()), 2);
    scheduler.inject_handshake(Fault::Close, 9);
    scheduler.mend();
    let mut client = client(&scheduler).await;
    client.identity(false).await.unwrap();
    scheduler.inject("identity", Fault::Raise("KeyError('x')".into()), 1);
    client.identity(false).await.unwrap_err();
    client.identity(false).await.unwrap();
}

#[tokio::test]
async fn dropped_scheduler_accepts_nobody() {
    let scheduler = FakeScheduler::start().await.unwrap();
    let host_port = scheduler.host_port();
    let mut client = client(&scheduler).await;
    drop(scheduler);
    client.identity(false).await.unwrap_err();
    SchedulerClient::connect(&host_port, Limits::default(), Deadlines::default()).await.unwrap_err();
}
