//! The runner of a job, from its pod's status. Pure.

use dask_operator_api::Reason;
use dask_operator_api::labels::SCHEDULER_GATE;

use super::records::{PodProblem, PodRecord, RunnerPhase, RunnerRecord};
use super::wire_pod::{ContainerStatus, WirePod};
use crate::words::shortened;

/// What is kept of a runner, beyond what `pod`, the record of every pod, has.
pub(super) fn record(wire: &WirePod, pod: &PodRecord) -> RunnerRecord {
    let status = &wire.status;
    let containers = &status.container_statuses;
    let started = containers.iter().filter_map(ContainerStatus::started).min();
    let phase = match status.phase.as_deref() {
        Some("Succeeded") => RunnerPhase::Succeeded,
        Some("Failed") => RunnerPhase::Failed,
        // Between two tries to start a program that its image lacks the pod is called running, too.
        Some("Running") if started.is_none() && containers.iter().any(ContainerStatus::failed_to_start) => {
            RunnerPhase::Pending
        }
        Some("Running") => RunnerPhase::Running,
        // A node that is not heard of leaves the phase unknown; what ran there may run on.
        Some("Unknown") if started.is_some() => RunnerPhase::Running,
        _ => RunnerPhase::Pending,
    };
    let ended = containers.iter().filter_map(ContainerStatus::finished).max();
    RunnerRecord {
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        owner_uid: pod.owner_uid.clone(),
        terminating: wire.metadata.terminating,
        gated: wire.spec.has_gate(SCHEDULER_GATE),
        phase,
        // The statuses of containers are lost when a pod is evicted.
        started: started.or_else(|| status.accepted().filter(|_| phase != RunnerPhase::Pending)),
        ended: ended.filter(|_| phase.is_final()),
        problem: pod.problem.as_deref().cloned().or_else(|| kept_open(wire)),
        waiting_since: pod.startup.waiting_since,
    }
}

/// That a container which is not started again has ended while another runs on: the pod, and so the job, does not end
/// before that one does. Which of them the job is about is its author's to know, so nothing is done about it.
fn kept_open(pod: &WirePod) -> Option<PodProblem> {
    if pod.status.phase.as_deref() != Some("Running") || pod.metadata.terminating {
        return None;
    }
    let policy = pod.spec.restart_policy.as_deref();
    let containers = &pod.status.container_statuses;
    let ended = containers.iter().find_map(|container| {
        let end = container.state.terminated.as_ref()?;
        let for_good = policy == Some("Never") || (policy == Some("OnFailure") && end.exit_code == 0);
        for_good.then_some((container, end.exit_code))
    });
    let (ended, code) = ended?;
    let runs = containers.iter().find(|container| container.is_running())?;
    let message = format!(
        "container \"{}\" of pod \"{}\" ended with exit code {code}, but container \"{}\" runs on, and the job ends when \
         all have ended; if that one only helps, make it an init container with restartPolicy Always, which ends with the \
         others",
        shortened(&ended.name),
        pod.metadata.name(),
        shortened(&runs.name),
    );
    Some(PodProblem { reason: Reason::RunnerKeptOpen, message })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster_cache::intern::Interner;
    use crate::cluster_cache::pods::PodEntry;

    fn runner(status: &Value) -> RunnerRecord {
        let pod: WirePod = serde_json::from_value(json!({
            "metadata": {
                "name": "job-runner", "namespace": "ns", "uid": "u",
                "labels": {"dask.org/cluster-name": "job", "dask.org/component": "job-runner"},
                "ownerReferences": [{"uid": "job-uid", "controller": true}],
            },
            "spec": {"nodeName": "node"},
            "status": status,
        }))
        .unwrap();
        let entry = PodEntry::new(&pod, &mut Interner::default());
        RunnerRecord::clone(&entry.runner.unwrap())
    }

    fn running(started: &str) -> Value {
        json!({"name": "job", "state": {"running": {"startedAt": started}}})
    }

    fn ended(started: &str, finished: &str) -> Value {
        json!({"name": "job", "state": {"terminated": {
            "exitCode": 0, "startedAt": started, "finishedAt": finished}}})
    }

    #[rstest]
    #[case(json!({}), RunnerPhase::Pending)]
    #[case(json!({"phase": "Pending"}), RunnerPhase::Pending)]
    #[case(json!({"phase": "Running"}), RunnerPhase::Running)]
    #[case(json!({"phase": "Succeeded"}), RunnerPhase::Succeeded)]
    #[case(json!({"phase": "Failed"}), RunnerPhase::Failed)]
    #[case(json!({"phase": "Unknown"}), RunnerPhase::Pending)]
    #[case(json!({"phase": "Unknown", "containerStatuses": [running("2026-01-01T00:00:00Z")]}), RunnerPhase::Running)]
    fn phases(#[case] status: Value, #[case] phase: RunnerPhase) {
        assert_eq!(runner(&status).phase, phase);
    }

    #[test]
    fn the_start_is_that_of_the_first_container_and_the_end_that_of_the_last() {
        let times = |record: RunnerRecord| {
            (record.started.map(|time| time.to_string()), record.ended.map(|time| time.to_string()))
        };
        let status = |phase: &str, containers: &[Value]| json!({"phase": phase, "startTime": "2026-01-01T00:00:00Z", "containerStatuses": containers});
        let (first, second) = ("2026-01-01T00:00:05Z", "2026-01-01T00:00:06Z");
        let (third, fourth) = ("2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z");
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            times(runner(&status("Running", &[running(second), running(first)]))),
            (some(first), None)
        );
        assert_eq!(
            times(runner(&status("Succeeded", &[ended(first, third), ended(second, fourth)]))),
            (some(first), some(fourth))
        );
        let sidecar_runs_on = [ended(first, third), running(second)];
        assert_eq!(times(runner(&status("Running", &sidecar_runs_on))), (some(first), None));
        assert_eq!(times(runner(&status("Failed", &[]))), (some("2026-01-01T00:00:00Z"), None), "evicted");
        assert_eq!(times(runner(&status("Pending", &[]))), (None, None));
    }

    #[test]
    fn a_container_that_was_restarted_started_before() {
        let restarted = json!({
            "name": "job", "restartCount": 1, "state": {"running": {"startedAt": "2026-01-01T00:05:00Z"}},
            "lastState": {"terminated": {"exitCode": 1, "startedAt": "2026-01-01T00:00:05Z"}},
        });
        let record = runner(&json!({"phase": "Running", "containerStatuses": [restarted]}));
        assert_eq!(record.started.map(|time| time.to_string()).as_deref(), Some("2026-01-01T00:00:05Z"));
    }

    /// As containerd reports a program that its image lacks.
    fn lacking() -> Value {
        json!({"exitCode": 128, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z",
            "finishedAt": "2026-01-01T00:00:05Z",
            "message": "exec: \"dask-run\": executable file not found in $PATH: unknown"})
    }

    #[rstest]
    #[case::between_two_tries(json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({"terminated": lacking()}))]
    #[case::just_now(json!({"terminated": lacking()}), json!({}))]
    fn a_program_that_never_ran_has_not_started(#[case] state: Value, #[case] last_state: Value) {
        let container = json!({"name": "job", "restartCount": 3, "state": state, "lastState": last_state});
        let record = runner(&json!({"phase": "Running", "containerStatuses": [container]}));
        assert_eq!((record.phase, record.started), (RunnerPhase::Pending, None));
        assert_eq!(record.problem.unwrap().reason, Reason::CrashLoop);
        // Beside it, one that runs has started.
        let other = running("2026-01-01T00:00:07Z");
        let record = runner(&json!({"phase": "Running", "containerStatuses": [container, other]}));
        assert_eq!(record.phase, RunnerPhase::Running);
        assert_eq!(record.started.map(|time| time.to_string()).as_deref(), Some("2026-01-01T00:00:07Z"));
    }

    #[test]
    fn a_program_that_never_ran_and_is_not_tried_again_has_failed() {
        let container = json!({"name": "job", "image": "dask:1", "state": {"terminated": lacking()}});
        let status =
            json!({"phase": "Failed", "startTime": "2026-01-01T00:00:00Z", "containerStatuses": [container]});
        let record = runner(&status);
        assert_eq!(record.phase, RunnerPhase::Failed);
        let times = [record.started, record.ended].map(|time| time.unwrap().to_string());
        assert_eq!(times, ["2026-01-01T00:00:00Z", "2026-01-01T00:00:05Z"], "since the kubelet took it");
        let problem = record.problem.unwrap();
        assert_eq!(problem.reason, Reason::PodFailed);
        assert!(problem.message.contains("executable file not found"), "{}", problem.message);
        assert!(problem.message.contains("the image lacks the command"), "{}", problem.message);
    }

    #[rstest]
    #[case::never(json!("Never"), 0, true)]
    #[case::never_failed(json!("Never"), 3, true)]
    #[case::on_failure(json!("OnFailure"), 0, true)]
    #[case::again(json!("OnFailure"), 3, false)]
    #[case::always(json!(null), 0, false)]
    fn a_helper_that_keeps_a_job_from_ending_is_named(
        #[case] policy: Value,
        #[case] code: i32,
        #[case] named: bool,
    ) {
        let main = json!({"name": "job", "state": {"terminated": {"exitCode": code}}});
        let helper = json!({"name": "proxy", "state": {"running": {}}});
        let pod = |containers: Value| {
            let pod: WirePod = serde_json::from_value(json!({
                "metadata": {"name": "job-runner", "labels": {"dask.org/component": "job-runner"}},
                "spec": {"nodeName": "n", "restartPolicy": policy},
                "status": {"phase": "Running", "containerStatuses": containers},
            }))
            .unwrap();
            kept_open(&pod)
        };
        let problem = pod(json!([main, helper]));
        assert_eq!(problem.is_some(), named);
        let words = problem.map(|problem| problem.message).unwrap_or_default();
        assert_eq!(
            named,
            words.contains("\"proxy\" runs on") && words.contains("restartPolicy Always"),
            "{words}"
        );
        assert_eq!(pod(json!([helper])), None);
        assert_eq!(pod(json!([main])), None, "the pod is about to end");
    }

    #[test]
    fn only_the_own_gate_counts() {
        let gated = |gates: Value| {
            let pod: WirePod = serde_json::from_value(json!({
                "metadata": {"name": "job-runner", "labels": {"dask.org/component": "job-runner"}},
                "spec": {"schedulingGates": gates},
            }))
            .unwrap();
            PodEntry::new(&pod, &mut Interner::default()).runner.unwrap().gated
        };
        assert!(gated(json!([{"name": "example.org/x"}, {"name": SCHEDULER_GATE}])));
        assert!(!gated(json!([{"name": "example.org/x"}])) && !gated(json!([])));
    }

    #[test]
    fn the_rest_is_the_pods() {
        let record = runner(&json!({"phase": "Failed", "reason": "Evicted", "message": "no room"}));
        assert_eq!(
            (&*record.name, &*record.uid, record.owner_uid.as_deref()),
            ("job-runner", "u", Some("job-uid"))
        );
        assert!(record.problem.unwrap().message.contains("no room"));
        assert!(!record.terminating);
    }
}
