//! The workers of a scheduler, as its identity or the operator's own module tells them.

use std::ops::{Deref, DerefMut};

use rmpv::Value;

use crate::{
    Limits, address,
    budget::Room,
    raw::{Raw, Size},
    text::{LONGEST, is_address, printable},
    value::{at, count, field, number, text},
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
    /// From Dask's word. Schedulers up to 2022.1 have no such field; they list live workers only.
    fn of(status: Option<&Value>) -> Self {
        let Some(status) = status else { return Self::Running };
        match text(status).as_deref() {
            Some("running") => Self::Running,
            Some("paused") => Self::Paused,
            Some("closing_gracefully") => Self::ClosingGracefully,
            Some("closing" | "closed" | "failed" | "stopping" | "stopped") => Self::Closing,
            _ => Self::Other,
        }
    }
}

/// A list of workers. What it takes of the budget is given back when it is dropped.
#[derive(Debug, Default)]
pub struct Workers {
    rows: Vec<WorkerState>,
    room: Option<Room>,
}

/// Why an answer is no list of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misread {
    /// More workers than the cluster can have.
    TooMany,
    /// Something else.
    Senseless,
}

/// Lists of not more workers may have entries of any size.
const FEW: usize = 64;

/// One worker. From a heartbeat, and so up to a few seconds old, unless the operator's module told it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerState {
    /// Where it listens, such as `tcp://10.0.0.1:40331`; its identity among the workers. Empty if the scheduler tells
    /// what can be no address, such as one of more than 256 bytes: the worker is there, but nothing can be asked of it.
    pub address: String,
    /// Its name; numbers are turned into text. As the host it is cut and has no control characters, so that one that
    /// was changed equals no name of Kubernetes' any more.
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
        Self {
            name: name(worker, &address),
            host: host(worker, &address),
            status: WorkerStatus::of(field(worker, "status")),
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
        let address = Some(get("address").and_then(text)?).filter(|address| is_address(address));
        let address = address.unwrap_or_default();
        Some(Self {
            name: name(row, &address),
            host: host(row, &address),
            status: WorkerStatus::of(get("status")),
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

fn name(worker: &Value, address: &str) -> String {
    let name = field(worker, "name").and_then(text);
    name.map_or_else(|| address.to_owned(), |name| printable(&name, LONGEST))
}

fn host(worker: &Value, address: &str) -> String {
    let host = field(worker, "host").and_then(text).unwrap_or_else(|| address::host(address).to_owned());
    printable(&host, LONGEST)
}

impl Workers {
    /// The workers of a scheduler's identity: a map from address to facts.
    pub(crate) fn from_identity(workers: Raw<'_>, most: usize) -> Result<Self, Misread> {
        if !workers.is_map() {
            return Err(Misread::Senseless);
        }
        Self::collect(
            workers,
            most,
            workers.entries().map(|(address, worker)| {
                Some(WorkerState::from_identity(
                    address.address().unwrap_or_default(),
                    &worker.value(Size::WORKER)?,
                ))
            }),
        )
    }

    /// The answer of the operator's module. One row that makes no sense makes the whole answer none: a worker that is
    /// missing would be taken for gone.
    pub(crate) fn from_module(reply: Raw<'_>, most: usize) -> Result<Self, Misread> {
        let workers =
            reply.field("workers").filter(|workers| workers.is_array()).ok_or(Misread::Senseless)?;
        let rows = workers.elements();
        Self::collect(workers, most, rows.map(|row| WorkerState::from_row(&row.value(Size::WORKER)?)))
    }

    fn collect(
        list: Raw<'_>,
        most: usize,
        workers: impl Iterator<Item = Option<WorkerState>>,
    ) -> Result<Self, Misread> {
        let count = usize::try_from(list.len()).unwrap_or(usize::MAX);
        if count > most {
            return Err(Misread::TooMany);
        }
        if count > FEW && list.bytes() / count < Limits::LEAST_WORKER {
            return Err(Misread::Senseless);
        }
        let mut rows = Vec::with_capacity(count);
        for worker in workers {
            rows.push(worker.ok_or(Misread::Senseless)?);
        }
        Ok(Self { rows, room: None })
    }

    /// Memory that they take, in bytes.
    pub(crate) fn size(&self) -> usize {
        let row = |worker: &WorkerState| {
            size_of::<WorkerState>() + worker.address.len() + worker.name.len() + worker.host.len()
        };
        self.rows.iter().map(row).sum()
    }

    /// The same, with what they have taken of the budget.
    pub(crate) fn within(mut self, mut room: Room) -> Self {
        room.keep(self.size());
        self.room = Some(room);
        self
    }
}

impl Deref for Workers {
    type Target = [WorkerState];

    fn deref(&self) -> &[WorkerState] {
        &self.rows
    }
}

impl DerefMut for Workers {
    fn deref_mut(&mut self) -> &mut [WorkerState] {
        &mut self.rows
    }
}

impl PartialEq for Workers {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows
    }
}

impl From<Vec<WorkerState>> for Workers {
    fn from(rows: Vec<WorkerState>) -> Self {
        Self { rows, room: None }
    }
}

/// They no longer count for the budget.
impl IntoIterator for Workers {
    type Item = WorkerState;
    type IntoIter = std::vec::IntoIter<WorkerState>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::{
        MessageLimits,
        message::{encode, map},
    };

    const MOST: usize = 1_000;

    fn with<T>(value: &Value, look: impl FnOnce(Raw<'_>) -> T) -> T {
        let bytes = encode(value);
        look(Raw::checked(&bytes, &MessageLimits { items: 1 << 20, ..MessageLimits::SMALL }).unwrap())
    }

    fn from_identity(workers: &Value) -> Result<Workers, Misread> {
        with(workers, |raw| Workers::from_identity(raw, MOST))
    }

    fn from_module(reply: &Value) -> Result<Workers, Misread> {
        with(reply, |raw| Workers::from_module(raw, MOST))
    }

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
        let workers = from_identity(&map([("tcp://10.0.0.7:40331", worker)])).unwrap();
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
        assert_eq!(*workers, [expected]);
    }

    #[test]
    fn identity_of_an_old_scheduler_tells_less() {
        let workers = from_identity(&map([("tcp://10.0.0.7:40331", map([("nthreads", 1.into())]))])).unwrap();
        let worker = &workers[0];
        assert_eq!((worker.status, worker.keys, worker.executing), (WorkerStatus::Running, None, 0));
        assert_eq!((worker.name.as_str(), worker.host.as_str()), ("tcp://10.0.0.7:40331", "10.0.0.7"));
        assert_eq!(from_identity(&Value::Nil), Err(Misread::Senseless));
        assert!(from_identity(&map([])).unwrap().is_empty());
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
        let workers = from_module(&reply).unwrap();
        let worker = &workers[0];
        assert_eq!((worker.status, worker.executing, worker.long_running), (WorkerStatus::Paused, 1, 1));
        assert_eq!(worker.processing, Some(3));
        assert_eq!((worker.keys, worker.actors, worker.last_seen), (Some(6), Some(7), Some(8.5)));
    }

    #[test]
    fn a_row_that_makes_no_sense_is_not_left_out() {
        let rows = Value::Array(vec![row("tcp://a:1".into()), row(Value::Nil)]);
        assert_eq!(from_module(&map([("workers", rows)])), Err(Misread::Senseless));
        assert_eq!(from_module(&map([("version", 1.into())])), Err(Misread::Senseless));
        assert_eq!(from_module(&map([("workers", Value::Nil)])), Err(Misread::Senseless));
        assert!(from_module(&map([("workers", Value::Array(vec![]))])).unwrap().is_empty());
    }

    #[rstest]
    #[case(Some("running"), WorkerStatus::Running)]
    #[case(Some("paused"), WorkerStatus::Paused)]
    #[case(Some("closing"), WorkerStatus::Closing)]
    #[case(Some("closed"), WorkerStatus::Closing)]
    #[case(Some("init"), WorkerStatus::Other)]
    #[case(None, WorkerStatus::Running)]
    fn status_words(#[case] word: Option<&str>, #[case] status: WorkerStatus) {
        assert_eq!(WorkerStatus::of(word.map(Value::from).as_ref()), status);
    }

    #[test]
    fn a_status_that_is_no_word_is_not_taken_for_none() {
        assert_eq!(WorkerStatus::of(Some(&Value::Nil)), WorkerStatus::Other);
        assert_eq!(WorkerStatus::of(Some(&Value::Array(vec![]))), WorkerStatus::Other);
    }

    #[test]
    fn a_worker_that_cannot_be_named_is_there_without_an_address() {
        let long = format!("tcp://10.0.0.7:1{}", "0".repeat(300));
        for address in [long.as_str(), "tcp://10.0.0.7:1\nforged", ""] {
            let identity = from_identity(&map([(address, map([("name", "w\n1".into())]))])).unwrap();
            let rows = Value::Array(vec![row(address.into())]);
            let module = from_module(&map([("workers", rows)])).unwrap();
            assert_eq!((identity[0].address.as_str(), module[0].address.as_str()), ("", ""), "{address}");
            assert_eq!((identity.len(), identity[0].name.as_str()), (1, "w\\n1"));
        }
        let nameless = Value::Map(vec![(Value::Nil, map([("nthreads", 1.into())]))]);
        assert_eq!(from_identity(&nameless).unwrap()[0].address, "");
    }

    #[test]
    fn names_are_cut() {
        let name = "x".repeat(100_000);
        let worker = map([("name", name.as_str().into()), ("host", name.as_str().into())]);
        let workers = from_identity(&map([("tcp://a:1", worker)])).unwrap();
        assert!(workers[0].name.len() <= LONGEST && workers[0].host.len() <= LONGEST);
        assert!(workers.size() <= Limits::WORKER_BYTES, "{}", workers.size());
    }

    #[test]
    fn more_workers_than_there_can_be_are_refused_and_so_are_rows_without_anything() {
        let rows = |count: usize, row: &Value| map([("workers", Value::Array(vec![row.clone(); count]))]);
        let whole = row("tcp://a:1".into());
        assert_eq!(from_module(&rows(MOST, &whole)).unwrap().len(), MOST);
        assert_eq!(from_module(&rows(MOST + 1, &whole)), Err(Misread::TooMany));
        assert_eq!(from_module(&rows(FEW + 1, &Value::Nil)), Err(Misread::Senseless));
        let heavy = map([("metrics", Value::Array(vec![Value::Nil; 20_000]))]);
        assert_eq!(from_identity(&map([("tcp://a:1", heavy)])), Err(Misread::Senseless));
    }

    #[test]
    fn the_room_of_a_list_shrinks_to_what_is_kept_and_goes_with_it() {
        let budget = crate::Budget::new(1 << 20);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut room = budget.room(std::time::Duration::from_secs(1));
        runtime.block_on(room.cover(500_000)).unwrap();
        let workers = from_module(&map([("workers", Value::Array(vec![row("tcp://a:1".into())]))])).unwrap();
        let workers = workers.within(room);
        assert_eq!(budget.total() - budget.available(), workers.size());
        drop(workers);
        assert_eq!(budget.available(), budget.total());
    }
}
