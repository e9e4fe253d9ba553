//! What is known from a scheduler: plain values, for pure decisions to read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dask_operator_api::Reason;
use jiff::Timestamp;

/// What is known from one scheduler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkView {
    /// Whether the scheduler was asked at all since the operator started.
    pub asked: bool,
    /// What it said last, however long ago.
    pub sample: Option<Arc<Sample>>,
    /// Why nothing newer than `sample` is known.
    pub failure: Option<LinkFailure>,
}

/// Why a scheduler is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFailure {
    /// [`Reason::SchedulerUnreachable`], [`Reason::SchedulerGarbled`] or [`Reason::SchedulerNotRunning`].
    pub reason: Reason,
    /// One sentence with the address and the cause.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// What a scheduler said in one round of questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When the round's questions began, by this operator's clock: what it says was so then or later.
    pub asked: Timestamp,
    /// When the round ended, by this operator's clock.
    pub taken: Timestamp,
    /// Identity that the scheduler process gave itself; another one means that it restarted and lost all results.
    pub scheduler_id: Arc<str>,
    /// When that process started, by its own clock.
    pub started: Option<Timestamp>,
    /// How it was asked.
    pub source: Source,
    /// Workers that are registered.
    pub workers: usize,
    /// Threads of all workers.
    pub threads: usize,
    /// Tasks that wait in the scheduler's queue; `None` if this Dask does not tell.
    pub queued: Option<usize>,
    /// Tasks that no worker can run; `None` if this Dask does not tell.
    pub unrunnable: Option<usize>,
    /// Workers that Dask's own adaptive scaling would want; `None` if not asked, which it is for clusters with a
    /// DaskAutoscaler.
    pub adaptive_target: Option<u64>,
    /// Whether the scheduler has anything to do; asked only where a policy needs it.
    pub idleness: Idleness,
    /// Each worker; asked only while one has to go or something is to be found out.
    pub members: Option<Arc<Members>>,
    /// How the drains of pods come on, by UID of the pod.
    pub drains: BTreeMap<Box<str>, DrainProgress>,
}

/// How a scheduler is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// By the operations of the telemetry module.
    Telemetry,
    /// By those that every Dask has.
    Standard,
}

/// Whether a scheduler has anything to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idleness {
    /// Not asked, or this Dask cannot tell.
    #[default]
    Unknown,
    /// It has.
    Busy,
    /// It has had nothing to do since then, by its own clock.
    Since(Timestamp),
}

/// The registered workers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// When they were asked for, by this operator's clock.
    pub taken: Option<Timestamp>,
    /// Workers by the host of their address, which is the IP address of their pod; a pod may have several.
    pub by_host: HashMap<Box<str>, Vec<Member>>,
}

impl Members {
    /// The Dask workers of the pod with this IP address.
    #[must_use]
    pub fn of_host(&self, host: &str) -> &[Member] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }
}

/// A registered worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    /// Address, such as `tcp://10.0.0.7:40123`.
    pub address: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Place in the scheduler's ranking of workers to close, 0 for the cheapest; `None` if the scheduler leaves it
    /// out, which protects it.
    pub rank: Option<u32>,
    /// Whether it has stopped taking tasks because its memory is full.
    pub paused: bool,
    /// Tasks that run on it, as of its last heartbeat.
    pub executing: u64,
    /// Bytes of results that it holds.
    pub bytes: u64,
}

/// How the drain of a pod comes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainProgress {
    /// The scheduler was asked to fence its workers and move their data, and has not answered yet.
    Fencing,
    /// It takes no new tasks; this many still run on it.
    Finishing {
        /// Running tasks, long-running ones included.
        executing: u64,
    },
    /// Its tasks are done; the last results are moved and its processes closed.
    Closing,
    /// The scheduler refuses to retire it, so it goes on working.
    Refused {
        /// Why, as far as it is known.
        message: String,
    },
    /// The scheduler confirmed that nothing is left on it, or does not know it: the pod can be deleted.
    Drained,
}

impl DrainProgress {
    /// Whether the pod can be deleted without loss.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        matches!(self, Self::Drained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_workers_of_a_pod_share_its_address() {
        let member =
            |port: u16| Member { address: format!("tcp://10.0.0.7:{port}").into(), ..Member::default() };
        let members = Members {
            taken: None,
            by_host: HashMap::from([("10.0.0.7".into(), vec![member(1), member(2)])]),
        };
        assert_eq!(members.of_host("10.0.0.7").len(), 2);
        assert!(members.of_host("10.0.0.70").is_empty());
    }

    #[test]
    fn only_a_confirmed_drain_allows_deletion() {
        let refused = DrainProgress::Refused { message: "it holds an actor".to_owned() };
        let others =
            [DrainProgress::Fencing, DrainProgress::Finishing { executing: 0 }, DrainProgress::Closing];
        assert!(DrainProgress::Drained.is_drained());
        assert!(!refused.is_drained() && !others.iter().any(DrainProgress::is_drained));
    }
}
