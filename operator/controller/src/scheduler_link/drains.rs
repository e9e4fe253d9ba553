//! The drains of all pods of a cluster: which calls are worth making now. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::drain::{Answer, Drain, How, PodFacts, Retire, Round};
use super::roster::Roster;
use super::view::DrainProgress;

/// Calls under way at a time: each copies data within the cluster.
const CALLS: usize = 4;
/// Pods that share a call. Together they do not hand their data to each other.
const BATCH: usize = 20;

/// One call that retires the workers of some pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) how: How,
    /// Addresses by UID of their pod; never empty.
    pub(super) pods: BTreeMap<Box<str>, Vec<Box<str>>>,
}

impl Batch {
    /// The addresses of all pods.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.pods.values().flatten().map(ToString::to_string).collect()
    }
}

/// The drains of a cluster, by UID of the pod.
#[derive(Debug, Default)]
pub(super) struct Drains {
    drains: BTreeMap<Box<str>, Drain>,
    calls: usize,
}

impl Drains {
    /// Takes a round; gives the calls to make now.
    pub(super) fn look(
        &mut self,
        pods: &[PodFacts],
        roster: &Roster,
        scheduler_since: Timestamp,
        now: Timestamp,
    ) -> Vec<Batch> {
        self.drains.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        let mut wanted: Vec<(&PodFacts, Retire)> = Vec::new();
        for pod in pods {
            // Once its workers are closed, new ones in the same pod are nobody's to close.
            let goes_on = |drain: &Drain| drain.has_no_way_back() && !drain.is_over();
            if !pod.marked && !self.drains.get(&pod.uid).is_some_and(goes_on) {
                self.drains.remove(&pod.uid);
                continue;
            }
            let drain = self.drains.entry(pod.uid.clone()).or_default();
            let round = Round { asked: roster.asked, of: roster.of_pod(&pod.uid), scheduler_since };
            if let Some(retire) = drain.look(pod, round, now) {
                wanted.push((pod, retire));
            }
        }
        self.batches(wanted)
    }

    /// Takes the answer to a call.
    pub(super) fn answered(&mut self, batch: &Batch, answer: &Answer, now: Timestamp) {
        self.calls = self.calls.saturating_sub(1);
        for (uid, addresses) in &batch.pods {
            if let Some(drain) = self.drains.get_mut(uid) {
                drain.answered(batch.how, addresses, answer, now);
            }
        }
    }

    /// How each comes on, by UID of the pod.
    pub(super) fn progress(&self) -> BTreeMap<Box<str>, DrainProgress> {
        let drains = self.drains.iter();
        drains.filter_map(|(uid, drain)| Some((uid.clone(), drain.progress()?))).collect()
    }

    /// Whether this pod is in a drain.
    pub(super) fn has(&self, uid: &str) -> bool {
        self.drains.contains_key(uid)
    }

    /// Whether any pod is in a drain.
    pub(super) fn is_active(&self) -> bool {
        self.drains.values().any(|drain| !drain.is_over())
    }

    /// Whether pods are in a drain and the scheduler refuses all of them, with no call under way.
    pub(super) fn are_refused(&self) -> bool {
        let refused = |drain: &Drain| matches!(drain.progress(), Some(DrainProgress::Refused { .. }));
        let mut active = self.drains.values().filter(|drain| !drain.is_over()).peekable();
        active.peek().is_some() && active.all(|drain| refused(drain) && !drain.is_calling())
    }

    /// Closes before fences, as many as may be under way; the rest is for the next round.
    fn batches(&mut self, mut wanted: Vec<(&PodFacts, Retire)>) -> Vec<Batch> {
        wanted.sort_by_key(|(_, retire)| (std::cmp::Reverse(retire.how), retire.alone));
        let mut batches: Vec<Batch> = Vec::new();
        let mut open: Option<How> = None;
        for (pod, retire) in wanted {
            let joins = open == Some(retire.how)
                && !retire.alone
                && batches.last().is_some_and(|batch| batch.pods.len() < BATCH);
            if !joins {
                if self.calls + batches.len() >= CALLS {
                    continue;
                }
                batches.push(Batch { how: retire.how, pods: BTreeMap::new() });
                open = (!retire.alone).then_some(retire.how);
            }
            if let (Some(batch), Some(drain)) = (batches.last_mut(), self.drains.get_mut(&pod.uid)) {
                drain.asked(retire.how);
                batch.pods.insert(pod.uid.clone(), retire.addresses);
            }
        }
        self.calls += batches.len();
        batches
    }
}

#[cfg(test)]
mod tests {
    use dask_protocol::WorkerStatus;

    use super::*;
    use crate::scheduler_link::matching::Candidates;
    use crate::scheduler_link::testing::{self, worker};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn pods(count: usize) -> Vec<PodFacts> {
        let pod = |number| PodFacts {
            uid: format!("u{number}").into(),
            name: format!("w{number}").into(),
            running: true,
            ended: false,
            marked: true,
        };
        (0..count).map(pod).collect()
    }

    fn roster(time: i64, count: usize, status: WorkerStatus) -> Roster {
        let address = |number: usize| format!("tcp://10.0.0.{number}:1");
        let workers: Vec<_> = (0..count).map(|number| worker("mine", &address(number), status)).collect();
        let pods = (0..100).map(testing::candidate).collect();
        let candidates = Candidates { pods, ..Candidates::default() };
        Roster::new(at(time), at(time), &candidates, &workers, None)
    }

    fn sizes(batches: &[Batch]) -> Vec<usize> {
        batches.iter().map(|batch| batch.pods.len()).collect()
    }

    #[test]
    fn pods_share_calls_and_few_are_under_way() {
        let (mut drains, pods) = (Drains::default(), pods(100));
        let running = roster(0, 100, WorkerStatus::Running);
        let first = drains.look(&pods, &running, at(-60), at(0));
        assert_eq!(sizes(&first), [20; 4], "the rest waits");
        assert_eq!(drains.progress().len(), 80, "the mark of those that wait can still be taken back");
        assert!(drains.look(&pods, &running, at(-60), at(0)).is_empty());
        let confirmed = Answer::Confirmed(first[0].addresses());
        drains.answered(&first[0], &confirmed, at(1));
        assert_eq!(sizes(&drains.look(&pods, &running, at(-60), at(1))), [20]);
        let finishing = DrainProgress::Finishing { executing: 0 };
        assert_eq!(drains.progress().values().filter(|progress| **progress == finishing).count(), 20);
    }

    #[test]
    fn a_cluster_whose_pods_are_all_refused_is_followed_slowly() {
        let (mut drains, pods) = (Drains::default(), pods(2));
        assert!(!drains.are_refused(), "nobody is to go");
        let running = roster(0, 2, WorkerStatus::Running);
        let calls = drains.look(&pods, &running, at(-60), at(0));
        assert!(!drains.are_refused(), "the call is under way");
        drains.answered(&calls[0], &Answer::Confirmed(vec![]), at(1));
        assert!(drains.are_refused());
        let again = drains.look(&pods, &roster(6, 2, WorkerStatus::Running), at(-60), at(6));
        assert!(!again.is_empty() && !drains.are_refused(), "it is asked again");
        drains.answered(&again[0], &Answer::Confirmed(vec!["tcp://10.0.0.1:1".to_owned()]), at(7));
        assert!(!drains.are_refused(), "one of them goes");
    }

    #[test]
    fn those_whose_call_hung_are_asked_for_one_by_one() {
        let (mut drains, pods) = (Drains::default(), pods(3));
        let running = roster(0, 3, WorkerStatus::Running);
        let first = drains.look(&pods, &running, at(-60), at(0));
        assert_eq!(sizes(&first), [3]);
        drains.answered(&first[0], &Answer::Failed, at(120));
        let later = roster(122, 3, WorkerStatus::Running);
        assert_eq!(sizes(&drains.look(&pods, &later, at(-60), at(122))), [1, 1, 1]);
    }

    #[test]
    fn a_mark_taken_back_in_time_ends_it_and_later_does_not() {
        let (mut drains, mut pods) = (Drains::default(), pods(2));
        let nobody = roster(0, 0, WorkerStatus::Running);
        drains.look(&pods, &nobody, at(0), at(0));
        pods[0].marked = false;
        assert!(drains.look(&pods, &nobody, at(0), at(1)).is_empty());
        assert_eq!(drains.drains.len(), 1);
        let running = roster(1, 2, WorkerStatus::Running);
        let calls = drains.look(&pods, &running, at(0), at(1));
        assert_eq!(calls[0].addresses(), ["tcp://10.0.0.1:1"]);
        pods[1].marked = false;
        drains.look(&pods, &running, at(0), at(2));
        assert_eq!(drains.progress().len(), 1, "it may be fenced, so it goes on");
        drains.look(&pods[..1], &running, at(0), at(3));
        assert!(drains.progress().is_empty(), "the pod is gone");
    }

    /// Dask takes back the fence of what it does not retire, and names in one answer the workers of all pods.
    #[test]
    fn a_pod_that_was_refused_wholly_is_not_fenced_because_another_was_retired() {
        let (mut drains, pods) = (Drains::default(), pods(2));
        let running = roster(0, 2, WorkerStatus::Running);
        let calls = drains.look(&pods, &running, at(-60), at(0));
        let confirmed = Answer::Confirmed(vec!["tcp://10.0.0.0:1".to_owned()]);
        drains.answered(&calls[0], &confirmed, at(1));
        let refused = drains.progress().remove("u1");
        assert!(matches!(refused, Some(DrainProgress::Refused { fenced: false, .. })), "{refused:?}");
        assert!(!drains.drains["u1"].has_no_way_back() && drains.drains["u0"].has_no_way_back());
    }

    #[test]
    fn a_pod_without_a_worker_waits_while_a_worker_fits_no_pod() {
        let (mut drains, pods) = (Drains::default(), pods(1));
        let candidates = Candidates { pods: vec![testing::candidate(0)], ..Candidates::default() };
        let strange = [worker("mine", "tcp://10.96.0.1:1", WorkerStatus::Running)];
        let look = |drains: &mut Drains, time: i64, workers: &[_]| {
            let roster = Roster::new(at(time), at(time), &candidates, workers, None);
            assert!(drains.look(&pods, &roster, at(-60), at(time)).is_empty());
            drains.progress().remove("u0")
        };
        for time in [0, 20, 40] {
            assert_eq!(look(&mut drains, time, &strange), None, "{time}");
        }
        for (time, workers) in [(50, &[][..]), (59, &[]), (60, &strange), (61, &[]), (70, &[])] {
            assert_eq!(look(&mut drains, time, workers), None, "{time}");
        }
        assert_eq!(look(&mut drains, 71, &[]), Some(DrainProgress::Drained));
        assert_eq!(look(&mut drains, 72, &strange), None, "as long as it is still there");
    }
}
