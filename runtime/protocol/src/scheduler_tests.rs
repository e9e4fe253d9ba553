use std::time::Duration;

use rstest::rstest;

use super::*;
use crate::{
    Step, WorkerStatus,
    fake::{FakeScheduler, Fault, Task, Worker},
};

const SHORT: Duration = Duration::from_millis(30);

async fn connected() -> (FakeScheduler, SchedulerClient) {
    connected_with(Deadlines::default()).await
}

async fn connected_with(deadlines: Deadlines) -> (FakeScheduler, SchedulerClient) {
    let scheduler = FakeScheduler::start().await.unwrap();
    let client =
        SchedulerClient::connect(&scheduler.host_port(), Limits::default(), deadlines).await.unwrap();
    (scheduler, client)
}

fn address(host: u8) -> String {
    format!("tcp://10.1.0.{host}:4000")
}

#[tokio::test]
async fn identity_is_asked_in_the_way_the_release_understands() {
    for (release, calls) in [([2026, 8, 0], 2), ([2024, 12, 0], 3)] {
        let (scheduler, mut client) = connected().await;
        scheduler.with(|state| {
            state.release = release;
            state.workers =
                vec![Worker { nthreads: 4, ..Worker::new(&address(1)) }, Worker::new(&address(2))];
        });
        for _ in 0..2 {
            let identity = client.identity(false).await.unwrap();
            assert_eq!((identity.worker_count, identity.threads), (Some(2), Some(5)), "{release:?}");
            assert!(identity.workers.is_empty());
        }
        scheduler
            .with(|state| assert_eq!(state.calls.len(), calls, "only once in the wrong way: {release:?}"));
        let identity = client.identity(true).await.unwrap();
        assert_eq!(identity.workers.len(), 2);
        assert_eq!(identity.workers[0].host, "10.1.0.1");
        scheduler.with(|state| assert_eq!((&identity.id, &identity.address), (&state.id, &state.address)));
    }
}

#[tokio::test]
async fn telemetry_is_there_if_the_module_is() {
    let (scheduler, mut client) = connected().await;
    let task =
        Task { prefix: "inc".into(), mean_seconds: Some(0.5), queued: 7, processing: 2, unrunnable: 1 };
    scheduler.with(|state| {
        state.tasks = vec![task];
        state.workers = vec![Worker { actors: 1, long_running: 1, executing: 2, ..Worker::new(&address(1)) }];
    });
    let queue = client.queue().await.unwrap().unwrap();
    assert_eq!((queue.queued, queue.processing, queue.unrunnable), (7, 2, 1));
    assert_eq!((queue.workers, queue.running, queue.saturated, queue.idle_since), (1, 1, 1, None));
    assert_eq!(queue.prefixes[0].mean_seconds, Some(0.5));
    let workers = client.workers().await.unwrap().unwrap();
    assert_eq!((workers[0].actors, workers[0].executing, workers[0].long_running), (Some(1), 3, 1));
    scheduler.with(|state| state.has_module = false);
    assert_eq!(client.queue().await.unwrap(), None);
    assert_eq!(client.workers().await.unwrap(), None);
}

#[rstest]
#[case([2023, 3, 1], Idleness::Unsupported)]
#[case([2022, 12, 0], Idleness::Unsupported)]
#[case([2023, 3, 2], Idleness::Busy)]
#[tokio::test]
async fn nil_means_busy_only_where_idleness_is_known(#[case] release: [u64; 3], #[case] expected: Idleness) {
    let (scheduler, mut client) = connected().await;
    scheduler.with(|state| {
        state.release = release;
        state.workers = vec![Worker { executing: 1, ..Worker::new(&address(1)) }];
    });
    for _ in 0..3 {
        assert_eq!(client.check_idle().await.unwrap(), expected);
    }
    let versions = scheduler.with(|state| state.calls.iter().filter(|op| *op == "versions").count());
    assert_eq!(versions, 1, "asked once and for all");
}

#[tokio::test]
async fn idleness_has_a_beginning() {
    let (scheduler, mut client) = connected().await;
    scheduler.with(|state| state.idle_since = Some(12.5));
    assert_eq!(client.check_idle().await.unwrap(), Idleness::Since(12.5));
    scheduler.with(|state| state.workers = vec![Worker { executing: 1, ..Worker::new(&address(1)) }]);
    assert_eq!(client.check_idle().await.unwrap(), Idleness::Busy);
}

#[tokio::test]
async fn workers_are_drained_in_two_steps() {
    let (scheduler, mut client) = connected().await;
    scheduler.with(|state| {
        state.workers =
            vec![Worker { keys: 2, stored_bytes: 9, ..Worker::new(&address(1)) }, Worker::new(&address(2))];
    });
    assert_eq!(client.adaptive_target().await.unwrap(), 2);
    assert_eq!(client.workers_to_close(5).await.unwrap(), [address(2), address(1)]);
    assert_eq!(client.workers_to_close(0).await.unwrap(), Vec::<String>::new());
    let leaving = [address(1)];
    assert_eq!(client.retire(&leaving, Retirement::Fence).await.unwrap(), leaving);
    let status = scheduler.with(|state| state.worker(&address(1)).unwrap().status);
    assert_eq!(status, WorkerStatus::ClosingGracefully);
    assert_eq!(client.retire(&leaving, Retirement::Close).await.unwrap(), leaving);
    scheduler.with(|state| assert_eq!((state.workers.len(), state.workers[0].keys), (1, 2)));
    assert_eq!(client.retire(&leaving, Retirement::Close).await.unwrap(), Vec::<String>::new(), "gone");
}

#[tokio::test]
async fn retiring_nobody_is_never_sent() {
    let (scheduler, mut client) = connected().await;
    scheduler.with(|state| state.workers = vec![Worker::new(&address(1))]);
    let error = client.retire(&[], Retirement::Close).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to call retire_workers: no workers named");
    scheduler.with(|state| assert_eq!((state.workers.len(), state.calls.len()), (1, 0)));
    assert!(client.is_usable());
}

#[tokio::test]
async fn events_are_logged_under_their_topic() {
    let (scheduler, mut client) = connected().await;
    client.log_event("dask-operator", "draining worker-1").await.unwrap();
    let event = ("dask-operator".to_owned(), "draining worker-1".to_owned());
    scheduler.with(|state| assert_eq!(state.events, [event]));
    client.close().await;
}

#[rstest]
#[case(Fault::Garbage)]
#[case(Fault::Close)]
#[tokio::test]
async fn fault_ends_the_client_but_not_the_next_one(#[case] fault: Fault) {
    let (scheduler, mut client) = connected().await;
    scheduler.inject("adaptive_target", fault.clone(), 1);
    let error = client.adaptive_target().await.unwrap_err();
    let expected = match fault {
        Fault::Garbage => matches!(error, Error::Garbled { .. }),
        _ => matches!(error, Error::Closed { .. }),
    };
    assert!(expected && !client.is_usable(), "{error:?}");
    let (host_port, deadlines) = (scheduler.host_port(), Deadlines::default());
    let mut client = SchedulerClient::connect(&host_port, Limits::default(), deadlines).await.unwrap();
    assert_eq!(client.adaptive_target().await.unwrap(), 0);
}

#[tokio::test]
async fn every_wait_has_its_deadline() {
    let (scheduler, mut client) = connected_with(Deadlines { call: SHORT, ..Deadlines::default() }).await;
    scheduler.inject("identity", Fault::Hang, 1);
    let error = client.identity(true).await.unwrap_err();
    assert!(matches!(&error, Error::Timeout { step: Step::Call(op), .. } if op == "identity"), "{error:?}");

    let (scheduler, mut client) = connected_with(Deadlines { retire: SHORT, ..Deadlines::default() }).await;
    scheduler.inject("retire_workers", Fault::Hang, 1);
    let error = client.retire(&[address(1)], Retirement::Close).await.unwrap_err();
    assert!(error.is_timeout() && !client.is_usable(), "{error:?}");

    scheduler.inject_handshake(Fault::Hang, 1);
    let deadlines = Deadlines { handshake: SHORT, ..Deadlines::default() };
    let error =
        SchedulerClient::connect(&scheduler.host_port(), Limits::default(), deadlines).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { step: Step::Handshake, .. }), "{error:?}");
}

#[tokio::test]
async fn exception_leaves_the_client_usable() {
    let (scheduler, mut client) = connected().await;
    scheduler.inject("workers_to_close", Fault::Raise("KeyError('w')".into()), 1);
    let error = client.workers_to_close(1).await.unwrap_err();
    assert!(error.is_exception("KeyError") && client.is_usable(), "{error:?}");
    assert!(client.workers_to_close(1).await.unwrap().is_empty());
}

#[rstest]
#[case("2023.3.1", Some([2023, 3, 1]))]
#[case("2026.8.0+12.gabcdef", Some([2026, 8, 0]))]
#[case("2024.12", Some([2024, 12, 0]))]
#[case("2024.12.0rc1", Some([2024, 12, 0]))]
#[case("unknown", None)]
fn versions(#[case] text: &str, #[case] expected: Option<[u64; 3]>) {
    assert_eq!(parse_version(text), expected);
}
