//! Which changes of conditions a person is told about by an Event.

use dask_operator_api::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use dask_operator_api::ConditionType;

/// Something to tell by an Event and a metric; reason and message are the condition's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The condition's reason.
    pub reason: Reason,
    /// The condition's message.
    pub message: String,
    /// A Warning, rather than the news that all is well again.
    pub warning: bool,
}

/// The conditions whose reason became, or ceased to be, a problem, and what keeps workers that should go. `Ready` only
/// sums up the others, and of `SchedulerReachable` the link tells when it lasts.
#[must_use]
pub fn announcements(before: &[Condition], after: &[Condition]) -> Vec<Announcement> {
    let elsewhere = [ConditionType::Ready, ConditionType::SchedulerReachable].map(<&str>::from);
    let mut news = Vec::new();
    for condition in after.iter().filter(|condition| !elsewhere.contains(&condition.type_.as_str())) {
        let old = before.iter().find(|old| old.type_ == condition.type_);
        if old.is_some_and(|old| old.reason == condition.reason && !is_another_restart(old, condition)) {
            continue;
        }
        let was_problem = old.and_then(reason).is_some_and(Reason::is_problem);
        if let Some(reason) = reason(condition)
            && (reason.is_problem() || was_problem || explains_a_wait(reason))
        {
            news.push(Announcement {
                reason,
                message: condition.message.clone(),
                warning: reason.is_problem(),
            });
        }
    }
    news
}

/// No problem, but somebody may wonder why a worker is still there, or why an edit has no effect.
fn explains_a_wait(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Draining
            | Reason::WorkerProtected
            | Reason::DrainUnconfirmed
            | Reason::SchedulerOutdated
            | Reason::ModulesNotLoaded
    )
}

/// Each restart of a scheduler is told, though the condition stays the same: its message has the time.
fn is_another_restart(old: &Condition, new: &Condition) -> bool {
    reason(new) == Some(Reason::SchedulerRestarted) && old.message != new.message
}

fn reason(condition: &Condition) -> Option<Reason> {
    condition.reason.parse().ok()
}

#[cfg(test)]
mod tests {
    use dask_operator_api::Conditions;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn conditions(reason: Reason) -> Vec<Condition> {
        let now = Time(Timestamp::UNIX_EPOCH);
        Conditions::new(&[], Some(1), &now)
            .set(ConditionType::SchedulerReady, Some(reason == Reason::AllReady), reason, "words")
            .set(ConditionType::Ready, Some(reason == Reason::AllReady), reason, "words")
            .build()
    }

    #[test]
    fn a_new_problem_is_a_warning_once() {
        let news = announcements(&[], &conditions(Reason::ImagePullFailed));
        assert_eq!(
            news,
            [Announcement { reason: Reason::ImagePullFailed, message: "words".to_owned(), warning: true }]
        );
        let same = announcements(&conditions(Reason::ImagePullFailed), &conditions(Reason::ImagePullFailed));
        assert_eq!(same, []);
    }

    #[test]
    fn a_drain_is_news_without_being_a_problem() {
        for reason in [Reason::Draining, Reason::WorkerProtected, Reason::DrainUnconfirmed] {
            let news = announcements(&[], &conditions(reason));
            assert_eq!(news.iter().map(|n| (n.reason, n.warning)).collect::<Vec<_>>(), [(reason, false)]);
        }
        assert_eq!(announcements(&conditions(Reason::Draining), &conditions(Reason::AtDesiredSize)), []);
    }

    #[test]
    fn every_restart_of_a_scheduler_is_told() {
        let now = Time(Timestamp::UNIX_EPOCH);
        let restarted = |message: &str| {
            Conditions::new(&[], Some(1), &now)
                .set(ConditionType::SchedulerLostState, Some(true), Reason::SchedulerRestarted, message)
                .build()
        };
        let (one, two) = (restarted("at 1"), restarted("at 2"));
        assert_eq!(announcements(&one, &two)[0].message, "at 2");
        assert_eq!(announcements(&two, &two), []);
    }

    #[test]
    fn recovery_is_news_but_ordinary_progress_is_not() {
        let news = announcements(&conditions(Reason::ImagePullFailed), &conditions(Reason::AllReady));
        assert_eq!(
            news.iter().map(|n| (n.reason, n.warning)).collect::<Vec<_>>(),
            [(Reason::AllReady, false)]
        );
        assert_eq!(announcements(&conditions(Reason::Starting), &conditions(Reason::AllReady)), []);
        assert_eq!(announcements(&[], &conditions(Reason::Starting)), []);
    }
}
