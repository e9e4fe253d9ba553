//! Workers that take no tasks although nobody drains their pod. Pure.
//!
//! Dask cannot take a fence back. If the mark of a pod was taken off after the fence, or somebody retired the worker by
//! hand, Kubernetes sees a worker that is ready, and the scheduler never gives it a task again. Only the scheduler's
//! own list shows it, so each link asks for one when it begins, and for another when that shows a fenced worker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::drains::Drains;
use super::matching::Candidates;
use super::roster::{Roster, Standing};
use crate::cluster_cache::records::PodState;

/// A fence that is being taken back, and a process that drains itself because it was told to stop, are over by then.
const SETTLED: Duration = Duration::from_secs(30);

/// The fenced workers, by UID of their pod: their addresses, and since when they are seen so.
#[derive(Debug, Default)]
pub(super) struct Fenced {
    seen: BTreeMap<Box<str>, (Timestamp, BTreeSet<Box<str>>)>,
    /// When the last list came.
    listed: Timestamp,
}

impl Fenced {
    /// Takes a list of workers.
    pub(super) fn look(&mut self, candidates: &Candidates, roster: &Roster, drains: &Drains, now: Timestamp) {
        let mut seen = BTreeMap::new();
        for candidate in &candidates.pods {
            let pod = &candidate.pod;
            let nobodys = pod.running
                && pod.drain.is_none()
                && pod.state != PodState::Terminating
                && !drains.has(&pod.uid);
            let workers = roster.of_pod(&pod.uid).workers.iter().filter(|_| nobodys);
            let fenced: BTreeSet<_> = workers
                .filter(|worker| worker.standing == Standing::Fenced)
                .map(|worker| worker.address.clone())
                .collect();
            if fenced.is_empty() {
                continue;
            }
            let since = match self.seen.remove(&pod.uid) {
                // Of a process that has been started anew another one is fenced.
                Some((since, before)) if !before.is_disjoint(&fenced) => since,
                _ => now,
            };
            seen.insert(pod.uid.clone(), (since, fenced));
        }
        (self.seen, self.listed) = (seen, now);
    }

    /// UIDs of the pods whose workers have been fenced for long, as of the last list.
    pub(super) fn pods(&self) -> BTreeSet<Box<str>> {
        let long = self.seen.iter().filter(|(_, (since, _))| self.listed >= *since + SETTLED);
        long.map(|(pod, _)| pod.clone()).collect()
    }

    /// Whether another list has to be asked for, to see whether a worker is still fenced.
    pub(super) fn wants_list(&self, now: Timestamp) -> bool {
        self.seen.values().any(|(since, _)| now >= *since + SETTLED)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dask_operator_api::{DrainIntent, Reason};
    use dask_protocol::WorkerStatus;

    use super::*;
    use crate::cluster_cache::records::PodRecord;
    use crate::scheduler_link::drain::PodFacts;
    use crate::scheduler_link::testing::{candidate, worker};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn one(change: impl FnOnce(&mut PodRecord)) -> Candidates {
        let mut pod = candidate(7);
        change(Arc::make_mut(&mut pod.pod));
        Candidates { pods: vec![pod], ..Candidates::default() }
    }

    /// The pods that are told of, when each of these seconds shows a fenced worker on this port, or none.
    fn told(candidates: &Candidates, drains: &Drains, lists: &[(i64, Option<u16>)]) -> Vec<usize> {
        let mut fenced = Fenced::default();
        let mut told = Vec::new();
        for (second, port) in lists {
            let address = port.map(|port| format!("tcp://10.0.0.7:{port}"));
            let workers: Vec<_> = address
                .iter()
                .map(|address| worker("mine", address, WorkerStatus::ClosingGracefully))
                .chain([worker("mine", "tcp://10.0.0.7:9", WorkerStatus::Running)])
                .collect();
            let roster = Roster::new(at(*second), at(*second), candidates, &workers, None);
            fenced.look(candidates, &roster, drains, at(*second));
            told.push(fenced.pods().len());
        }
        told
    }

    #[test]
    fn what_stays_fenced_is_told_after_a_while() {
        let (pod, nobody) = (one(|_| ()), Drains::default());
        assert_eq!(
            told(&pod, &nobody, &[(0, Some(1)), (29, Some(1)), (30, Some(1)), (31, None)]),
            [0, 0, 1, 0]
        );
        assert_eq!(
            told(&pod, &nobody, &[(0, Some(1)), (20, None), (40, Some(1))]),
            [0, 0, 0],
            "it went back"
        );
        assert_eq!(told(&pod, &nobody, &[(0, Some(1)), (40, Some(2))]), [0, 0], "it was started anew");
    }

    #[test]
    fn who_is_drained_or_ends_is_left_alone() {
        let twice = [(0, Some(1)), (40, Some(1))];
        let intent = DrainIntent { reason: Reason::ScaledDown, since: at(0) };
        let marked = one(|pod| pod.drain = Some(Box::new(intent)));
        assert_eq!(told(&marked, &Drains::default(), &twice), [0, 0]);
        let going = one(|pod| pod.state = PodState::Terminating);
        assert_eq!(told(&going, &Drains::default(), &twice), [0, 0]);
        let stopped = one(|pod| pod.running = false);
        assert_eq!(told(&stopped, &Drains::default(), &twice), [0, 0]);

        let pod = one(|_| ());
        let mut drains = Drains::default();
        let facts = PodFacts { uid: "u7".into(), running: true, marked: true, ..PodFacts::default() };
        drains.look(&[facts], &Roster::default(), at(0), at(0));
        assert_eq!(told(&pod, &drains, &twice), [0, 0], "its drain goes on without a mark");
    }

    #[test]
    fn another_list_is_asked_for_only_while_one_is_fenced() {
        let (pod, mut fenced) = (one(|_| ()), Fenced::default());
        assert!(!fenced.wants_list(at(1_000)));
        let workers = [worker("mine", "tcp://10.0.0.7:1", WorkerStatus::ClosingGracefully)];
        let roster = Roster::new(at(0), at(0), &pod, &workers, None);
        fenced.look(&pod, &roster, &Drains::default(), at(0));
        assert!(!fenced.wants_list(at(29)) && fenced.wants_list(at(30)));
    }
}
