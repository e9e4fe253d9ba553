use dask_operator_api::Reason;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::controllers::job::testing::{at, made, new};

fn known(status: JobStatus) -> DaskJobStatus {
    DaskJobStatus { job_status: Some(status), ..DaskJobStatus::default() }
}

fn ending(status: JobStatus) -> Ending {
    Ending {
        status,
        started: Some(at(5)),
        ended: at(60),
        vanished: false,
        reason: Reason::JobSucceeded,
        message: String::new(),
    }
}

#[test]
fn the_names_are_there_from_the_beginning() {
    let status = status(&new(), &DaskJobStatus::default());
    assert_eq!(
        json!(status),
        json!({"clusterName": "job", "jobRunnerPodName": "job-runner", "jobStatus": "JobCreated"})
    );
}

#[rstest]
#[case(RunnerPhase::Pending, JobStatus::ClusterCreated, false)]
#[case(RunnerPhase::Running, JobStatus::Running, true)]
#[case(RunnerPhase::Succeeded, JobStatus::Running, true)]
#[case(RunnerPhase::Failed, JobStatus::Running, true)]
fn the_runner_tells(#[case] phase: RunnerPhase, #[case] expected: JobStatus, #[case] started: bool) {
    let status = status(&made(phase), &known(JobStatus::JobCreated));
    assert_eq!(status.job_status, Some(expected));
    assert_eq!(status.start_time, started.then(|| Time(at(5))));
    assert_eq!(status.end_time, None, "the end comes with the cluster's");
}

#[test]
fn a_runner_without_a_cluster_is_only_half() {
    let half = JobSnapshot { cluster: None, ..made(RunnerPhase::Pending) };
    assert_eq!(status(&half, &known(JobStatus::JobCreated)).job_status, Some(JobStatus::JobCreated));
}

/// dask-kubernetes' handlers wrote `ClusterCreated` over `Running`.
#[rstest]
fn it_never_goes_back(
    #[values(JobStatus::ClusterCreated, JobStatus::Running)] previous: JobStatus,
    #[values(new(), made(RunnerPhase::Pending))] snapshot: JobSnapshot,
) {
    assert_eq!(status(&snapshot, &known(previous)).job_status, Some(previous));
}

#[rstest]
fn what_has_ended_stays(#[values(JobStatus::Successful, JobStatus::Failed)] previous: JobStatus) {
    let previous = known(previous);
    assert_eq!(status(&made(RunnerPhase::Running), &previous), previous);
}

#[test]
fn the_start_is_written_once() {
    let previous = DaskJobStatus { start_time: Some(Time(at(1))), ..known(JobStatus::Running) };
    assert_eq!(status(&made(RunnerPhase::Running), &previous).start_time, Some(Time(at(1))));
    let last = final_status(&made(RunnerPhase::Succeeded), &previous, &ending(JobStatus::Successful));
    assert_eq!(last.start_time, Some(Time(at(1))));
}

#[rstest]
fn the_final_status_has_exactly_five_keys(
    #[values(JobStatus::Successful, JobStatus::Failed)] end: JobStatus,
    #[values(DaskJobStatus::default(), known(JobStatus::JobCreated), known(JobStatus::Running))]
    previous: DaskJobStatus,
) {
    let last = final_status(&made(RunnerPhase::Succeeded), &previous, &ending(end));
    assert_eq!(
        json!(last),
        json!({
            "clusterName": "job", "jobRunnerPodName": "job-runner", "jobStatus": end.to_string(),
            "startTime": "2027-01-15T08:00:05Z", "endTime": "2027-01-15T08:01:00Z",
        })
    );
}
