use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;

use super::*;
use crate::cluster_cache::records::{PodProblem, PodState};
use crate::controllers::cluster::testing::pod;
use crate::controllers::job::testing::{at, job, made, new, own_cluster, runner};
use crate::scheduler_link::testing;

fn known(status: JobStatus) -> DaskJobStatus {
    DaskJobStatus { job_status: Some(status), ..DaskJobStatus::default() }
}

fn decided(snapshot: &JobSnapshot, previous: &DaskJobStatus) -> JobPlan {
    decide(snapshot, previous, &Inputs { standing: None, link: &LinkView::default() }, at(100))
}

/// What a creation is of: cluster, runner.
fn creates(plan: &JobPlan) -> (bool, bool) {
    match &plan.step {
        Step::Create { cluster, runner } => (cluster.is_some(), runner.is_some()),
        _ => (false, false),
    }
}

fn finishes(plan: JobPlan) -> (Option<String>, Ending) {
    match plan.step {
        Step::Finish { cluster, ending: Some(ending) } => (cluster, ending),
        other => panic!("{other:?}"),
    }
}

fn reason(plan: &JobPlan) -> Option<Reason> {
    plan.obstacle.as_ref().map(|obstacle| obstacle.reason)
}

#[test]
fn cluster_and_runner_are_made_at_once() {
    let plan = decided(&new(), &DaskJobStatus::default());
    assert_eq!(creates(&plan), (true, true));
    assert_eq!(plan.obstacle, None);
}

#[rstest]
#[case::cluster(JobSnapshot { cluster: Some(Arc::new(own_cluster())), ..new() }, (false, true))]
#[case::runner(JobSnapshot { cluster: None, ..made(RunnerPhase::Pending) }, (true, false))]
#[case::both(made(RunnerPhase::Pending), (false, false))]
#[case::running(made(RunnerPhase::Running), (false, false))]
#[case::cluster_went_while_running(JobSnapshot { cluster: None, ..made(RunnerPhase::Running) }, (false, false))]
fn only_what_is_missing_is_made(#[case] snapshot: JobSnapshot, #[case] expected: (bool, bool)) {
    let plan = decided(&snapshot, &known(JobStatus::JobCreated));
    assert_eq!(creates(&plan), expected);
    assert_eq!(plan.obstacle, None);
    assert!(!matches!(plan.step, Step::Finish { .. }));
}

#[rstest]
#[case(RunnerPhase::Succeeded, JobStatus::Successful, Reason::JobSucceeded)]
#[case(RunnerPhase::Failed, JobStatus::Failed, Reason::JobFailed)]
fn the_runners_end_is_the_jobs(
    #[case] phase: RunnerPhase,
    #[case] status: JobStatus,
    #[case] reason: Reason,
    #[values(None, Some(JobStatus::JobCreated), Some(JobStatus::Running))] previous: Option<JobStatus>,
) {
    let previous = DaskJobStatus { job_status: previous, ..DaskJobStatus::default() };
    let (cluster, ending) = finishes(decided(&made(phase), &previous));
    assert_eq!(cluster.as_deref(), Some("cluster-uid"));
    assert_eq!((ending.status, ending.reason), (status, reason));
    assert_eq!((ending.started, ending.ended, ending.vanished), (Some(at(5)), at(60), false));
}

#[test]
fn a_failure_is_told_in_the_pods_words() {
    let mut failed = runner(RunnerPhase::Failed);
    failed.problem = Some(PodProblem { reason: Reason::OutOfMemory, message: "it took too much".to_owned() });
    let snapshot = JobSnapshot { runner: Some(Arc::new(failed)), ..made(RunnerPhase::Failed) };
    assert_eq!(finishes(decided(&snapshot, &known(JobStatus::Running))).1.message, "it took too much");
}

#[test]
fn an_end_without_times_gets_them() {
    let bare = RunnerRecord { started: None, ended: None, ..runner(RunnerPhase::Failed) };
    let snapshot = JobSnapshot { runner: Some(Arc::new(bare)), ..made(RunnerPhase::Failed) };
    let (_, ending) = finishes(decided(&snapshot, &known(JobStatus::ClusterCreated)));
    assert_eq!((ending.started, ending.ended), (Some(at(100)), at(100)));
}

#[rstest]
#[case::status_says_so(known(JobStatus::Running), None)]
#[case::start_says_so(DaskJobStatus { start_time: Some(Time(at(5))), ..known(JobStatus::ClusterCreated) }, None)]
#[case::it_was_seen(known(JobStatus::ClusterCreated), Some(RunnerPhase::Running))]
fn a_runner_that_vanished_after_its_start_failed(
    #[case] previous: DaskJobStatus,
    #[case] seen: Option<RunnerPhase>,
    #[values(false, true)] another_has_the_name: bool,
) {
    let other = RunnerRecord { owner_uid: Some("other-uid".into()), ..runner(RunnerPhase::Running) };
    let snapshot = JobSnapshot {
        runner: another_has_the_name.then(|| Arc::new(other)),
        last_run: seen.map(|phase| Arc::new(runner(phase))),
        ..made(RunnerPhase::Pending)
    };
    let (cluster, ending) = finishes(decided(&snapshot, &previous));
    assert_eq!(cluster.as_deref(), Some("cluster-uid"));
    assert_eq!((ending.status, ending.reason), (JobStatus::Failed, Reason::JobFailed));
    assert!(ending.vanished && ending.message.contains("\"job-runner\" was deleted"), "{ending:?}");
}

#[test]
fn a_runner_that_ended_and_was_removed_at_once_counts_as_it_ended() {
    let snapshot = JobSnapshot { runner: None, ..made(RunnerPhase::Succeeded) };
    let (_, ending) = finishes(decided(&snapshot, &known(JobStatus::Running)));
    assert_eq!((ending.status, ending.ended, ending.vanished), (JobStatus::Successful, at(60), false));
}

#[test]
fn a_runner_that_vanished_before_its_start_is_made_again() {
    let snapshot = JobSnapshot { runner: None, ..made(RunnerPhase::Pending) };
    assert_eq!(creates(&decided(&snapshot, &known(JobStatus::ClusterCreated))), (false, true));
}

#[test]
fn a_run_of_an_earlier_job_of_the_name_does_not_count() {
    let earlier = RunnerRecord { owner_uid: Some("earlier-uid".into()), ..runner(RunnerPhase::Succeeded) };
    let snapshot = JobSnapshot { last_run: Some(Arc::new(earlier)), ..new() };
    assert_eq!(creates(&decided(&snapshot, &known(JobStatus::JobCreated))), (true, true));
}

#[test]
fn a_runner_that_is_going_is_waited_for() {
    let going = |phase| {
        let going = RunnerRecord { terminating: true, ..runner(phase) };
        JobSnapshot { runner: Some(Arc::new(going)), ..made(phase) }
    };
    let plan = decided(&going(RunnerPhase::Pending), &known(JobStatus::ClusterCreated));
    assert_eq!((reason(&plan), plan.requeue_after), (Some(Reason::WaitingForDeletion), Some(GOING)));
    let plan = decided(&going(RunnerPhase::Running), &known(JobStatus::Running));
    assert_eq!((plan.step, plan.obstacle), (Step::Wait, None));
}

#[rstest]
#[case::a_strangers(None, Reason::NameTaken)]
#[case::an_earlier_jobs(Some("earlier-uid"), Reason::WaitingForDeletion)]
fn objects_of_others_are_never_adopted(#[case] owner: Option<&str>, #[case] expected: Reason) {
    let mut cluster = own_cluster();
    match owner {
        Some(uid) => uid.clone_into(&mut cluster.owner_references_mut()[0].uid),
        None => cluster.owner_references_mut().clear(),
    }
    let plan =
        decided(&JobSnapshot { cluster: Some(Arc::new(cluster)), ..new() }, &known(JobStatus::JobCreated));
    assert_eq!((creates(&plan), reason(&plan)), ((false, false), Some(expected)));
    assert!(plan.obstacle.unwrap().message.contains("DaskCluster \"job\""));

    let other = RunnerRecord { owner_uid: owner.map(Into::into), ..runner(RunnerPhase::Succeeded) };
    let plan =
        decided(&JobSnapshot { runner: Some(Arc::new(other)), ..new() }, &known(JobStatus::JobCreated));
    assert_eq!((creates(&plan), reason(&plan)), ((false, false), Some(expected)));
    assert!(plan.obstacle.unwrap().message.contains("Pod \"job-runner\""));
}

#[test]
fn the_own_cluster_is_not_made_while_it_goes() {
    let mut cluster = own_cluster();
    cluster.metadata.deletion_timestamp = Some(Time(at(0)));
    let plan =
        decided(&JobSnapshot { cluster: Some(Arc::new(cluster)), ..new() }, &known(JobStatus::JobCreated));
    assert_eq!((creates(&plan), reason(&plan)), ((false, false), Some(Reason::WaitingForDeletion)));
}

#[test]
fn a_refusal_stands_but_keeps_nobody_from_the_end() {
    let standing = StandingRefusal {
        obstacle: Obstacle::new(Reason::QuotaExceeded, "no room"),
        wait: Duration::from_secs(4),
    };
    let inputs = Inputs { standing: Some(&standing), link: &LinkView::default() };
    let plan = decide(&new(), &known(JobStatus::JobCreated), &inputs, at(0));
    assert_eq!((creates(&plan), reason(&plan)), ((false, false), Some(Reason::QuotaExceeded)));
    assert_eq!(plan.requeue_after, Some(standing.wait));
    let plan = decide(&made(RunnerPhase::Succeeded), &known(JobStatus::Running), &inputs, at(0));
    assert!(matches!(plan.step, Step::Finish { .. }));
}

#[rstest]
fn what_has_ended_is_left_alone(#[values(JobStatus::Successful, JobStatus::Failed)] status: JobStatus) {
    let without_cluster = JobSnapshot { cluster: None, ..made(RunnerPhase::Succeeded) };
    assert_eq!(decided(&without_cluster, &known(status)), JobPlan::default());
    assert_eq!(decided(&new(), &known(status)), JobPlan::default(), "the runner was cleaned up");
    let late = decided(&made(RunnerPhase::Failed), &known(status));
    assert_eq!(late.step, Step::Finish { cluster: Some("cluster-uid".to_owned()), ending: None });
}

#[rstest]
#[case(&"a".repeat(54), "54 characters")]
#[case("with.dots", "'.'")]
fn a_bad_name_fails_the_job(#[case] name: &str, #[case] words: &str) {
    let snapshot = JobSnapshot { job: Arc::new(job(name)), ..new() };
    let (cluster, ending) = finishes(decided(&snapshot, &known(JobStatus::JobCreated)));
    assert_eq!((cluster, ending.status, ending.started), (None, JobStatus::Failed, None));
    assert_eq!(ending.reason, Reason::InvalidName);
    assert!(ending.message.contains(words), "{}", ending.message);
}

#[test]
fn a_job_that_goes_is_left_alone() {
    let mut job = job("job");
    job.metadata.deletion_timestamp = Some(Time(at(0)));
    let plan = decided(&JobSnapshot { job: Arc::new(job), ..new() }, &DaskJobStatus::default());
    assert_eq!(plan.step, Step::Wait);
}

/// A job whose runner waits for this scheduler.
fn gated(scheduler: PodState) -> JobSnapshot {
    let runner = RunnerRecord { gated: true, ..runner(RunnerPhase::Pending) };
    let scheduler_pods = vec![Arc::new(pod("job-scheduler", scheduler))];
    JobSnapshot { runner: Some(Arc::new(runner)), scheduler_pods, ..made(RunnerPhase::Pending) }
}

#[test]
fn the_runner_starts_when_the_scheduler_answers() {
    let link = testing::heard(testing::sample("one"));
    let decided = |snapshot: &JobSnapshot, standing| {
        decide(snapshot, &known(JobStatus::ClusterCreated), &Inputs { standing, link: &link }, at(100))
    };
    assert_eq!(decided(&gated(PodState::Starting), None), JobPlan::default(), "its pod wakes");
    let open = Step::StartRunner { uid: "runner-uid".to_owned() };
    assert_eq!(decided(&gated(PodState::Ready), None).step, open);
    let started =
        JobSnapshot { scheduler_pods: gated(PodState::Ready).scheduler_pods, ..made(RunnerPhase::Pending) };
    assert_eq!(decided(&started, None), JobPlan::default(), "once");
    let without_cluster = JobSnapshot { cluster: None, ..gated(PodState::Ready) };
    assert_eq!(creates(&decided(&without_cluster, None)), (true, false), "first the cluster");

    let standing = StandingRefusal {
        obstacle: Obstacle::new(Reason::AdmissionRefused, "no patches"),
        wait: Duration::from_secs(4),
    };
    let plan = decided(&gated(PodState::Ready), Some(&standing));
    assert_eq!((plan.step, plan.obstacle), (Step::Wait, Some(standing.obstacle)));
}

#[test]
fn a_scheduler_that_is_ready_but_silent_is_looked_at_again() {
    let plan = decided(&gated(PodState::Ready), &known(JobStatus::ClusterCreated));
    assert_eq!((plan.step, plan.requeue_after), (Step::StartRunner { uid: "runner-uid".to_owned() }, None));
    let mut snapshot = gated(PodState::Ready);
    Arc::make_mut(&mut snapshot.scheduler_pods[0]).ready_since = Some(at(99));
    let plan = decided(&snapshot, &known(JobStatus::ClusterCreated));
    assert_eq!((plan.step, plan.requeue_after), (Step::Wait, Some(Duration::from_secs(1))));
}
