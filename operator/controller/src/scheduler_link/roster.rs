//! The registered workers, from what the scheduler said. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use dask_protocol::{WorkerState, WorkerStatus};
use jiff::Timestamp;

use super::matching::{Candidates, Matching, Place, matching};
use super::view::{Member, Members, PodWorkers};

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

/// What a round showed of one pod.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct OfPod<'a> {
    /// Its workers.
    pub(super) workers: &'a [Seen],
    /// It has none that could be told, but may have others.
    pub(super) unknown: bool,
    /// Running workers that are not its own.
    pub(super) others: usize,
}

/// The workers as one round showed them.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    /// When the round began.
    pub(super) asked: Timestamp,
    pub(super) members: Arc<Members>,
    /// Workers by UID of their pod.
    seen: HashMap<Box<str>, Vec<Seen>>,
    running: usize,
}

impl Roster {
    /// From a list of workers and the scheduler's ranking of those to close, cheapest first. `candidates` are the pods
    /// that were there when the workers were asked for.
    pub(super) fn new(
        asked: Timestamp,
        taken: Timestamp,
        candidates: &Candidates,
        workers: &[WorkerState],
        ranking: Option<&[String]>,
    ) -> Self {
        let ranks: HashMap<&str, u32> = ranking.into_iter().flatten().map(String::as_str).zip(0..).collect();
        let Matching { places, unclear } = matching(candidates, workers);
        let mut of_pods: Vec<Vec<Member>> = vec![Vec::new(); candidates.pods.len()];
        let mut members = Members::new(taken);
        let mut roster = Self { asked, ..Self::default() };
        for (worker, place) in workers.iter().zip(places) {
            let seen = seen(worker);
            roster.running += usize::from(can_take_data(&seen));
            match place {
                Place::Pod(number) => {
                    of_pods[number].push(member(worker, &ranks));
                    roster.seen.entry(candidates.pods[number].pod.uid.clone()).or_default().push(seen);
                }
                Place::Elsewhere => {}
                Place::Nowhere => members.unmatched.add(&worker.name, &worker.address),
            }
        }
        for ((candidate, own), unclear) in candidates.pods.iter().zip(of_pods).zip(unclear) {
            if own.is_empty() && unclear {
                members.insert_unknown(&candidate.pod.uid);
            } else {
                members.insert(&candidate.pod.uid, own);
            }
        }
        members.registered = workers.len();
        roster.members = Arc::new(members);
        roster
    }

    /// What is known of the workers of the pod with this UID.
    pub(super) fn of_pod(&self, uid: &str) -> OfPod<'_> {
        let workers: &[Seen] = self.seen.get(uid).map_or(&[], Vec::as_slice);
        let here = workers.iter().filter(|worker| can_take_data(worker)).count();
        let unknown = self.members.of_pod(uid) == PodWorkers::Unknown;
        OfPod { workers, unknown, others: self.running - here }
    }
}

fn member(worker: &WorkerState, ranks: &HashMap<&str, u32>) -> Member {
    Member {
        address: worker.address.as_str().into(),
        name: worker.name.as_str().into(),
        rank: ranks.get(worker.address.as_str()).copied(),
        paused: worker.status == WorkerStatus::Paused,
        executing: worker.executing,
        bytes: worker.stored_bytes,
    }
}

fn seen(worker: &WorkerState) -> Seen {
    Seen {
        address: worker.address.as_str().into(),
        standing: standing(worker.status),
        executing: worker.executing,
        processing: worker.processing,
        actors: worker.actors.unwrap_or(0),
        keys: worker.keys.unwrap_or(0),
        heartbeat: worker.last_seen,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler_link::testing::{candidate, worker};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn three_pods() -> Candidates {
        Candidates { pods: (7..=9).map(candidate).collect(), ..Candidates::default() }
    }

    fn running(address: &str) -> WorkerState {
        worker("mine", address, WorkerStatus::Running)
    }

    #[test]
    fn workers_are_found_by_pod() {
        let workers = [
            WorkerState { processing: Some(4), last_seen: Some(5.0), ..running("tcp://10.0.0.7:1") },
            worker("mine", "tcp://10.0.0.7:2", WorkerStatus::Paused),
            worker("mine", "tcp://10.0.0.8:1", WorkerStatus::ClosingGracefully),
            running("tcp://10.0.0.9:1"),
        ];
        let ranking = ["tcp://10.0.0.9:1".to_owned(), "tcp://10.0.0.7:2".to_owned()];
        let roster = Roster::new(at(1), at(2), &three_pods(), &workers, Some(&ranking));
        let known = |uid| match roster.members.of_pod(uid) {
            PodWorkers::Known(members) => members.to_vec(),
            other => panic!("{other:?}"),
        };
        let ranks = |uid| known(uid).iter().map(|member| member.rank).collect::<Vec<_>>();
        assert_eq!(ranks("u7"), [None, Some(1)], "who is left out is protected");
        assert_eq!(ranks("u9"), [Some(0)]);
        assert_eq!((roster.members.taken, roster.members.registered), (Some(at(2)), 4));
        assert!(known("u7")[1].paused);

        let of = roster.of_pod("u7");
        assert_eq!(
            (of.workers.len(), of.others, of.unknown),
            (2, 1, false),
            "the fenced one can take nothing"
        );
        assert_eq!((of.workers[0].heartbeat, of.workers[0].processing), (Some(5.0), Some(4)));
        assert_eq!(roster.of_pod("u8").workers[0].standing, Standing::Fenced);
        assert_eq!(roster.of_pod("newer"), OfPod { workers: &[], unknown: true, others: 2 });
    }

    #[test]
    fn while_a_worker_fits_no_pod_those_without_are_unknown() {
        let workers = [running("tcp://10.0.0.7:1"), running("tcp://10.96.0.1:1")];
        let roster = Roster::new(at(1), at(2), &three_pods(), &workers, None);
        assert!(matches!(roster.members.of_pod("u7"), PodWorkers::Known([Member { rank: None, .. }])));
        assert_eq!(roster.members.of_pod("u8"), PodWorkers::Unknown);
        assert_eq!(roster.of_pod("u8"), OfPod { workers: &[], unknown: true, others: 2 });
        assert_eq!(roster.members.unmatched.words(), "worker \"mine\" at tcp://10.96.0.1:1");
        let without = Roster::new(at(1), at(2), &three_pods(), &workers[..1], None);
        assert_eq!(without.members.of_pod("u8"), PodWorkers::Nobody);
        assert_eq!(without.of_pod("u8"), OfPod { workers: &[], unknown: false, others: 1 });
    }
}
