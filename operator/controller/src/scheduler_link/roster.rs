//! The registered workers, from what the scheduler said. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use dask_protocol::{WorkerState, WorkerStatus};
use jiff::Timestamp;

use super::view::{Member, Members};

/// How a worker stands with the scheduler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    #[default]
    Running,
    /// Its memory is full.
    Paused,
    /// It takes no new tasks, because it is being retired.
    Fenced,
    /// It ends.
    Closing,
    /// Releases of Dask until 2022.1 do not tell.
    Untold,
}

/// What a drain has to know of a worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) address: Box<str>,
    pub(super) standing: Standing,
    /// Running tasks, long-running ones included, as of its last heartbeat.
    pub(super) executing: u64,
    /// Tasks that the scheduler gave it and that are not done, as of this round; `None` if it does not tell.
    pub(super) processing: Option<u64>,
    /// 0 also if the scheduler does not tell.
    pub(super) actors: u64,
    /// Results that it holds; 0 also if the scheduler does not tell.
    pub(super) keys: u64,
    /// When it was heard last, in seconds by the scheduler's clock.
    pub(super) heartbeat: Option<f64>,
}

/// The workers as one round showed them.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    /// When the round began.
    pub(super) asked: Timestamp,
    pub(super) members: Arc<Members>,
    seen: HashMap<Box<str>, Vec<Seen>>,
    running: usize,
}

impl Roster {
    /// From a list of workers and the scheduler's ranking of those to close, cheapest first.
    pub(super) fn new(
        asked: Timestamp,
        taken: Timestamp,
        workers: &[WorkerState],
        ranking: Option<&[String]>,
    ) -> Self {
        let ranks: HashMap<&str, u32> = ranking.into_iter().flatten().map(String::as_str).zip(0..).collect();
        let mut members = Members { taken: Some(taken), by_host: HashMap::new() };
        let mut roster = Self { asked, ..Self::default() };
        for worker in workers {
            let host = host_of(&worker.address);
            members.by_host.entry(host.into()).or_default().push(Member {
                address: worker.address.as_str().into(),
                name: worker.name.as_str().into(),
                rank: ranks.get(worker.address.as_str()).copied(),
                paused: worker.status == WorkerStatus::Paused,
                executing: worker.executing,
                bytes: worker.stored_bytes,
            });
            let seen = Seen {
                address: worker.address.as_str().into(),
                standing: standing(worker.status),
                executing: worker.executing,
                processing: worker.processing,
                actors: worker.actors.unwrap_or(0),
                keys: worker.keys.unwrap_or(0),
                heartbeat: worker.last_seen,
            };
            roster.running += usize::from(can_take_data(&seen));
            roster.seen.entry(host.into()).or_default().push(seen);
        }
        roster.members = Arc::new(members);
        roster
    }

    /// The workers on this host, and how many run elsewhere.
    pub(super) fn of_host(&self, host: Option<&str>) -> (&[Seen], usize) {
        let workers: &[Seen] = host.and_then(|host| self.seen.get(host)).map_or(&[], Vec::as_slice);
        let here = workers.iter().filter(|worker| can_take_data(worker)).count();
        (workers, self.running - here)
    }
}

fn can_take_data(worker: &Seen) -> bool {
    matches!(worker.standing, Standing::Running | Standing::Untold)
}

fn standing(status: WorkerStatus) -> Standing {
    match status {
        WorkerStatus::Running => Standing::Running,
        WorkerStatus::Paused => Standing::Paused,
        WorkerStatus::ClosingGracefully => Standing::Fenced,
        WorkerStatus::Closing => Standing::Closing,
        WorkerStatus::Other => Standing::Untold,
    }
}

/// The host of a Dask address: `tcp://10.0.0.7:40123` → `10.0.0.7`, `tls://[fd00::7]:40123` → `fd00::7`.
pub(super) fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn worker(address: &str, status: WorkerStatus) -> WorkerState {
        WorkerState {
            address: address.to_owned(),
            name: format!("name of {address}"),
            host: "ignored".to_owned(),
            status,
            nthreads: 2,
            executing: 3,
            long_running: 1,
            processing: Some(4),
            stored_bytes: 7,
            keys: None,
            actors: None,
            last_seen: Some(5.0),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[rstest]
    #[case("tcp://10.0.0.7:40123", "10.0.0.7")]
    #[case("tls://[fd00::7]:40123", "fd00::7")]
    #[case("10.0.0.7:1", "10.0.0.7")]
    #[case("inproc://10.0.0.7/1/2", "10.0.0.7/1/2")]
    #[case("", "")]
    fn hosts(#[case] address: &str, #[case] host: &str) {
        assert_eq!(host_of(address), host);
    }

    #[test]
    fn workers_are_found_by_the_ip_address_of_their_pod() {
        let workers = [
            worker("tcp://10.0.0.7:1", WorkerStatus::Running),
            worker("tcp://10.0.0.7:2", WorkerStatus::Paused),
            worker("tcp://10.0.0.8:1", WorkerStatus::ClosingGracefully),
            worker("tcp://10.0.0.9:1", WorkerStatus::Running),
        ];
        let ranking = ["tcp://10.0.0.9:1".to_owned(), "tcp://10.0.0.7:2".to_owned()];
        let roster = Roster::new(at(1), at(2), &workers, Some(&ranking));
        let ranks = |host| roster.members.of_host(host).iter().map(|m| m.rank).collect::<Vec<_>>();
        assert_eq!(ranks("10.0.0.7"), [None, Some(1)], "who is left out is protected");
        assert_eq!(ranks("10.0.0.9"), [Some(0)]);
        assert_eq!(roster.members.taken, Some(at(2)));
        assert!(roster.members.of_host("10.0.0.7")[1].paused);

        let (seen, others) = roster.of_host(Some("10.0.0.7"));
        assert_eq!((seen.len(), others), (2, 1), "the fenced one can take nothing");
        assert_eq!((seen[0].heartbeat, seen[0].processing), (Some(5.0), Some(4)));
        assert_eq!(roster.of_host(Some("10.0.0.8")).0[0].standing, Standing::Fenced);
        assert_eq!(roster.of_host(Some("10.0.0.10")), (&[][..], 2));
        assert_eq!(roster.of_host(None), (&[][..], 2), "a pod without an address has no workers");
    }

    #[test]
    fn without_a_ranking_nobody_has_a_rank() {
        let workers = [worker("tcp://10.0.0.7:1", WorkerStatus::Running)];
        let roster = Roster::new(at(1), at(2), &workers, None);
        assert_eq!(roster.members.of_host("10.0.0.7")[0].rank, None);
    }
}
