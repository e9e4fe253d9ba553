//! Who may call next: a bound on the calls in flight, a part of which is kept for each lane. Urgent calls go first;
//! those who call in bulk take turns.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

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

/// The right to one call. When it is dropped, it goes to the next in line.
#[derive(Debug)]
pub(super) struct Turn {
    line: Arc<Line>,
    lane: Lane,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.line.lock().ended(self.lane);
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
            free: in_flight,
            most_bulk: in_flight.saturating_sub(reserved).max(1),
            least_bulk: reserved.min(in_flight - 1),
            bulk: 0,
            urgent: VecDeque::new(),
            groups: VecDeque::new(),
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
fn group_of(worker: &ObjectKey) -> ObjectKey {
    let group = worker.name.rsplit_once("-worker-").map_or(&*worker.name, |(group, _)| group);
    worker.sibling(group)
}

type Waiting = VecDeque<oneshot::Sender<Turn>>;

#[derive(Debug)]
struct Line(Mutex<State>);

impl Line {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives turns as long as there are any and somebody waits.
    fn call_next(self: &Arc<Self>) {
        loop {
            let Some((lane, next)) = self.lock().next() else { return };
            if next.is_closed() {
                // Whoever waited has given up.
                self.lock().ended(lane);
            } else {
                // If it gives up just now, the turn is dropped, and so goes to the next.
                drop(next.send(Turn { line: self.clone(), lane }));
            }
        }
    }
}

#[derive(Debug)]
struct State {
    /// Calls that may begin.
    free: usize,
    /// Bulk calls under way.
    bulk: usize,
    /// Bulk calls that may be under way at most.
    most_bulk: usize,
    /// Bulk calls that go before urgent ones until so many are under way.
    least_bulk: usize,
    urgent: Waiting,
    /// One call of each group in turn, each group's calls in order.
    groups: VecDeque<(ObjectKey, Waiting)>,
}

impl State {
    fn wait(&mut self, lane: Lane, key: &ObjectKey, give: oneshot::Sender<Turn>) {
        if lane == Lane::Urgent {
            self.urgent.push_back(give);
            return;
        }
        let group = group_of(key);
        match self.groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, waiting)) => waiting.push_back(give),
            None => self.groups.push_back((group, VecDeque::from([give]))),
        }
    }

    /// Takes the next out of the line, with a turn.
    fn next(&mut self) -> Option<(Lane, oneshot::Sender<Turn>)> {
        if self.free == 0 {
            return None;
        }
        let bulk_first = self.bulk < self.least_bulk || self.urgent.is_empty();
        let bulk = if bulk_first && self.bulk < self.most_bulk { self.next_in_bulk() } else { None };
        let next = match bulk {
            Some(next) => (Lane::Bulk, next),
            None => (Lane::Urgent, self.urgent.pop_front()?),
        };
        self.free -= 1;
        self.bulk += usize::from(next.0 == Lane::Bulk);
        Some(next)
    }

    fn next_in_bulk(&mut self) -> Option<oneshot::Sender<Turn>> {
        let (group, mut waiting) = self.groups.pop_front()?;
        let next = waiting.pop_front();
        if !waiting.is_empty() {
            self.groups.push_back((group, waiting));
        }
        next
    }

    fn ended(&mut self, lane: Lane) {
        self.free += 1;
        self.bulk -= usize::from(lane == Lane::Bulk);
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
