//! Creating many objects in exponential batches that stop at the first failure, as the ReplicaSet controller of
//! Kubernetes does: under a quota of 3, a wish for 10,000 pods costs a handful of refused requests.

use futures::future::join_all;

/// How far a run of batches came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BatchOutcome<E> {
    /// Items that succeeded.
    pub done: usize,
    /// The first failure; no batch was started after it.
    pub failure: Option<E>,
}

/// Runs `work` on all items in batches of 1, 2, 4, … at a time; after a batch with a failure it stops.
pub(super) async fn in_batches<T, E, F>(items: Vec<T>, work: impl Fn(T) -> F) -> BatchOutcome<E>
where
    F: Future<Output = Result<(), E>>,
{
    let mut items = items.into_iter();
    let mut outcome = BatchOutcome { done: 0, failure: None };
    let mut size = 1;
    while outcome.failure.is_none() {
        let batch: Vec<F> = items.by_ref().take(size).map(&work).collect();
        if batch.is_empty() {
            break;
        }
        for result in join_all(batch).await {
            match result {
                Ok(()) => outcome.done += 1,
                Err(error) => {
                    outcome.failure.get_or_insert(error);
                }
            }
        }
        size *= 2;
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn all_items_in_doubling_batches() {
        let (running, peaks) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let outcome: BatchOutcome<()> = in_batches((0..20).collect(), |_: i32| async {
            let now = running.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::task::yield_now().await;
            peaks.lock().unwrap().push(now);
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
        .await;
        assert_eq!(outcome, BatchOutcome { done: 20, failure: None });
        assert_eq!(peaks.lock().unwrap().iter().max(), Some(&8), "1 + 2 + 4 + 8 + 5 items");
    }

    #[tokio::test]
    async fn a_quota_costs_few_requests() {
        let requests = AtomicUsize::new(0);
        let outcome = in_batches((0..10_000).collect(), |_: i32| async {
            if requests.fetch_add(1, Ordering::SeqCst) < 3 { Ok(()) } else { Err("exceeded quota") }
        })
        .await;
        assert_eq!(outcome, BatchOutcome { done: 3, failure: Some("exceeded quota") });
        assert_eq!(requests.into_inner(), 7, "1 + 2 + 4");
    }

    #[tokio::test]
    async fn nothing_to_do() {
        let outcome: BatchOutcome<()> = in_batches(vec![], |(): ()| async { Ok(()) }).await;
        assert_eq!(outcome, BatchOutcome { done: 0, failure: None });
    }
}
