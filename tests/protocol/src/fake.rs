//! The fake scheduler as a cluster.

use std::collections::BTreeSet;

use dask_protocol::fake::{FakeScheduler, State, Worker};

use crate::cluster::Cluster;

/// A fake scheduler with three workers.
#[derive(Debug)]
pub struct FakeCluster {
    scheduler: FakeScheduler,
    busy: BTreeSet<String>,
}

impl FakeCluster {
    /// Starts one that pretends to be this release.
    ///
    /// # Panics
    /// When it can have no port.
    pub async fn start(release: [u64; 3], has_module: bool) -> Self {
        let scheduler = FakeScheduler::start().await.unwrap();
        scheduler.with(|state| {
            (state.release, state.has_module) = (release, has_module);
            let worker = |number| Worker {
                name: format!("w{number}"),
                ..Worker::new(&format!("tcp://10.1.0.{number}:4000"))
            };
            state.workers = (0..3).map(worker).collect();
        });
        Self { scheduler, busy: BTreeSet::new() }
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Worker)) {
        let worker = |state: &mut State| {
            let worker = state.workers.iter_mut().find(|worker| worker.name == name);
            change(worker.unwrap());
        };
        self.scheduler.with(worker);
    }
}

impl Cluster for FakeCluster {
    fn host_port(&self) -> String {
        self.scheduler.host_port()
    }

    fn release(&self) -> [u64; 3] {
        self.scheduler.with(|state| state.release)
    }

    fn has_module(&self) -> bool {
        self.scheduler.with(|state| state.has_module)
    }

    async fn store(&mut self, worker: &str, keys: u64) {
        self.change(worker, |worker| (worker.keys, worker.stored_bytes) = (keys, 1000 * keys));
    }

    async fn occupy(&mut self, worker: &str) {
        self.change(worker, |worker| worker.executing = 1);
        self.busy.insert(worker.to_owned());
    }

    async fn free(&mut self) {
        for worker in std::mem::take(&mut self.busy) {
            self.change(&worker, |worker| {
                worker.executing = 0;
                worker.keys += 1;
            });
        }
    }

    async fn settle(&mut self, worker: &str) {
        self.change(worker, |worker| worker.actors = 1);
    }

    async fn logged(&mut self, topic: &str) -> Vec<String> {
        let of_topic = |state: &mut State| {
            let events = state.events.iter().filter(|(of, _)| of == topic);
            events.map(|(_, text)| text.clone()).collect()
        };
        self.scheduler.with(of_topic)
    }

    async fn repeated(&mut self) -> u64 {
        self.scheduler.with(|state| state.rerun)
    }
}
