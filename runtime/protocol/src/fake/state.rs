//! What a fake scheduler knows, and what it does when told to retire workers.

use rmpv::Value;

use crate::{WorkerStatus, address};

/// A worker of a fake scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Such as `tcp://10.0.0.1:40331`.
    pub address: String,
    /// Its name; one of digits is sent as a number, as Dask does.
    pub name: String,
    /// What it is about.
    pub status: WorkerStatus,
    /// Threads.
    pub nthreads: u64,
    /// Tasks that occupy a thread.
    pub executing: u64,
    /// Tasks that run on without one.
    pub long_running: u64,
    /// Bytes of results.
    pub stored_bytes: u64,
    /// Results, none of which is anywhere else.
    pub keys: u64,
    /// Actors.
    pub actors: u64,
    /// Whether it takes part in a shuffle, and so is no candidate to be closed.
    pub protected: bool,
    /// Its last heartbeat.
    pub last_seen: f64,
}

impl Worker {
    /// An idle, empty, running one with one thread, named as its host.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            name: address::host(address).to_owned(),
            status: WorkerStatus::Running,
            nthreads: 1,
            executing: 0,
            long_running: 0,
            stored_bytes: 0,
            keys: 0,
            actors: 0,
            protected: false,
            last_seen: 0.0,
        }
    }

    /// Its host.
    pub(super) fn host(&self) -> &str {
        address::host(&self.address)
    }
}

/// Tasks of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// What their keys begin with.
    pub prefix: String,
    /// Mean run time, once one is done.
    pub mean_seconds: Option<f64>,
    /// Wait for room.
    pub queued: u64,
    /// Assigned to workers.
    pub processing: u64,
    /// May run nowhere.
    pub unrunnable: u64,
}

/// A fake scheduler's knowledge. Change it as you like.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Changes with every restart.
    pub id: String,
    /// Its own address.
    pub address: String,
    /// When it started.
    pub started: f64,
    /// The release it pretends to be: before 2025.4.0 `identity` takes no argument, before 2023.3.2 there is no
    /// `check_idle`.
    pub release: [u64; 3],
    /// Whether the operator's module is loaded.
    pub has_module: bool,
    /// Its workers, in the order in which they came.
    pub workers: Vec<Worker>,
    /// Its work.
    pub tasks: Vec<Task>,
    /// What `adaptive_target` says; without it the number of workers.
    pub adaptive_target: Option<u64>,
    /// Since when there is no work; ignored while there is.
    pub idle_since: Option<f64>,
    /// Answers nothing but an empty map to the next retirements.
    pub refuses_to_retire: bool,
    /// What was logged: topic and text.
    pub events: Vec<(String, String)>,
    /// Which operations were called.
    pub calls: Vec<String>,
    /// Addresses of the workers that were told to close.
    pub closed: Vec<String>,
    /// Tasks that have to run again because their worker went while they ran.
    pub rerun: u64,
}

impl State {
    pub(super) fn new(id: String, address: String, started: f64) -> Self {
        Self {
            id,
            address,
            started,
            release: [2026, 8, 0],
            has_module: true,
            workers: Vec::new(),
            tasks: Vec::new(),
            adaptive_target: None,
            idle_since: None,
            refuses_to_retire: false,
            events: Vec::new(),
            calls: Vec::new(),
            closed: Vec::new(),
            rerun: 0,
        }
    }

    /// The worker at an address.
    #[must_use]
    pub fn worker(&self, address: &str) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.address == address)
    }

    /// The worker at an address, to change it.
    pub fn worker_mut(&mut self, address: &str) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.address == address)
    }

    /// Sum over all kinds of tasks.
    pub(super) fn total(&self, of: impl Fn(&Task) -> u64) -> u64 {
        self.tasks.iter().map(of).sum()
    }

    /// Whether anything waits or runs.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let runs = self.workers.iter().any(|worker| worker.executing + worker.long_running > 0);
        runs || self.total(|task| task.queued + task.processing + task.unrunnable) > 0
    }

    /// Retires workers as Dask does: all are fenced first; one that holds an actor, or data for which no running worker
    /// is left, goes back to what it was; tasks that run are not waited for. Returns those that were retired.
    pub fn retire(&mut self, addresses: &[String], close: bool, remove: bool) -> Vec<Worker> {
        let known: Vec<String> =
            addresses.iter().filter(|address| self.worker(address).is_some()).cloned().collect();
        if self.refuses_to_retire {
            return Vec::new();
        }
        let mut before = Vec::new();
        for address in &known {
            if let Some(worker) = self.worker_mut(address) {
                before.push(std::mem::replace(&mut worker.status, WorkerStatus::ClosingGracefully));
            }
        }
        // All are judged before one goes back: two that retire together cannot give their data to each other.
        let movable: Vec<bool> = known.iter().map(|address| self.evacuate(address)).collect();
        let mut retired = Vec::new();
        for ((address, before), moved) in known.iter().zip(before).zip(movable) {
            if moved {
                retired.extend(self.worker(address).cloned());
                if close {
                    self.closed.push(address.clone());
                }
                if remove {
                    self.remove(address);
                }
            } else if let Some(worker) = self.worker_mut(address) {
                worker.status = before;
            }
        }
        retired
    }

    /// Moves the data of a worker to a running one; `false` if that cannot be done.
    fn evacuate(&mut self, address: &str) -> bool {
        let Some(worker) = self.worker(address) else { return false };
        if worker.actors > 0 {
            return false;
        }
        if worker.keys == 0 {
            return true;
        }
        let (keys, bytes) = (worker.keys, worker.stored_bytes);
        let is_running = |worker: &&mut Worker| worker.status == WorkerStatus::Running;
        let Some(recipient) = self.workers.iter_mut().find(is_running) else { return false };
        recipient.keys += keys;
        recipient.stored_bytes += bytes;
        if let Some(worker) = self.worker_mut(address) {
            (worker.keys, worker.stored_bytes) = (0, 0);
        }
        true
    }

    /// Forgets a worker. What it ran has to run again.
    pub fn remove(&mut self, address: &str) {
        if let Some(place) = self.workers.iter().position(|worker| worker.address == address) {
            let worker = self.workers.remove(place);
            self.rerun += worker.executing + worker.long_running;
        }
    }

    /// Which workers can go: not those with long-running tasks or in a shuffle; idle ones first, then those that store
    /// little. With `n`, busy ones too.
    pub(super) fn to_close(&self, n: Option<usize>) -> Vec<&Worker> {
        let mut candidates: Vec<&Worker> =
            self.workers.iter().filter(|worker| worker.long_running == 0 && !worker.protected).collect();
        candidates.sort_by_key(|worker| (worker.executing > 0, worker.stored_bytes));
        match n {
            Some(n) => candidates.truncate(n),
            None => candidates.retain(|worker| worker.executing == 0),
        }
        candidates
    }

    /// Names of digits become numbers on the wire.
    pub(super) fn wire_name(worker: &Worker) -> Value {
        worker.name.parse::<u64>().map_or_else(|_| worker.name.as_str().into(), Value::from)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
