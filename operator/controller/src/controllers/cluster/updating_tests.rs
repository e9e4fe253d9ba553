use std::sync::Arc;

use dask_operator_api::{Conditions, DaskWorkerGroupStatus, UpdatePolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::cluster_cache::records::PodState;
use crate::controllers::cluster::testing::{at, made};
use crate::controllers::job;
use crate::scheduler_link::{Idleness, LinkFailure, Sample, testing};

fn policy(scheduler: SchedulerUpdate) -> UpdatePolicy {
    UpdatePolicy { scheduler: Some(scheduler), ..UpdatePolicy::default() }
}

fn job(generation: i64) -> Arc<DaskJob> {
    let mut job = job::testing::job("job");
    job.metadata.generation = Some(generation);
    Arc::new(job)
}

/// A cluster whose scheduler's template was edited.
fn edited(scheduler: SchedulerUpdate) -> ClusterSnapshot {
    let mut snapshot = made(PodState::Ready);
    let cluster = Arc::make_mut(&mut snapshot.cluster);
    cluster.spec.scheduler.spec.containers[0].image = Some("dask:new".to_owned());
    cluster.spec.update = Some(policy(scheduler));
    snapshot
}

fn heard(idleness: Idleness, asked: i64) -> LinkView {
    testing::heard(Sample { asked: at(asked), taken: at(100), idleness, ..testing::sample("one") })
}

fn unreachable() -> LinkView {
    let failure = LinkFailure { reason: Reason::SchedulerUnreachable, message: String::new(), since: at(95) };
    LinkView { failure: Some(failure), ..heard(Idleness::Since(at(50)), 99) }
}

#[rstest]
#[case::never(SchedulerUpdate::Never, heard(Idleness::Since(at(50)), 99), false)]
#[case::always(SchedulerUpdate::Always, LinkView::default(), true)]
#[case::idle(SchedulerUpdate::WhenIdle, heard(Idleness::Since(at(50)), 99), true)]
#[case::busy(SchedulerUpdate::WhenIdle, heard(Idleness::Busy, 99), false)]
#[case::unknown(SchedulerUpdate::WhenIdle, heard(Idleness::Unknown, 99), false)]
#[case::asked_some_time_ago(SchedulerUpdate::WhenIdle, heard(Idleness::Since(at(50)), 96), false)]
#[case::unreachable(SchedulerUpdate::WhenIdle, unreachable(), false)]
#[case::never_heard(SchedulerUpdate::WhenIdle, LinkView::default(), false)]
fn the_policy_says_when_a_scheduler_may_be_restarted(
    #[case] scheduler: SchedulerUpdate,
    #[case] link: LinkView,
    #[case] allowed: bool,
) {
    assert_eq!(may_restart(&edited(scheduler), &link, at(100)), allowed);
}

#[test]
fn a_scheduler_that_does_not_run_has_nothing_to_lose() {
    let mut snapshot = edited(SchedulerUpdate::Never);
    let pod = Arc::make_mut(&mut snapshot.scheduler_pods[0]);
    (pod.state, pod.running) = (PodState::Starting, false);
    assert!(may_restart(&snapshot, &LinkView::default(), at(100)), "its image may be wrong");
    snapshot.scheduler_pods.clear();
    assert!(may_restart(&snapshot, &LinkView::default(), at(100)));
}

#[rstest]
#[case(SchedulerUpdate::Never, Some(false), "WhenIdle or Always")]
#[case(SchedulerUpdate::WhenIdle, Some(true), "as soon as it has nothing to do")]
#[case(SchedulerUpdate::Always, Some(true), "is being restarted")]
fn an_outdated_scheduler_is_told(
    #[case] scheduler: SchedulerUpdate,
    #[case] status: Option<bool>,
    #[case] words: &str,
) {
    let finding = finding(&edited(scheduler));
    assert_eq!((finding.0, finding.1), (status, Reason::SchedulerOutdated));
    assert!(finding.2.contains(words), "{}", finding.2);
}

#[test]
fn an_unedited_or_adopted_scheduler_is_up_to_date() {
    assert_eq!(finding(&made(PodState::Ready)).1, Reason::UpToDate);
    let mut adopted = edited(SchedulerUpdate::Always);
    Arc::make_mut(adopted.deployment.as_mut().unwrap()).template_hash = None;
    assert_eq!(finding(&adopted).1, Reason::UpToDate);
}

#[rstest]
#[case::replacing("True", Reason::TemplateChanged, (Some(true), Reason::TemplateChanged))]
#[case::kept("False", Reason::UpdatedOnDelete, (Some(false), Reason::SchedulerOutdated))]
#[case::current("False", Reason::UpToDate, (Some(false), Reason::SchedulerOutdated))]
fn workers_that_are_being_replaced_come_first(
    #[case] status: &str,
    #[case] reason: Reason,
    #[case] expected: (Option<bool>, Reason),
) {
    let mut snapshot = edited(SchedulerUpdate::Never);
    let told: DaskWorkerGroupStatus = serde_json::from_value(json!({"conditions": [{
        "type": "Updating", "status": status, "reason": reason.to_string(), "message": "words",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}))
    .unwrap();
    Arc::make_mut(&mut snapshot.groups[0].group).status = Some(told);
    let (status, reason, message) = finding(&snapshot);
    assert_eq!((status, reason), expected);
    assert_eq!(message.contains("group \"simple-default\": words"), reason == Reason::TemplateChanged);
}

#[test]
fn an_edit_of_the_clusters_job_is_told_to_have_no_effect() {
    let mut snapshot = made(PodState::Ready);
    snapshot.job = Some(job(2));
    assert_eq!(finding(&snapshot).1, Reason::UpToDate, "it is not known what it was made from");
    let annotation = [("kubernetes.dask.org/job-generation".to_owned(), "1".to_owned())];
    Arc::make_mut(&mut snapshot.cluster).metadata.annotations = Some(annotation.into());
    let (status, reason, message) = finding(&snapshot);
    assert_eq!((status, reason), (Some(false), Reason::EditIgnored));
    assert!(message.contains("DaskJob \"simple\"") && message.contains("create it again"), "{message}");
    snapshot.job = Some(job(1));
    assert_eq!(finding(&snapshot).1, Reason::UpToDate);
}

#[test]
fn the_edited_job_is_told_once_whoever_reconciles_first() {
    let mut snapshot = made(PodState::Ready);
    let saying = |reason| {
        let conditions = Conditions::new(&[], Some(1), &Time(at(0)))
            .set(ConditionType::Updating, Some(false), reason, "words")
            .build();
        DaskClusterStatus { conditions, ..DaskClusterStatus::default() }
    };
    let (current, ignored) = (saying(Reason::UpToDate), saying(Reason::EditIgnored));
    assert_eq!(news_of_late_edit(&snapshot, &current, &ignored), None, "no job");
    snapshot.job = Some(job(2));
    let (told, news) = news_of_late_edit(&snapshot, &current, &ignored).unwrap();
    assert_eq!((told.name_any().as_str(), news.reason, news.warning), ("job", Reason::EditIgnored, true));
    assert_eq!(news_of_late_edit(&snapshot, &ignored, &ignored), None);
    assert_eq!(news_of_late_edit(&snapshot, &ignored, &current), None);
}
