//! What is known of a group's workers at the moment of a decision. Pure.

use std::sync::Arc;

use dask_operator_api::Reason;
use jiff::{SignedDuration, Timestamp};

use crate::cluster_cache::records::PodRecord;
use crate::scheduler_link::{LinkFailure, LinkView, Members, Sample};

/// An answer of the scheduler that is older than this is asked for again before it is acted on.
const FRESH: SignedDuration = SignedDuration::from_secs(30);

/// What is known of a group's workers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known<'a> {
    /// No scheduler runs that could know of anything on them.
    NoScheduler,
    /// The scheduler's list of a moment ago.
    Members(&'a Members),
    /// Nothing, or nothing of now; why, unless the scheduler is only about to be asked.
    Nothing(Option<&'a LinkFailure>),
}

impl<'a> Known<'a> {
    /// From what the scheduler said last.
    pub(super) fn of(link: &'a LinkView, scheduler_pods: &[Arc<PodRecord>], now: Timestamp) -> Self {
        let not_running = link.failure.as_ref().is_some_and(|f| f.reason == Reason::SchedulerNotRunning);
        if not_running && scheduler_pods.iter().all(|pod| !pod.running) {
            return Self::NoScheduler;
        }
        fresh_members(link, now).map_or(Self::Nothing(link.failure.as_ref()), Self::Members)
    }
}

/// What the scheduler said, if that is of now.
pub(super) fn fresh_sample(link: &LinkView, now: Timestamp) -> Option<&Sample> {
    link.sample.as_deref().filter(|sample| is_fresh(sample.taken, now))
}

/// The registered workers, if they are those of now.
pub(super) fn fresh_members(link: &LinkView, now: Timestamp) -> Option<&Members> {
    let sample = fresh_sample(link, now).filter(|_| link.failure.is_none())?;
    let members = sample.members.as_deref()?;
    members.taken.is_none_or(|taken| is_fresh(taken, now)).then_some(members)
}

fn is_fresh(taken: Timestamp, now: Timestamp) -> bool {
    now.duration_since(taken) <= FRESH
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::cluster_cache::records::PodState;
    use crate::controllers::group::testing::{at, failing, heard, ranked, sample, worker};

    #[rstest]
    #[case::a_list(ranked(100, &[(1, None)]), "members")]
    #[case::an_old_list(ranked(69, &[(1, None)]), "nothing")]
    #[case::no_list(heard(sample(100)), "nothing")]
    #[case::never_asked(LinkView::default(), "nothing")]
    #[case::a_list_before_a_failure(
        LinkView { failure: failing(Reason::SchedulerUnreachable).failure, ..ranked(100, &[(1, None)]) },
        "nothing"
    )]
    #[case::two_schedulers(failing(Reason::SeveralSchedulers), "nothing")]
    #[case::not_running(failing(Reason::SchedulerNotRunning), "no scheduler")]
    fn what_is_known(#[case] link: LinkView, #[case] expected: &str) {
        let word = |pods: &[_]| match Known::of(&link, pods, at(100)) {
            Known::NoScheduler => "no scheduler",
            Known::Members(_) => "members",
            Known::Nothing(_) => "nothing",
        };
        assert_eq!(word(&[worker(0, PodState::Pending)]), expected);
        let running = word(&[worker(0, PodState::Ready)]);
        assert_eq!(running, if expected == "no scheduler" { "nothing" } else { expected });
    }
}
