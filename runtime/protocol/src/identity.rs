//! Who a scheduler is.

use crate::{
    raw::Raw,
    value::{count, number, size},
    workers::{Misread, Workers},
};

/// A scheduler's own account of itself.
#[derive(Debug, PartialEq)]
pub struct Identity {
    /// Changes when the scheduler restarts, and all tasks and results are lost.
    pub id: String,
    /// Its first address.
    pub address: String,
    /// When it started, in seconds since the epoch, by its own clock.
    pub started: Option<f64>,
    /// Its workers; none if they were not asked for.
    pub workers: Workers,
    /// How many workers it has, asked for or not.
    pub worker_count: Option<usize>,
    /// Threads of all its workers.
    pub threads: Option<usize>,
}

impl Identity {
    /// Schedulers before 2025.4 always list their workers and leave it to us to count.
    pub(crate) fn from_reply(reply: Raw<'_>, with_workers: bool, most: usize) -> Result<Self, Misread> {
        let word = |name| reply.field(name).and_then(Raw::word);
        let id = reply.field("id").and_then(Raw::text).ok_or(Misread::Senseless)?;
        let workers = reply.field("workers").ok_or(Misread::Senseless)?;
        let count_listed = || {
            let mut threads = workers.entries().map(|(_, worker)| count(&worker.field("nthreads")?.word()?));
            let total = threads.try_fold(0_u64, |total, threads| total.checked_add(threads?));
            total.and_then(|threads| usize::try_from(threads).ok())
        };
        let told = word("n_workers").as_ref().and_then(size);
        let total_threads = || word("total_threads").as_ref().and_then(size);
        Ok(Self {
            id,
            address: reply.field("address").and_then(Raw::text).unwrap_or_default(),
            started: word("started").as_ref().and_then(number),
            workers: if with_workers { Workers::from_identity(workers, most)? } else { Workers::default() },
            worker_count: told.or_else(|| usize::try_from(workers.len()).ok()),
            threads: if told.is_some() { total_threads() } else { count_listed() },
        })
    }
}

#[cfg(test)]
mod tests {
    use rmpv::Value;

    use super::*;
    use crate::{
        MessageLimits,
        message::{encode, map},
    };

    const MOST: usize = 1_000;

    fn read(reply: &Value, with_workers: bool) -> Result<Identity, Misread> {
        let bytes = encode(reply);
        Identity::from_reply(Raw::checked(&bytes, &MessageLimits::SMALL).unwrap(), with_workers, MOST)
    }

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
            workers: Workers::default(),
            worker_count: Some(3),
            threads: Some(12),
        };
        assert_eq!(read(&reply, true), Ok(expected));
    }

    #[test]
    fn workers_of_an_old_scheduler_are_counted() {
        let reply =
            map([("id", 5.into()), ("workers", map([("tcp://a:1", worker(2)), ("tcp://b:1", worker(3))]))]);
        let without = read(&reply, false).unwrap();
        assert_eq!((without.worker_count, without.threads), (Some(2), Some(5)));
        assert_eq!((without.id.as_str(), without.workers.len()), ("5", 0));
        assert_eq!(read(&reply, true).unwrap().workers.len(), 2);
    }

    #[test]
    fn what_a_scheduler_says_of_itself_is_cut() {
        let long = format!("Scheduler\n{}", "x".repeat(9_000));
        let reply =
            map([("id", long.as_str().into()), ("address", long.as_str().into()), ("workers", map([]))]);
        let identity = read(&reply, true).unwrap();
        assert!(identity.id.len() <= 256 && identity.id.starts_with("Scheduler\\nxx"), "{}", identity.id);
        assert!(identity.address.len() <= 256 && !identity.address.contains('\n'));
    }

    #[test]
    fn anything_else_is_no_identity() {
        for reply in [Value::Nil, map([]), map([("id", "x".into())]), map([("workers", map([]))])] {
            assert_eq!(read(&reply, true), Err(Misread::Senseless), "{reply}");
        }
    }
}
