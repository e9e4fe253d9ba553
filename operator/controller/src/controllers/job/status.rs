//! The status of a job, from what was observed. Pure: no client, no clock.

use dask_operator_api::{DaskJobStatus, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::build;
use super::decide::{is_final, own_cluster, own_runner};
use super::plan::Ending;
use crate::cluster_cache::records::RunnerPhase;
use crate::cluster_cache::snapshot::JobSnapshot;

/// The status of a job that has not ended. It never goes back: that the runner runs is never forgotten again.
#[must_use]
pub fn status(snapshot: &JobSnapshot, previous: &DaskJobStatus) -> DaskJobStatus {
    let runner = own_runner(snapshot);
    let started = runner.filter(|runner| runner.phase != RunnerPhase::Pending);
    let seen = match (started, runner, own_cluster(snapshot)) {
        (Some(_), _, _) => JobStatus::Running,
        (None, Some(_), Some(_)) => JobStatus::ClusterCreated,
        _ => JobStatus::JobCreated,
    };
    let job_status = previous.job_status.filter(|known| rank(*known) > rank(seen)).unwrap_or(seen);
    if is_final(job_status) {
        return previous.clone();
    }
    let start_time = started.and_then(|runner| runner.started).map(Time);
    DaskJobStatus {
        job_status: Some(job_status),
        start_time: previous.start_time.clone().or(start_time),
        ..named(snapshot, previous)
    }
}

/// The status of a job that has ended so.
#[must_use]
pub fn final_status(snapshot: &JobSnapshot, previous: &DaskJobStatus, ending: &Ending) -> DaskJobStatus {
    DaskJobStatus {
        job_status: Some(ending.status),
        start_time: previous.start_time.clone().or(ending.started.map(Time)),
        end_time: Some(Time(ending.ended)),
        ..named(snapshot, previous)
    }
}

/// The names of cluster and runner follow from the job's, so they are known before either is made.
fn named(snapshot: &JobSnapshot, previous: &DaskJobStatus) -> DaskJobStatus {
    let name = snapshot.job.name_any();
    DaskJobStatus {
        cluster_name: Some(name.clone()),
        job_runner_pod_name: Some(build::runner_name(&name)),
        ..previous.clone()
    }
}

fn rank(status: JobStatus) -> u8 {
    match status {
        JobStatus::JobCreated => 0,
        JobStatus::ClusterCreated => 1,
        JobStatus::Running => 2,
        JobStatus::Successful | JobStatus::Failed => 3,
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
