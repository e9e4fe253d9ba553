//! Compute, look, connect again.

use std::collections::BTreeMap;

use serde::Deserialize;

pub(super) const SCRIPT: &str = include_str!("../../../python/kubecluster/life.py");

#[derive(Debug, Deserialize)]
pub(super) struct Life {
    total: u64,
    connected: Vec<String>,
    logs: BTreeMap<String, usize>,
    pub(super) discovered: Vec<String>,
    again: Vec<String>,
    seen: Seen,
    survived: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Seen {
    image: String,
    workers: u32,
    dashboard: String,
}

impl Life {
    /// What holds wherever the script ran.
    pub(super) fn check(&self, cluster: &str) {
        assert_eq!(self.total, (0..100).map(|x| x * x).sum::<u64>());
        assert_eq!(self.connected.len(), 2, "{self:?}");
        assert_eq!(self.connected, self.again, "another handle sees the same workers");
        assert_eq!(self.connected, self.survived, "a handle by name does not end the cluster");
        assert_eq!((self.seen.image.as_str(), self.seen.workers), (testbed::images::DASK, 2));
        assert!(self.seen.dashboard.ends_with("/status"), "{self:?}");
        let scheduler = self.logs.keys().filter(|pod| pod.starts_with(&format!("{cluster}-scheduler-")));
        assert_eq!(scheduler.count(), 1, "{:?}", self.logs);
        for pod in &self.connected {
            assert!(pod.starts_with(&format!("{cluster}-default-worker-")), "{self:?}");
            assert!(self.logs.get(pod).is_some_and(|characters| *characters > 50), "{pod}: {:?}", self.logs);
        }
    }
}
