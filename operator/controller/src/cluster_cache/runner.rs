//! The runner of a job, from its pod's status. Pure.

use super::records::{PodRecord, RunnerPhase, RunnerRecord};
use super::wire_pod::{ContainerStatus, WirePod};

/// What is kept of a runner, beyond what `pod`, the record of every pod, has.
pub(super) fn record(wire: &WirePod, pod: &PodRecord) -> RunnerRecord {
    let status = &wire.status;
    let containers = &status.container_statuses;
    let started = containers.iter().filter_map(ContainerStatus::started).min();
    let phase = match status.phase.as_deref() {
        Some("Succeeded") => RunnerPhase::Succeeded,
        Some("Failed") => RunnerPhase::Failed,
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
        phase,
        // The statuses of containers are lost when a pod is evicted.
        started: started.or_else(|| status.accepted().filter(|_| phase != RunnerPhase::Pending)),
        ended: ended.filter(|_| phase.is_final()),
        problem: pod.problem.as_deref().cloned(),
        waiting_since: pod.startup.waiting_since,
    }
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
