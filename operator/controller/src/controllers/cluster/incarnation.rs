//! Which scheduler process answers, and whether it is still the one that the cluster began with. Pure.
//!
//! All that a scheduler knows is in its memory: another process knows of no results and no tasks.

use dask_operator_api::{ConditionType, DaskClusterStatus, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::scheduler_exit;
use super::status::Finding;
use crate::cluster_cache::snapshot::ClusterSnapshot;
use crate::scheduler_link::LinkView;

/// Identity and start of the scheduler process, as it told last.
pub(super) fn identity(previous: &DaskClusterStatus, link: &LinkView) -> (Option<String>, Option<Time>) {
    if let Some(sample) = link.sample.as_deref() {
        // Statuses hold whole seconds; with a fraction it would differ from what is read back, for ever.
        let started = sample.started.and_then(|time| Timestamp::from_second(time.as_second()).ok());
        return (Some(sample.scheduler_id.to_string()), started.map(Time));
    }
    let known = previous.scheduler.as_ref();
    (known.and_then(|s| s.id.clone()), known.and_then(|s| s.started_at.clone()))
}

/// Condition `SchedulerLostState`; `None` before a scheduler was heard for the first time.
///
/// How the one before ended is often known only later, when the kubelet tells, so the words are made anew each time.
pub(super) fn finding(
    previous: &DaskClusterStatus,
    link: &LinkView,
    snapshot: &ClusterSnapshot,
) -> Option<Finding> {
    let before = previous.scheduler.as_ref().and_then(|scheduler| scheduler.id.as_deref());
    let told = told_before(previous);
    let lost = told.as_ref().is_some_and(|(status, ..)| *status == Some(true));
    let Some(sample) = link.sample.as_deref() else { return told };
    if lost || before.is_some_and(|before| *before != *sample.scheduler_id) {
        let when = sample.started.map(|time| format!(" at {}", time.strftime("%Y-%m-%dT%H:%M:%SZ")));
        let why = scheduler_exit::last_end(snapshot).map(|why| format!("; {why}")).unwrap_or_default();
        let message = format!(
            "the scheduler was started anew{}; tasks and results of the one before are lost, and clients have to \
             submit their work again{why}",
            when.unwrap_or_else(|| format!(" (it is {} now)", sample.scheduler_id))
        );
        return Some((Some(true), Reason::SchedulerRestarted, message));
    }
    told.or_else(|| {
        let message = "the scheduler is the one that the cluster began with".to_owned();
        Some((Some(false), Reason::StateKept, message))
    })
}

fn told_before(previous: &DaskClusterStatus) -> Option<Finding> {
    let type_: &str = ConditionType::SchedulerLostState.into();
    let condition = previous.conditions.iter().find(|condition| condition.type_ == type_)?;
    let reason = condition.reason.parse().ok()?;
    Some((Some(condition.status == "True"), reason, condition.message.clone()))
}

#[cfg(test)]
mod tests {
    use dask_operator_api::{Conditions, SchedulerStatus};

    use super::*;
    use crate::cluster_cache::records::PodState;
    use crate::controllers::cluster::testing::{at, exited, made};
    use crate::scheduler_link::{Sample, testing};

    fn heard(id: &str, started: i64) -> LinkView {
        testing::heard(Sample { started: Some(at(started)), ..testing::sample(id) })
    }

    /// The status after `link` was heard.
    fn after(previous: &DaskClusterStatus, link: &LinkView) -> DaskClusterStatus {
        of(previous, link, &made(PodState::Ready))
    }

    fn of(previous: &DaskClusterStatus, link: &LinkView, snapshot: &ClusterSnapshot) -> DaskClusterStatus {
        let now = Time(at(100));
        let mut conditions = Conditions::new(&previous.conditions, Some(1), &now);
        if let Some((status, reason, message)) = finding(previous, link, snapshot) {
            conditions = conditions.set(ConditionType::SchedulerLostState, status, reason, &message);
        }
        let (id, started_at) = identity(previous, link);
        let scheduler = Some(SchedulerStatus { id, started_at, ..SchedulerStatus::default() });
        DaskClusterStatus { conditions: conditions.build(), scheduler, ..DaskClusterStatus::default() }
    }

    #[test]
    fn nothing_is_said_before_a_scheduler_was_heard() {
        let snapshot = made(PodState::Ready);
        assert_eq!(finding(&DaskClusterStatus::default(), &LinkView::default(), &snapshot), None);
    }

    #[test]
    fn the_first_scheduler_keeps_its_state_and_silence_changes_nothing() {
        let first = after(&DaskClusterStatus::default(), &heard("one", 5));
        assert_eq!(
            (first.conditions[0].status.as_str(), first.conditions[0].reason.as_str()),
            ("False", "StateKept")
        );
        assert_eq!(first.scheduler.as_ref().unwrap().id.as_deref(), Some("one"));
        assert_eq!(after(&first, &LinkView::default()), first);
        assert_eq!(after(&first, &heard("one", 5)), first);
    }

    #[test]
    fn another_scheduler_lost_the_state_and_that_is_remembered() {
        let first = after(&DaskClusterStatus::default(), &heard("one", 5));
        let second = after(&first, &heard("two", 50));
        let condition = &second.conditions[0];
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", "SchedulerRestarted"));
        assert!(condition.message.contains("started anew at 2027-01-15T08:00:50Z"), "{}", condition.message);
        assert_eq!(second.scheduler.as_ref().unwrap().id.as_deref(), Some("two"));
        assert_eq!(after(&second, &heard("two", 50)), second, "it stands");
        let third = after(&second, &heard("three", 90));
        assert_ne!(third.conditions[0].message, condition.message, "and each restart is told");
    }

    #[test]
    fn how_the_scheduler_ended_is_added_when_it_is_known() {
        let first = after(&DaskClusterStatus::default(), &heard("one", 5));
        let second = after(&first, &heard("two", 50));
        let known = of(&second, &heard("two", 50), &exited(PodState::Ready));
        let (before, message) = (&second.conditions[0].message, &known.conditions[0].message);
        assert!(message.starts_with(&**before) && message.contains("ended with exit code 0"), "{message}");
        assert!(message.contains("spec.idleTimeout"), "{message}");
        let again = of(&known, &heard("two", 50), &exited(PodState::Ready));
        assert_eq!(again, known);
        assert_eq!(of(&known, &LinkView::default(), &made(PodState::Ready)), known, "not asked yet");
    }
}
