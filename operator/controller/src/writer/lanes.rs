//! Who may call next: a bound on the calls in flight, part of which worker pods in bulk may not take, and turns
//! among those who call in bulk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::cluster_cache::ObjectKey;

/// Which calls a call competes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Few calls for which somebody waits: schedulers, groups, statuses.
    Urgent,
    /// Many calls of one kind: worker pods. Worker groups take turns, so that a group of thousands does not hold
    /// up the small ones.
    Bulk,
}

/// The right to call. Dropped when the call is over.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _any: Option<SemaphorePermit<'a>>,
    _bulk: Option<BulkTurn>,
}

#[derive(Debug)]
pub(super) struct Lanes {
    any: Semaphore,
    bulk: Arc<TurnQueue>,
}

impl Lanes {
    /// `in_flight` calls at a time, of which bulk calls leave `reserved` free. Each lane has at least one.
    pub(super) fn new(in_flight: usize, reserved: usize) -> Self {
        let bulk = in_flight.saturating_sub(reserved).max(1);
        Self { any: Semaphore::new(in_flight.max(1)), bulk: Arc::new(TurnQueue::new(bulk)) }
    }

    /// Waits for a turn to call for the object with this key.
    pub(super) async fn enter(&self, lane: Lane, key: &ObjectKey) -> Turn<'_> {
        let bulk = match lane {
            Lane::Bulk => Some(self.bulk.enter(group_of(key)).await),
            Lane::Urgent => None,
        };
        // The semaphore is never closed, so there is always a permit to wait for.
        Turn { _any: self.any.acquire().await.ok(), _bulk: bulk }
    }
}

/// The group of a worker, from its name `<group>-worker-<hash>`.
fn group_of(worker: &ObjectKey) -> ObjectKey {
    let group = worker.name.rsplit_once("-worker-").map_or(&*worker.name, |(group, _)| group);
    worker.sibling(group)
}

/// A counted permit for which groups queue: one call of each group in turn, each group's calls in order.
#[derive(Debug)]
struct TurnQueue {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    groups: VecDeque<(ObjectKey, VecDeque<oneshot::Sender<BulkTurn>>)>,
}

impl TurnQueue {
    fn new(free: usize) -> Self {
        Self { state: Mutex::new(State { free, groups: VecDeque::new() }) }
    }

    async fn enter(self: &Arc<Self>, group: ObjectKey) -> BulkTurn {
        let turn = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free > 0 {
                state.free -= 1;
                return BulkTurn { queue: Some(self.clone()) };
            }
            let (give, take) = oneshot::channel();
            match state.groups.iter_mut().find(|(known, _)| *known == group) {
                Some((_, waiting)) => waiting.push_back(give),
                None => state.groups.push_back((group, VecDeque::from([give]))),
            }
            take
        };
        // The queue drops no one who waits, so there is always a turn to come.
        turn.await.unwrap_or(BulkTurn { queue: None })
    }

    /// Gives a turn that has ended to the next in line.
    fn pass_on(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                let Some((group, mut waiting)) = state.groups.pop_front() else {
                    state.free += 1;
                    return;
                };
                let next = waiting.pop_front();
                if !waiting.is_empty() {
                    state.groups.push_back((group, waiting));
                }
                next
            };
            let turn = BulkTurn { queue: Some(self.clone()) };
            match next.map(|next| next.send(turn)) {
                Some(Ok(())) => return,
                // Whoever waited has given up.
                Some(Err(mut turn)) => turn.queue = None,
                None => {}
            }
        }
    }
}

/// The right to one bulk call; handed on when it is dropped, also on its way to a waiter that has given up.
#[derive(Debug)]
struct BulkTurn {
    queue: Option<Arc<TurnQueue>>,
}

impl Drop for BulkTurn {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.pass_on();
        }
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
