//! Who a scheduler is.

use rmpv::Value;

use crate::{
    value::{count, entries, field, number, size, text},
    workers::{self, WorkerState},
};

/// A scheduler's own account of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Changes when the scheduler restarts, and all tasks and results are lost.
    pub id: String,
    /// Its first address.
    pub address: String,
    /// When it started, in seconds since the epoch, by its own clock.
    pub started: Option<f64>,
    /// Its workers; none if they were not asked for.
    pub workers: Vec<WorkerState>,
    /// How many workers it has, asked for or not.
    pub worker_count: Option<usize>,
    /// Threads of all its workers.
    pub threads: Option<usize>,
}

impl Identity {
    /// Schedulers before 2025.4 always list their workers and leave it to us to count.
    pub(crate) fn from_reply(reply: &Value, with_workers: bool) -> Option<Self> {
        let number_of = |name| field(reply, name).and_then(size);
        let id = field(reply, "id").and_then(text)?;
        let workers = field(reply, "workers")?;
        let listed = entries(workers);
        let count_listed = || {
            let threads = listed.iter().map(|(_, worker)| field(worker, "nthreads").and_then(count));
            threads.sum::<Option<u64>>().and_then(|threads| usize::try_from(threads).ok())
        };
        let told = number_of("n_workers");
        Some(Self {
            id,
            address: field(reply, "address").and_then(text).unwrap_or_default(),
            started: field(reply, "started").and_then(number),
            workers: if with_workers { workers::from_identity(workers) } else { Vec::new() },
            worker_count: told.or(Some(listed.len())),
            threads: if told.is_some() { number_of("total_threads") } else { count_listed() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::map;

    fn worker(threads: u64) -> Value {
        map([("nthreads", threads.into())])
    }

    #[test]
    fn new_scheduler_counts_itself() {
        let reply = map([
            ("type", "Scheduler".into()),
            ("id", "Scheduler-1".into()),
            ("address", "tcp://10.0.0.1:8786".into()),
            ("started", 1.7e9.into()),
            ("n_workers", 3.into()),
            ("total_threads", 12.into()),
            ("workers", map([])),
        ]);
        let expected = Identity {
            id: "Scheduler-1".into(),
            address: "tcp://10.0.0.1:8786".into(),
            started: Some(1.7e9),
            workers: vec![],
            worker_count: Some(3),
            threads: Some(12),
        };
        assert_eq!(Identity::from_reply(&reply, true), Some(expected));
    }

    #[test]
    fn workers_of_an_old_scheduler_are_counted() {
        let reply =
            map([("id", 5.into()), ("workers", map([("tcp://a:1", worker(2)), ("tcp://b:1", worker(3))]))]);
        let without = Identity::from_reply(&reply, false).unwrap();
        assert_eq!((without.worker_count, without.threads), (Some(2), Some(5)));
        assert_eq!((without.id.as_str(), without.workers.len()), ("5", 0));
        assert_eq!(Identity::from_reply(&reply, true).unwrap().workers.len(), 2);
    }

    #[test]
    fn anything_else_is_no_identity() {
        for reply in [Value::Nil, map([]), map([("id", "x".into())]), map([("workers", map([]))])] {
            assert_eq!(Identity::from_reply(&reply, true), None, "{reply}");
        }
    }
}
