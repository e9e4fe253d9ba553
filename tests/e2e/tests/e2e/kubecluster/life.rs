//! Create, compute, look, connect again, close.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::inside;

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
    left: bool,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Seen {
    image: String,
    workers: u32,
}

impl Life {
    /// What holds wherever the script ran.
    pub(super) fn check(&self, cluster: &str) {
        assert_eq!(self.total, (0..100).map(|x| x * x).sum::<u64>());
        assert_eq!(self.connected.len(), 2, "{self:?}");
        assert_eq!(self.connected, self.again, "another handle sees the same workers");
        assert_eq!(self.connected, self.survived, "a handle by name does not end the cluster");
        assert_eq!(self.seen, Seen { image: testbed::images::DASK.to_owned(), workers: 2 });
        assert!(!self.left, "close() returned before the cluster was gone");
        let scheduler = self.logs.keys().filter(|pod| pod.starts_with(&format!("{cluster}-scheduler-")));
        assert_eq!(scheduler.count(), 1, "{:?}", self.logs);
        for pod in &self.connected {
            assert!(self.logs.get(pod).is_some_and(|characters| *characters > 50), "{pod}: {:?}", self.logs);
        }
    }
}

#[tokio::test]
async fn a_notebook_in_a_pod_needs_no_more_rights_than_documented() {
    inside("life", SCRIPT, async |scenario, life: Life| {
        life.check("life");
        // It may not list the clusters of all namespaces, which discover() hides.
        assert!(life.discovered.is_empty(), "{life:?}");
        let left = scenario.kubectl("get daskclusters --output name").run().await.unwrap();
        assert_eq!(left, "");
    })
    .await;
}
