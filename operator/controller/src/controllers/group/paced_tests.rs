use std::cell::{Cell, RefCell};

use dask_operator_api::Reason;
use tokio::time::sleep;

use super::*;
use crate::cluster_cache::ObjectKey;
use crate::writer::{Refusal, Target};

const LONG: Duration = Duration::from_hours(1);

fn creations(most: usize) -> Pace {
    Pace::of_creations(0, most, LONG)
}

fn refused() -> WriteError {
    let target = Target { verb: "create", kind: "Pod".into(), key: ObjectKey::new("ns", "w") };
    let refusal = Refusal { reason: Reason::QuotaExceeded, message: "no room".to_owned() };
    WriteError::Refused { target, refusal }
}

fn conflict() -> WriteError {
    let target = Target { verb: "patch", kind: "Pod".into(), key: ObjectKey::new("ns", "w") };
    WriteError::Conflict { target }
}

#[tokio::test]
async fn all_items_in_order_never_more_at_a_time_than_have_succeeded_and_one() {
    let (running, done, started) = (Cell::new(0), Cell::new(0), RefCell::new(Vec::new()));
    let outcome = paced(0..100, creations(32), |item: i32| {
        let (running, done, started) = (&running, &done, &started);
        async move {
            started.borrow_mut().push(item);
            running.set(running.get() + 1);
            assert!(running.get() <= done.get() + 1, "{} while {} are done", running.get(), done.get());
            assert!(running.get() <= 32, "{} bodies at a time", running.get());
            tokio::task::yield_now().await;
            running.set(running.get() - 1);
            done.set(done.get() + 1);
            Ok(Written::Done)
        }
    })
    .await;
    assert_eq!((outcome.done, outcome.left, outcome.changed), (100, false, false));
    assert_eq!(started.into_inner(), (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_slow_holds_up_no_other() {
    let start = Instant::now();
    let ends = RefCell::new(Vec::new());
    let outcome = paced(0..64, creations(64), async |item: u64| {
        sleep(Duration::from_secs(if item == 1 { 60 } else { 1 })).await;
        ends.borrow_mut().push(start.elapsed().as_secs());
        Ok(Written::Done)
    })
    .await;
    assert_eq!(outcome.done, 64);
    let ends = ends.into_inner();
    // Beside the slow one, which began after a second: 1, 2, 4, 8, 16, 31.
    assert_eq!(ends[ends.len() - 2..], [7, 61]);
}

#[tokio::test]
async fn a_quota_costs_few_requests() {
    let requests = Cell::new(0);
    let outcome = paced(0..10_000, creations(32), async |_: i32| {
        requests.set(requests.get() + 1);
        if requests.get() <= 3 { Ok(Written::Done) } else { Err(refused()) }
    })
    .await;
    assert_eq!((outcome.done, outcome.failure.is_none()), (3, true));
    assert_eq!(outcome.refused, Some(Obstacle::new(Reason::QuotaExceeded, "no room")));
    assert!(requests.get() <= 7, "{} requests", requests.get());
}

#[tokio::test(start_paused = true)]
async fn it_gives_way_when_its_time_is_over_and_goes_on_as_fast_as_before() {
    let most_at_once = Cell::new(0);
    let run = async |pace: Pace| {
        let running = Cell::new(0);
        most_at_once.set(0);
        paced(0.., pace, async |_: usize| {
            running.set(running.get() + 1);
            most_at_once.set(most_at_once.get().max(running.get()));
            sleep(Duration::from_millis(100)).await;
            running.set(running.get() - 1);
            Ok(Written::Done)
        })
        .await
    };
    let first = run(Pace::of_creations(0, 32, LONGEST)).await;
    // 1, 2, 4, 8, 16, and then 32 in each of the other five tenths of a second.
    assert_eq!((first.done, first.left), (31 + 5 * 32, true));
    let second = run(Pace::of_creations(first.done, 32, LONGEST)).await;
    assert_eq!((second.done, most_at_once.get()), (320, 32));
}

#[tokio::test]
async fn nothing_begins_after_a_write_that_is_not_wanted_any_more() {
    let started = Cell::new(0);
    let outcome = paced(0..10_000, Pace::of_creations(1_000, 4, LONG), async |item: i32| {
        started.set(started.get() + 1);
        tokio::task::yield_now().await;
        Ok(if item < 10 { Written::Done } else { Written::CalledOff })
    })
    .await;
    assert_eq!((outcome.done, outcome.changed, outcome.left), (10, true, false));
    assert!(started.get() <= 14, "{} began", started.get());
}

#[tokio::test]
async fn one_worker_holds_up_no_other_and_a_policy_against_all_costs_few_requests() {
    let outcome = paced(0..100, Pace::of_workers(32), async |item: i32| match item {
        7 => Err(refused()),
        8 => Err(conflict()),
        9 => Ok(Written::Changed),
        _ => Ok(Written::Done),
    })
    .await;
    assert_eq!((outcome.done, outcome.changed), (97, true));
    assert!(outcome.refused.is_some() && matches!(outcome.failure, Some(WriteError::Conflict { .. })));

    let requests = Cell::new(0);
    paced(0..10_000, Pace::of_workers(32), async |_: i32| {
        requests.set(requests.get() + 1);
        tokio::task::yield_now().await;
        Err(refused())
    })
    .await;
    assert!(requests.get() < 32 + MOST_FAILURES, "{} requests", requests.get());
}

#[tokio::test]
async fn nothing_to_do() {
    let outcome = paced(Vec::<()>::new(), creations(32), async |()| Ok(Written::Done)).await;
    assert_eq!((outcome.done, outcome.left, outcome.changed), (0, false, false));
}
