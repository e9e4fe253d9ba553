//! What a job needs next. Pure: no client, no clock.

use std::time::Duration;

use dask_operator_api::{ClusterName, DaskCluster, DaskJob, DaskJobStatus, JobStatus, Reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::build;
use super::gate::{Gate, gate};
use super::plan::{Ending, JobPlan, Step};
use crate::cluster_cache::records::{RunnerPhase, RunnerRecord};
use crate::cluster_cache::snapshot::JobSnapshot;
use crate::controllers::Obstacle;
use crate::controllers::obstacle::StandingRefusal;
use crate::scheduler_link::LinkView;

/// An object that is going is seen to go by its watch, unless it lost the labels that are watched.
const GOING: Duration = Duration::from_secs(10);

/// What is known besides the watched objects.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// A write that was refused and is not to be tried again yet.
    pub standing: Option<&'a StandingRefusal>,
    /// What is known from the scheduler of the job's cluster.
    pub link: &'a LinkView,
}

/// Decides what to do for a job, from its runner pod and its last status.
#[must_use]
pub fn decide(snapshot: &JobSnapshot, previous: &DaskJobStatus, inputs: &Inputs, now: Timestamp) -> JobPlan {
    let job = &*snapshot.job;
    let mut plan = JobPlan::default();
    if job.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let cluster = own_cluster(snapshot).filter(|cluster| cluster.metadata.deletion_timestamp.is_none());
    let cluster = cluster.and_then(|cluster| cluster.metadata.uid.clone());
    if previous.job_status.is_some_and(is_final) {
        // There may be one whose creation was answered late.
        plan.step = cluster.map_or(Step::Wait, |uid| Step::Finish { cluster: Some(uid), ending: None });
        return plan;
    }
    let name: ClusterName = match job.name_any().parse() {
        Ok(name) => name,
        Err(error) => {
            let ending = failed(now, Reason::InvalidName, format!("{error}"));
            plan.step = Step::Finish { cluster, ending: Some(ending) };
            return plan;
        }
    };
    if let Some(ending) = ending(snapshot, previous, now) {
        plan.step = Step::Finish { cluster, ending: Some(ending) };
        return plan;
    }
    // A cluster that goes while the program runs, for example because it was idle for too long, stays away.
    if own_runner(snapshot).is_some_and(|runner| runner.phase != RunnerPhase::Pending) {
        return plan;
    }
    match creation(snapshot, &name) {
        Err(obstacle) => {
            plan.requeue_after = (obstacle.reason == Reason::WaitingForDeletion).then_some(GOING);
            plan.obstacle = Some(obstacle);
        }
        Ok((None, None)) => start(snapshot, inputs.link, now, &mut plan),
        Ok((cluster, runner)) => plan.step = Step::Create { cluster, runner },
    }
    if let Some(refusal) = inputs.standing.filter(|_| plan.step != Step::Wait) {
        plan.step = Step::Wait;
        plan.obstacle = Some(refusal.obstacle.clone());
        plan.requeue_after = Some(refusal.wait);
    }
    plan
}

/// Lets the runner start when the scheduler can be reached.
fn start(snapshot: &JobSnapshot, link: &LinkView, now: Timestamp, plan: &mut JobPlan) {
    let Some(runner) = own_runner(snapshot).filter(|runner| runner.gated) else { return };
    match gate(&snapshot.scheduler_pods, link, now) {
        Gate::Open => plan.step = Step::StartRunner { uid: runner.uid.to_string() },
        Gate::Closed(again) => plan.requeue_after = again,
    }
}

/// Whether a job with this status has ended.
pub(super) fn is_final(status: JobStatus) -> bool {
    matches!(status, JobStatus::Successful | JobStatus::Failed)
}

/// The job's cluster, if the object of its name belongs to this job.
pub(super) fn own_cluster(snapshot: &JobSnapshot) -> Option<&DaskCluster> {
    let uid = snapshot.job.metadata.uid.as_deref();
    let cluster = snapshot.cluster.as_deref()?;
    (uid.is_some() && controller(cluster) == uid).then_some(cluster)
}

/// The runner, if the pod of its name belongs to this job.
pub(super) fn own_runner(snapshot: &JobSnapshot) -> Option<&RunnerRecord> {
    snapshot.runner.as_deref().filter(|runner| belongs(runner, &snapshot.job))
}

fn belongs(runner: &RunnerRecord, job: &DaskJob) -> bool {
    runner.owner_uid.is_some() && runner.owner_uid.as_deref() == job.metadata.uid.as_deref()
}

fn controller(cluster: &DaskCluster) -> Option<&str> {
    let owner = cluster.owner_references().iter().find(|owner| owner.controller == Some(true));
    owner.map(|owner| owner.uid.as_str())
}

/// How the job ended, if it did.
fn ending(snapshot: &JobSnapshot, previous: &DaskJobStatus, now: Timestamp) -> Option<Ending> {
    if let Some(runner) = own_runner(snapshot) {
        return ended(runner, now);
    }
    let last_run = snapshot.last_run.as_deref().filter(|runner| belongs(runner, &snapshot.job));
    if let Some(ending) = last_run.and_then(|runner| ended(runner, now)) {
        return Some(ending);
    }
    let had_started = last_run.is_some()
        || previous.start_time.is_some()
        || previous.job_status == Some(JobStatus::Running);
    had_started.then(|| Ending {
        started: last_run.and_then(|runner| runner.started),
        vanished: true,
        ..failed(
            now,
            Reason::JobFailed,
            format!(
                "pod \"{}\" was deleted while it ran; it is not made again, because its program may have done part \
                 of its work",
                build::runner_name(&snapshot.job.name_any())
            ),
        )
    })
}

fn ended(runner: &RunnerRecord, now: Timestamp) -> Option<Ending> {
    let ended = runner.ended.unwrap_or(now);
    let started = Some(runner.started.unwrap_or(ended));
    match runner.phase {
        RunnerPhase::Succeeded => Some(Ending {
            status: JobStatus::Successful,
            started,
            ended,
            vanished: false,
            reason: Reason::JobSucceeded,
            message: format!("pod \"{}\" ended well", runner.name),
        }),
        RunnerPhase::Failed => {
            let message = runner.problem.as_ref().map(|problem| problem.message.clone());
            let message = message.unwrap_or_else(|| format!("pod \"{}\" failed", runner.name));
            Some(Ending { started, ..failed(ended, Reason::JobFailed, message) })
        }
        RunnerPhase::Pending | RunnerPhase::Running => None,
    }
}

fn failed(ended: Timestamp, reason: Reason, message: String) -> Ending {
    Ending { status: JobStatus::Failed, started: None, ended, vanished: false, reason, message }
}

type Missing = (Option<Box<DaskCluster>>, Option<Box<Pod>>);

/// What is missing. Nothing is made while the name of any of it is not free.
fn creation(snapshot: &JobSnapshot, name: &ClusterName) -> Result<Missing, Obstacle> {
    let job = &*snapshot.job;
    let template = build::cluster(job, name);
    let cluster = match snapshot.cluster.as_deref() {
        None => Some(Box::new(template.clone())),
        Some(live) if own_cluster(snapshot).is_some() => {
            let going = live.metadata.deletion_timestamp.is_some();
            if going {
                return Err(waiting("DaskCluster", name.as_str()));
            }
            None
        }
        Some(live) => {
            return Err(Obstacle::name_taken("DaskJob", "DaskCluster", name.as_str(), controller(live)));
        }
    };
    let pod = build::runner_name(name.as_str());
    let runner = match snapshot.runner.as_deref() {
        None => Some(Box::new(build::runner(job, &template))),
        Some(live) if belongs(live, job) && live.terminating => return Err(waiting("Pod", &pod)),
        Some(live) if belongs(live, job) => None,
        Some(live) => return Err(Obstacle::name_taken("DaskJob", "Pod", &pod, live.owner_uid.as_deref())),
    };
    Ok((cluster, runner))
}

fn waiting(kind: &str, name: &str) -> Obstacle {
    Obstacle::new(
        Reason::WaitingForDeletion,
        format!("{kind} \"{name}\" has to be gone before it is made again"),
    )
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
