//! What stands in the way of the job that a cluster belongs to. The job's own status has no place for it. Pure.

use dask_operator_api::{ConditionType, Conditions, DaskClusterStatus, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::cluster_cache::records::{RunnerPhase, RunnerRecord};
use crate::cluster_cache::snapshot::{ClusterSnapshot, job_of, runner_of};
use crate::controllers::Obstacle;

/// Adds the condition `RunnerReady` to the status of a job's cluster; `obstacle` is the job's.
pub(super) fn with_runner(
    mut status: DaskClusterStatus,
    snapshot: &ClusterSnapshot,
    obstacle: Option<&Obstacle>,
    previous: &DaskClusterStatus,
    now: Timestamp,
) -> DaskClusterStatus {
    let cluster = &snapshot.cluster;
    let Some(job) = job_of(cluster) else { return status };
    let runner = runner_of(job, snapshot.runner.as_deref());
    let (ready, reason, message) = finding(runner, obstacle);
    let time = Time(now);
    let built = Conditions::new(&previous.conditions, cluster.metadata.generation, &time)
        .set(ConditionType::RunnerReady, Some(ready), reason, &message)
        .build();
    let type_: &str = ConditionType::RunnerReady.into();
    if let Some(condition) = built.into_iter().find(|condition| condition.type_ == type_) {
        status.conditions.retain(|old| old.type_ != type_);
        status.conditions.push(condition);
    }
    status
}

fn finding(runner: Option<&RunnerRecord>, obstacle: Option<&Obstacle>) -> (bool, Reason, String) {
    if let Some(obstacle) = obstacle {
        return (false, obstacle.reason, obstacle.message.clone());
    }
    let Some(runner) = runner else {
        return (false, Reason::Starting, "the job's runner pod is being created".to_owned());
    };
    // An end that would be a problem of a worker.
    if runner.phase == RunnerPhase::Succeeded {
        return (true, Reason::AllReady, format!("pod \"{}\" ended well", runner.name));
    }
    if let Some(problem) = &runner.problem {
        return (false, problem.reason, problem.message.clone());
    }
    if runner.gated && runner.phase == RunnerPhase::Pending {
        let message = format!("pod \"{}\" is started when the scheduler is ready and answers", runner.name);
        return (false, Reason::WaitingForScheduler, message);
    }
    if runner.phase == RunnerPhase::Pending {
        return (false, Reason::Starting, format!("pod \"{}\" is starting", runner.name));
    }
    (true, Reason::AllReady, format!("pod \"{}\" runs", runner.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_cache::records::{PodProblem, PodState};
    use crate::controllers::cluster::testing::{at, made, of_job};
    use crate::controllers::job::testing::runner;

    fn found(snapshot: &ClusterSnapshot, obstacle: Option<&Obstacle>) -> Option<(String, String)> {
        let empty = DaskClusterStatus::default();
        let status = with_runner(empty.clone(), snapshot, obstacle, &empty, at(0));
        let again = with_runner(status.clone(), snapshot, obstacle, &status, at(60));
        assert_eq!(again, status, "nothing to write");
        status.conditions.into_iter().next().map(|condition| (condition.status, condition.reason))
    }

    fn expected(status: &str, reason: &str) -> (String, String) {
        (status.to_owned(), reason.to_owned())
    }

    #[test]
    fn only_clusters_of_jobs_have_it() {
        assert_eq!(found(&made(PodState::Ready), None), None);
    }

    #[test]
    fn how_the_runner_comes_on() {
        assert_eq!(found(&of_job(None), None), Some(expected("False", "Starting")));
        assert_eq!(
            found(&of_job(Some(runner(RunnerPhase::Pending))), None),
            Some(expected("False", "Starting"))
        );
        let gated = RunnerRecord { gated: true, ..runner(RunnerPhase::Pending) };
        assert_eq!(found(&of_job(Some(gated)), None), Some(expected("False", "WaitingForScheduler")));
        assert_eq!(
            found(&of_job(Some(runner(RunnerPhase::Running))), None),
            Some(expected("True", "AllReady"))
        );
        let problem = Some(PodProblem { reason: Reason::WorkerExited, message: "it ended".to_owned() });
        let done = RunnerRecord { problem, ..runner(RunnerPhase::Succeeded) };
        assert_eq!(found(&of_job(Some(done)), None), Some(expected("True", "AllReady")));
        let stranger = RunnerRecord { owner_uid: None, ..runner(RunnerPhase::Running) };
        assert_eq!(found(&of_job(Some(stranger)), None), Some(expected("False", "Starting")));
    }

    #[test]
    fn what_is_in_the_way_is_told() {
        let obstacle = Obstacle::new(Reason::QuotaExceeded, "no room");
        assert_eq!(found(&of_job(None), Some(&obstacle)), Some(expected("False", "QuotaExceeded")));
        let problem = PodProblem { reason: Reason::CrashLoop, message: "it crashes".to_owned() };
        let crashing = RunnerRecord { problem: Some(problem), ..runner(RunnerPhase::Running) };
        assert_eq!(found(&of_job(Some(crashing)), None), Some(expected("False", "CrashLoop")));
    }
}
