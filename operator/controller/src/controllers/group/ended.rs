//! Workers that may have ended while other containers of their pods run on, of which only the scheduler knows. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::known::{fresh_members, fresh_sample};
use super::stranded::{JOINING, since};
use crate::cluster_cache::records::{PodRecord, PodState};
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::scheduler_link::LinkView;

/// How long a scheduler may take to notice that a worker is gone, or another container of the pod to join.
const SETTLED: SignedDuration = SignedDuration::from_secs(20);
/// How soon to look again for what the scheduler says of them.
const POLL: Duration = Duration::from_secs(5);

/// The snapshot in which workers have ended that the scheduler does not know any more, if there are some.
pub(super) fn with_ended(snapshot: &GroupSnapshot, link: &LinkView, now: Timestamp) -> Option<GroupSnapshot> {
    let is_asked = |pod: &Arc<PodRecord>| pod.is_live() && pod.worker_ended.is_some();
    if !snapshot.members.workers.iter().any(is_asked) {
        return None;
    }
    let (sample, known) = fresh_sample(link, now).zip(fresh_members(link, now))?;
    let taken = known.taken.unwrap_or(sample.taken);
    if sample.started.is_some_and(|started| since(started, taken) < JOINING) {
        return None;
    }
    let has_ended = |pod: &PodRecord| {
        let ended = pod.worker_ended.filter(|ended| taken.duration_since(*ended) >= SETTLED);
        pod.is_live() && ended.is_some() && known.knows_nobody_of(&pod.uid)
    };
    let mut changed = snapshot.clone();
    for pod in changed.members.workers.iter_mut().filter(|pod| has_ended(pod)) {
        Arc::make_mut(pod).state = PodState::Failed;
    }
    Some(changed)
}

/// When to look again, while there are such workers.
pub(super) fn look_again(snapshot: &GroupSnapshot) -> Option<Duration> {
    let mut workers = snapshot.members.workers.iter();
    workers.any(|pod| pod.is_live() && pod.worker_ended.is_some()).then_some(POLL)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::controllers::group::testing::{
        at, failing, heard, member, members, record, running, sample, snapshot, without_workers,
    };
    use crate::scheduler_link::{Members, Sample};

    /// What the scheduler said at this second of the worker whose container ended at 50.
    fn says(members: Members, seconds: i64) -> LinkView {
        heard(Sample { members: Some(Arc::new(members)), ..sample(seconds) })
    }

    fn state(link: &LinkView) -> Option<PodState> {
        let ended = PodRecord { worker_ended: Some(at(50)), ..record(1, PodState::Starting) };
        let snapshot = snapshot(2, vec![Arc::new(ended), Arc::new(running(2))]);
        assert_eq!(look_again(&snapshot), Some(POLL));
        let changed = with_ended(&snapshot, link, at(100))?;
        assert_eq!(changed.members.workers[1].state, PodState::Ready, "nothing ended in the other one");
        Some(changed.members.workers[0].state)
    }

    #[test]
    fn a_worker_that_the_scheduler_does_not_know_has_ended() {
        assert_eq!(state(&says(without_workers(&[1, 2]), 90)), Some(PodState::Failed));
    }

    #[test]
    fn another_worker_in_the_pod_keeps_it() {
        assert_eq!(state(&says(members([(1, member(1, None))]), 90)), Some(PodState::Starting));
    }

    #[test]
    fn an_unknown_worker_may_be_the_pods() {
        let mut list = without_workers(&[1]);
        list.unmatched.count = 1;
        assert_eq!(state(&says(list, 90)), Some(PodState::Starting));
        assert_eq!(state(&says(Members::default(), 90)), Some(PodState::Starting), "newer than the list");
    }

    #[rstest]
    #[case::never_asked(LinkView::default())]
    #[case::no_scheduler(failing(dask_operator_api::Reason::SchedulerNotRunning))]
    #[case::old(says(without_workers(&[1]), 60))]
    fn without_an_answer_of_now_nothing_is_known(#[case] link: LinkView) {
        assert_eq!(state(&link), None);
    }

    #[test]
    fn both_are_given_time() {
        assert_eq!(state(&says(without_workers(&[1]), 71)), Some(PodState::Failed));
        let young = Sample { started: Some(at(70)), ..sample(90) };
        let link = heard(Sample { members: Some(Arc::new(without_workers(&[1]))), ..young });
        assert_eq!(state(&link), None);
        let early = PodRecord { worker_ended: Some(at(80)), ..record(1, PodState::Starting) };
        let snapshot = snapshot(1, vec![Arc::new(early)]);
        let changed = with_ended(&snapshot, &says(without_workers(&[1]), 99), at(100));
        assert_eq!(changed.unwrap().members.workers[0].state, PodState::Starting);
    }

    #[test]
    fn ordinary_groups_are_not_copied() {
        let snapshot = snapshot(1, vec![Arc::new(running(1))]);
        assert!(with_ended(&snapshot, &says(without_workers(&[1]), 90), at(100)).is_none());
        assert_eq!(look_again(&snapshot), None);
    }
}
