//! The workers of a scheduler, as its identity or the operator's own module tells them.

use rmpv::Value;

use crate::{
    address,
    value::{at, count, entries, field, list, number, text},
};

/// What a worker is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkerStatus {
    /// Gets and runs tasks.
    Running,
    /// Over its memory: runs what it has, gets nothing.
    Paused,
    /// Being retired: gives its data away, gets nothing.
    ClosingGracefully,
    /// Going or gone.
    Closing,
    /// Starting, or a word that this client does not know.
    Other,
}

impl WorkerStatus {
    /// From Dask's word. Schedulers up to 2022.1 say nothing; they list live workers only.
    fn of(word: Option<&str>) -> Self {
        match word {
            None | Some("running") => Self::Running,
            Some("paused") => Self::Paused,
            Some("closing_gracefully") => Self::ClosingGracefully,
            Some("closing" | "closed" | "failed" | "stopping" | "stopped") => Self::Closing,
            Some(_) => Self::Other,
        }
    }
}

/// One worker. From a heartbeat, and so up to a few seconds old, unless the operator's module told it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerState {
    /// Where it listens, such as `tcp://10.0.0.1:40331`; its identity among the workers.
    pub address: String,
    /// Its name; numbers are turned into text.
    pub name: String,
    /// The host of its address.
    pub host: String,
    /// What it is about.
    pub status: WorkerStatus,
    /// Threads that run tasks.
    pub nthreads: u64,
    /// Tasks that run now, long-running ones included.
    pub executing: u64,
    /// Tasks among them that gave their thread back and do not count as work.
    pub long_running: u64,
    /// Tasks that the scheduler gave it and that are not done, running or not. Unlike `executing`, which is as old as
    /// the last heartbeat, this is true when the scheduler answers; only the operator's module tells it.
    pub processing: Option<u64>,
    /// Bytes of results it holds, in memory and on disk.
    pub stored_bytes: u64,
    /// Results it holds.
    pub keys: Option<u64>,
    /// Actors it holds, which cannot be moved.
    pub actors: Option<u64>,
    /// Last heartbeat, in seconds since the epoch, by the scheduler's clock.
    pub last_seen: Option<f64>,
}

impl WorkerState {
    /// From an entry of `workers` in a scheduler's identity.
    pub(crate) fn from_identity(address: String, worker: &Value) -> Self {
        let metric =
            |path: &[&str]| field(worker, "metrics").and_then(|metrics| at(metrics, path)).and_then(count);
        let long_running = metric(&["task_counts", "long-running"]).unwrap_or_default();
        let executing = metric(&["task_counts", "executing"]).unwrap_or_default();
        let status = field(worker, "status").and_then(text);
        Self {
            name: field(worker, "name").and_then(text).unwrap_or_else(|| address.clone()),
            host: host(worker, &address),
            status: WorkerStatus::of(status.as_deref()),
            nthreads: field(worker, "nthreads").and_then(count).unwrap_or_default(),
            executing: executing.saturating_add(long_running),
            long_running,
            processing: None,
            // Results that were spilled to disk count among the managed bytes.
            stored_bytes: metric(&["managed_bytes"]).unwrap_or_default(),
            keys: metric(&["task_counts", "memory"]),
            actors: None,
            last_seen: field(worker, "last_seen").and_then(number),
            address,
        }
    }

    /// From a row of the operator's module.
    fn from_row(row: &Value) -> Option<Self> {
        let get = |name: &str| field(row, name);
        let address = get("address").and_then(text)?;
        let status = get("status").and_then(text);
        Some(Self {
            name: get("name").and_then(text).unwrap_or_else(|| address.clone()),
            host: host(row, &address),
            status: WorkerStatus::of(status.as_deref()),
            nthreads: get("nthreads").and_then(count)?,
            executing: get("executing").and_then(count)?,
            long_running: get("long_running").and_then(count).unwrap_or_default(),
            processing: get("processing").and_then(count),
            stored_bytes: get("stored_bytes").and_then(count).unwrap_or_default(),
            keys: get("keys").and_then(count),
            actors: get("actors").and_then(count),
            last_seen: get("last_seen").and_then(number),
            address,
        })
    }
}

fn host(worker: &Value, address: &str) -> String {
    field(worker, "host").and_then(text).unwrap_or_else(|| address::host(address).to_owned())
}

/// The workers in a scheduler's identity: a map from address to facts.
pub(crate) fn from_identity(workers: &Value) -> Vec<WorkerState> {
    let workers = entries(workers).iter();
    workers.filter_map(|(address, worker)| Some(WorkerState::from_identity(text(address)?, worker))).collect()
}

/// The answer of the operator's module. One row that makes no sense makes the whole answer none: a worker that is
/// missing would be taken for gone.
pub(crate) fn from_module(reply: &Value) -> Option<Vec<WorkerState>> {
    list(field(reply, "workers")?)?.iter().map(WorkerState::from_row).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::message::map;

    fn metrics() -> Value {
        let counts = map([("executing", 2.into()), ("long-running", 1.into()), ("memory", 9.into())]);
        let digests = Value::Map(vec![(Value::Array(vec!["execute".into(), "f".into()]), 1.5.into())]);
        map([
            ("task_counts", counts),
            ("managed_bytes", 1000.into()),
            ("spilled_bytes", map([("memory", 400.into()), ("disk", 380.into())])),
            ("digests_total_since_heartbeat", digests),
        ])
    }

    #[test]
    fn identity_tells_of_workers() {
        let worker = map([
            ("name", 3.into()),
            ("host", "10.0.0.7".into()),
            ("status", "closing_gracefully".into()),
            ("nthreads", 4.into()),
            ("last_seen", 1.7e9.into()),
            ("metrics", metrics()),
            ("news", Value::Nil),
        ]);
        let workers = from_identity(&map([("tcp://10.0.0.7:40331", worker)]));
        let expected = WorkerState {
            address: "tcp://10.0.0.7:40331".into(),
            name: "3".into(),
            host: "10.0.0.7".into(),
            status: WorkerStatus::ClosingGracefully,
            nthreads: 4,
            executing: 3,
            long_running: 1,
            processing: None,
            stored_bytes: 1000,
            keys: Some(9),
            actors: None,
            last_seen: Some(1.7e9),
        };
        assert_eq!(workers, [expected]);
    }

    #[test]
    fn identity_of_an_old_scheduler_tells_less() {
        let workers = from_identity(&map([("tcp://10.0.0.7:40331", map([("nthreads", 1.into())]))]));
        let worker = &workers[0];
        assert_eq!((worker.status, worker.keys, worker.executing), (WorkerStatus::Running, None, 0));
        assert_eq!((worker.name.as_str(), worker.host.as_str()), ("tcp://10.0.0.7:40331", "10.0.0.7"));
        assert!(from_identity(&Value::Nil).is_empty());
    }

    fn row(address: Value) -> Value {
        map([
            ("address", address),
            ("name", "w".into()),
            ("host", "h".into()),
            ("status", "paused".into()),
            ("nthreads", 2.into()),
            ("executing", 1.into()),
            ("long_running", 1.into()),
            ("processing", 3.into()),
            ("stored_bytes", 5.into()),
            ("keys", 6.into()),
            ("actors", 7.into()),
            ("last_seen", 8.5.into()),
        ])
    }

    #[test]
    fn module_tells_of_workers() {
        let reply = map([("version", 1.into()), ("workers", Value::Array(vec![row("tcp://a:1".into())]))]);
        let worker = &from_module(&reply).unwrap()[0];
        assert_eq!((worker.status, worker.executing, worker.long_running), (WorkerStatus::Paused, 1, 1));
        assert_eq!(worker.processing, Some(3));
        assert_eq!((worker.keys, worker.actors, worker.last_seen), (Some(6), Some(7), Some(8.5)));
    }

    #[test]
    fn a_row_that_makes_no_sense_is_not_left_out() {
        let rows = Value::Array(vec![row("tcp://a:1".into()), row(Value::Nil)]);
        assert_eq!(from_module(&map([("workers", rows)])), None);
        assert_eq!(from_module(&map([("version", 1.into())])), None);
        assert_eq!(from_module(&map([("workers", Value::Array(vec![]))])), Some(vec![]));
    }

    #[rstest]
    #[case(Some("running"), WorkerStatus::Running)]
    #[case(Some("paused"), WorkerStatus::Paused)]
    #[case(Some("closing"), WorkerStatus::Closing)]
    #[case(Some("closed"), WorkerStatus::Closing)]
    #[case(Some("init"), WorkerStatus::Other)]
    #[case(None, WorkerStatus::Running)]
    fn status_words(#[case] word: Option<&str>, #[case] status: WorkerStatus) {
        assert_eq!(WorkerStatus::of(word), status);
    }
}
