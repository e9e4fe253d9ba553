//! When the program of a job's runner is started: as soon as the job's scheduler can be reached. Pure.
//!
//! Dask's `Client()` gives up after 30 s (`distributed.comm.timeouts.connect`). A runner whose image is there before the
//! scheduler's would fail its job for that.

use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::Reason;
use jiff::{SignedDuration, Timestamp};

use crate::cluster_cache::records::{PodRecord, PodState};
use crate::scheduler_link::LinkView;

/// A scheduler whose pod is ready is waited for this long, although the operator cannot ask it.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);
/// How soon to look again whether a scheduler that is ready answers: its link wakes no job.
const AGAIN: Duration = Duration::from_secs(1);

/// What becomes of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// It goes: the scheduler can be reached, as far as anybody can tell.
    Open,
    /// It stays; look again after this time, or when a pod changes.
    Closed(Option<Duration>),
}

/// Whether the scheduler can be reached, from its pods and its link.
pub(super) fn gate(scheduler_pods: &[Arc<PodRecord>], link: &LinkView, now: Timestamp) -> Gate {
    let ready = scheduler_pods.iter().find(|pod| pod.state == PodState::Ready);
    let Some(pod) = ready else { return Gate::Closed(None) };
    let answers = match &link.failure {
        None => link.sample.is_some(),
        // It speaks TLS, for example: somebody is there.
        Some(failure) => failure.reason == Reason::SchedulerGarbled,
    };
    if answers || waited(pod, link, now) >= PATIENCE { Gate::Open } else { Gate::Closed(Some(AGAIN)) }
}

/// How long the scheduler has been ready. The kubelet's clock may be ahead; then the link's failure tells.
fn waited(pod: &PodRecord, link: &LinkView, now: Timestamp) -> SignedDuration {
    let ready = pod.ready_since.unwrap_or(pod.created);
    let since = if ready <= now { Some(ready) } else { link.failure.as_ref().map(|failure| failure.since) };
    since.map_or(SignedDuration::ZERO, |since| now.duration_since(since))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::controllers::cluster::testing::{at, pod};
    use crate::scheduler_link::{LinkFailure, testing};

    fn failing(reason: Reason, since: i64) -> LinkView {
        let failure = LinkFailure { reason, message: String::new(), since: at(since) };
        LinkView { asked: true, sample: None, failure: Some(failure) }
    }

    fn ready(since: i64) -> PodRecord {
        PodRecord { ready_since: Some(at(since)), ..pod("scheduler", PodState::Ready) }
    }

    const LOOK: Gate = Gate::Closed(Some(AGAIN));

    #[rstest]
    #[case::answers(testing::heard(testing::sample("one")), 100, Gate::Open)]
    #[case::not_asked_yet(LinkView::default(), 100, LOOK)]
    #[case::not_asked_for_long(LinkView::default(), 129, LOOK)]
    #[case::nobody_can_ask(LinkView::default(), 130, Gate::Open)]
    #[case::does_not_answer_yet(failing(Reason::SchedulerUnreachable, 50), 101, LOOK)]
    #[case::does_not_answer(failing(Reason::SchedulerUnreachable, 50), 130, Gate::Open)]
    #[case::speaks_tls(failing(Reason::SchedulerGarbled, 100), 101, Gate::Open)]
    fn a_scheduler_that_is_ready(#[case] link: LinkView, #[case] now: i64, #[case] expected: Gate) {
        assert_eq!(gate(&[Arc::new(ready(100))], &link, at(now)), expected);
    }

    #[test]
    fn a_clock_that_is_ahead_keeps_nobody_waiting_for_ever() {
        let pods = [Arc::new(ready(100_000))];
        assert_eq!(gate(&pods, &failing(Reason::SchedulerUnreachable, 100), at(129)), LOOK);
        assert_eq!(gate(&pods, &failing(Reason::SchedulerUnreachable, 100), at(130)), Gate::Open);
    }

    #[rstest]
    #[case(PodState::Pending)]
    #[case(PodState::Starting)]
    #[case(PodState::Terminating)]
    fn a_scheduler_that_is_not_ready_is_waited_for(#[case] state: PodState) {
        let answers = testing::heard(testing::sample("one"));
        assert_eq!(gate(&[Arc::new(pod("s", state))], &answers, at(10_000)), Gate::Closed(None));
        assert_eq!(gate(&[], &answers, at(10_000)), Gate::Closed(None));
    }
}
