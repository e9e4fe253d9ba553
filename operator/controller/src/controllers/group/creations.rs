//! Creating many objects, more and more at a time, until the first failure: under a quota of 3, a wish for 10,000 pods
//! costs a handful of refused requests.
//!
//! The ReplicaSet controller of Kubernetes does so in batches of 1, 2, 4, … and waits for the slowest of each. Here the
//! next item begins as soon as its turn has come, under the same bound.

use futures::stream::{FuturesUnordered, StreamExt};

/// How far it came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome<E> {
    /// Items that succeeded.
    pub done: usize,
    /// The first failure; nothing was started after it.
    pub failure: Option<E>,
}

/// Runs `work` on all items in their order, at most one more at a time than have succeeded; after a failure nothing is
/// started, and what is under way is waited for.
pub(super) async fn in_growing_numbers<T, E, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Outcome<E>
where
    F: Future<Output = Result<(), E>>,
{
    let mut items = items.into_iter();
    let mut under_way = FuturesUnordered::new();
    let mut outcome = Outcome { done: 0, failure: None };
    loop {
        while outcome.failure.is_none()
            && under_way.len() <= outcome.done
            && let Some(item) = items.next()
        {
            under_way.push(work(item));
        }
        match under_way.next().await {
            None => return outcome,
            Some(Ok(())) => outcome.done += 1,
            Some(Err(error)) => {
                outcome.failure.get_or_insert(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test]
    async fn all_items_in_order_never_more_at_a_time_than_have_succeeded_and_one() {
        let (running, done, started) = (Cell::new(0), Cell::new(0), RefCell::new(Vec::new()));
        let outcome: Outcome<()> = in_growing_numbers((0..100).collect(), |item: i32| {
            let (running, done, started) = (&running, &done, &started);
            async move {
                started.borrow_mut().push(item);
                running.set(running.get() + 1);
                assert!(running.get() <= done.get() + 1, "{} while {} are done", running.get(), done.get());
                tokio::task::yield_now().await;
                running.set(running.get() - 1);
                done.set(done.get() + 1);
                Ok(())
            }
        })
        .await;
        assert_eq!(outcome, Outcome { done: 100, failure: None });
        assert_eq!(started.into_inner(), (0..100).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_slow_holds_up_no_other() {
        let start = Instant::now();
        let ends = RefCell::new(Vec::new());
        let outcome: Outcome<()> = in_growing_numbers((0..64).collect(), async |item: u64| {
            sleep(Duration::from_secs(if item == 1 { 60 } else { 1 })).await;
            ends.borrow_mut().push(start.elapsed().as_secs());
            Ok(())
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
        let outcome = in_growing_numbers((0..10_000).collect(), async |_: i32| {
            requests.set(requests.get() + 1);
            if requests.get() <= 3 { Ok(()) } else { Err("exceeded quota") }
        })
        .await;
        assert_eq!(outcome, Outcome { done: 3, failure: Some("exceeded quota") });
        assert!(requests.get() <= 7, "{} requests", requests.get());
    }

    #[tokio::test]
    async fn nothing_to_do() {
        let outcome: Outcome<()> = in_growing_numbers(vec![], async |(): ()| Ok(())).await;
        assert_eq!(outcome, Outcome { done: 0, failure: None });
    }
}
