//! Who may call next: a bound on the calls in flight, a part of which is kept for each lane. Urgent calls go first;
//! namespaces take turns in each lane, and none takes all the places there are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::cluster_cache::ObjectKey;
use crate::fair::{Namespace, Rotation, Shares};

/// Which calls a call competes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Few calls for which somebody waits: schedulers, groups, statuses.
    Urgent,
    /// Many calls of one kind: worker pods. The worker groups of a namespace take turns, so that a group of thousands
    /// does not hold up the small ones.
    Bulk,
}

/// The right to one call. When it is dropped, it goes to the next in line.
#[derive(Debug)]
pub(super) struct Turn {
    line: Arc<Line>,
    lane: Lane,
    namespace: Namespace,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.line.lock().ended(self.lane, &self.namespace);
        self.line.call_next();
    }
}

#[derive(Debug)]
pub(super) struct Lanes {
    line: Arc<Line>,
}

impl Lanes {
    /// `in_flight` calls at a time, of which each lane leaves `reserved` to the other as long as there is somebody to
    /// take them; urgent calls use those of bulk calls while nobody waits for them. Each lane has at least one.
    pub(super) fn new(in_flight: usize, reserved: usize) -> Self {
        let in_flight = in_flight.max(1);
        let state = State {
            calls: Shares::of(in_flight),
            bulk_calls: Shares::of(in_flight.saturating_sub(reserved).max(1)),
            least_bulk: reserved.min(in_flight - 1),
            urgent: Rotation::default(),
            bulk: Rotation::default(),
        };
        Self { line: Arc::new(Line(Mutex::new(state))) }
    }

    /// Waits for a turn to call for the object with this key.
    pub(super) async fn enter(&self, lane: Lane, key: &ObjectKey) -> Turn {
        loop {
            let (give, take) = oneshot::channel();
            self.line.lock().wait(lane, key, give);
            self.line.call_next();
            // Nobody who waits is dropped from the line but by a turn.
            if let Ok(turn) = take.await {
                return turn;
            }
        }
    }
}

/// The group of a worker, from its name `<group>-worker-<hash>`.
fn group_of(worker: &ObjectKey) -> Arc<str> {
    worker.name.rsplit_once("-worker-").map_or_else(|| worker.name.clone(), |(group, _)| group.into())
}

#[derive(Debug)]
struct Waiting {
    namespace: Namespace,
    give: oneshot::Sender<Turn>,
}

#[derive(Debug)]
struct Line(Mutex<State>);

impl Line {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives turns as long as there are any and somebody waits.
    fn call_next(self: &Arc<Self>) {
        loop {
            let Some((lane, Waiting { namespace, give })) = self.lock().next() else { return };
            if give.is_closed() {
                // Whoever waited has given up.
                self.lock().ended(lane, &namespace);
            } else {
                // If it gives up just now, the turn is dropped, and so goes to the next.
                drop(give.send(Turn { line: self.clone(), lane, namespace }));
            }
        }
    }
}

#[derive(Debug)]
struct State {
    /// All calls under way.
    calls: Shares,
    /// Those of them that are in bulk.
    bulk_calls: Shares,
    /// Bulk calls that go before urgent ones until so many are under way.
    least_bulk: usize,
    /// By namespace.
    urgent: Rotation<Namespace, VecDeque<Waiting>>,
    /// By namespace, and in each by group.
    bulk: Rotation<Namespace, Rotation<Arc<str>, VecDeque<Waiting>>>,
}

impl State {
    fn wait(&mut self, lane: Lane, key: &ObjectKey, give: oneshot::Sender<Turn>) {
        let waiting = Waiting { namespace: key.namespace.clone(), give };
        match lane {
            Lane::Urgent => self.urgent.queue(&key.namespace).push_back(waiting),
            Lane::Bulk => self.bulk.queue(&key.namespace).queue(&group_of(key)).push_back(waiting),
        }
    }

    /// Takes the next out of the line, with a turn.
    fn next(&mut self) -> Option<(Lane, Waiting)> {
        let (lane, waiting) = if self.bulk_calls.taken() < self.least_bulk {
            self.next_in_bulk().or_else(|| self.next_urgent())?
        } else {
            self.next_urgent().or_else(|| self.next_in_bulk())?
        };
        self.calls.take(&waiting.namespace);
        if lane == Lane::Bulk {
            self.bulk_calls.take(&waiting.namespace);
        }
        Some((lane, waiting))
    }

    fn next_urgent(&mut self) -> Option<(Lane, Waiting)> {
        let waiting = self.urgent.take(|namespace| self.calls.may_take(namespace))?;
        Some((Lane::Urgent, waiting))
    }

    fn next_in_bulk(&mut self) -> Option<(Lane, Waiting)> {
        let may =
            |namespace: &Namespace| self.bulk_calls.may_take(namespace) && self.calls.may_take(namespace);
        Some((Lane::Bulk, self.bulk.take(may)?))
    }

    fn ended(&mut self, lane: Lane, namespace: &Namespace) {
        self.calls.give_back(namespace);
        if lane == Lane::Bulk {
            self.bulk_calls.give_back(namespace);
        }
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
