//! Which changes of conditions a person is told about by an Event.

use dask_operator_api::{ClusterPhase, ConditionType, DaskClusterStatus, DaskJobStatus, JobStatus, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

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

/// What a person likes to see of a cluster that comes up well: that it was seen, and when its scheduler and its workers are
/// ready. An end of a problem is told by [`announcements`]. What was told is in the status, so a restart of the operator
/// tells nothing again.
#[must_use]
pub fn milestones_of_cluster(before: &DaskClusterStatus, after: &DaskClusterStatus) -> Vec<Announcement> {
    let mut news = Vec::new();
    if before.phase.is_none() && after.phase.is_some_and(|phase| phase != ClusterPhase::Error) {
        let message = "the cluster was seen; its scheduler and its worker group are made next".to_owned();
        news.push(Announcement { reason: Reason::Accepted, message, warning: false });
    }
    for type_ in [ConditionType::SchedulerReady, ConditionType::WorkersReady].map(<&str>::from) {
        let of = |status: &DaskClusterStatus| {
            status.conditions.iter().find(|condition| condition.type_ == type_).cloned()
        };
        if let (Some(old), Some(new)) = (of(before), of(after))
            && reason(&new) == Some(Reason::AllReady)
            && is_news_after(&new, &old)
        {
            news.push(Announcement { reason: Reason::AllReady, message: new.message, warning: false });
        }
    }
    news
}

/// Whether it is news, and no end of a problem, that all is ready. With another number of workers it is.
fn is_news_after(new: &Condition, old: &Condition) -> bool {
    let was = reason(old);
    let same = was == Some(Reason::AllReady) && old.message == new.message;
    !same && !was.is_some_and(Reason::is_problem)
}

/// What a person likes to see of a job that goes well, besides its begin and its end.
#[must_use]
pub fn milestones_of_job(before: &DaskJobStatus, after: &DaskJobStatus) -> Vec<Announcement> {
    let runs = |status: &DaskJobStatus| status.job_status == Some(JobStatus::Running);
    if runs(before) || !runs(after) {
        return Vec::new();
    }
    let pod = after.job_runner_pod_name.as_deref().unwrap_or_default();
    let message = format!("the program of pod \"{pod}\" was started");
    vec![Announcement { reason: Reason::RunnerStarted, message, warning: false }]
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

    /// Statuses of a cluster one after the other: conditions `SchedulerReady` and `WorkersReady`.
    fn told(life: &[[(Option<bool>, Reason); 2]]) -> Vec<(Reason, String)> {
        let mut status = DaskClusterStatus::default();
        let mut all = Vec::new();
        for [scheduler, workers] in life {
            let now = Time(Timestamp::UNIX_EPOCH);
            let conditions = Conditions::new(&status.conditions, Some(1), &now)
                .set(ConditionType::SchedulerReady, scheduler.0, scheduler.1, "scheduler")
                .set(ConditionType::WorkersReady, workers.0, workers.1, "workers")
                .build();
            let next =
                DaskClusterStatus { phase: Some(ClusterPhase::Running), conditions, ..Default::default() };
            all.extend(
                milestones_of_cluster(&status, &next).into_iter().map(|news| (news.reason, news.message)),
            );
            assert_eq!(milestones_of_cluster(&next, &next), []);
            status = next;
        }
        all
    }

    #[test]
    fn a_cluster_that_comes_up_well_says_so_once() {
        let (starting, ready) = ((Some(false), Reason::Starting), (Some(true), Reason::AllReady));
        let told = told(&[[starting, starting], [ready, starting], [ready, ready], [ready, ready]]);
        let words: Vec<&str> = told.iter().map(|(_, words)| words.as_str()).collect();
        assert_eq!(told[0].0, Reason::Accepted);
        assert_eq!(words[1..], ["scheduler", "workers"]);
    }

    #[test]
    fn each_number_of_workers_is_told_when_they_are_ready() {
        let ready = (Some(true), Reason::AllReady);
        let after = |workers| told(&[[ready, workers], [ready, ready]]).len() - 1;
        assert_eq!(after((Some(false), Reason::Starting)), 1);
        assert_eq!(after((Some(true), Reason::ScaledToZero)), 1);
        assert_eq!(after((Some(true), Reason::Scaling)), 1);
        assert_eq!(after((Some(false), Reason::QuotaExceeded)), 0, "the end of a problem is told elsewhere");
    }

    #[test]
    fn a_runner_that_starts_is_told_once() {
        let status = |job_status| DaskJobStatus { job_status: Some(job_status), ..DaskJobStatus::default() };
        let (created, running) = (status(JobStatus::ClusterCreated), status(JobStatus::Running));
        let news = milestones_of_job(&created, &running);
        assert_eq!(news.iter().map(|news| news.reason).collect::<Vec<_>>(), [Reason::RunnerStarted]);
        assert_eq!(milestones_of_job(&running, &running), []);
        assert_eq!(milestones_of_job(&running, &status(JobStatus::Successful)), []);
    }
}
