use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::cluster_cache::records::{PodState, Startup};
use crate::controllers::group::testing::{at, record};

fn warning(reason: &str, message: &str, second: i64) -> WarningEvent {
    WarningEvent {
        reason: reason.to_owned(),
        message: message.to_owned(),
        container: None,
        time: Some(at(second)),
    }
}

fn waiting(ordinal: i64, since: i64) -> Arc<PodRecord> {
    let startup = Startup { waiting_since: Some(at(since)), ..Startup::default() };
    Arc::new(PodRecord { startup, ..record(ordinal, PodState::Starting) })
}

#[test]
fn the_newest_warning_that_names_a_cause_is_quoted() {
    let problem = explained(
        "w-1",
        &[
            warning("FailedScheduling", "0/2 nodes are available", 9),
            warning("FailedMount", "MountVolume.SetUp failed for volume \"old\": x", 1),
            warning(
                "FailedMount",
                "MountVolume.SetUp failed for volume \"feed\" :\n secret \"feed-credentials\" not found",
                2,
            ),
            warning(
                "FailedMount",
                "Unable to attach or mount volumes: timed out waiting for the condition",
                8,
            ),
        ],
    )
    .unwrap();
    assert_eq!(problem.reason, Reason::ContainerCannotStart);
    assert_eq!(
        problem.message,
        "pod \"w-1\" waits on its node (FailedMount): MountVolume.SetUp failed for volume \"feed\" : secret \
         \"feed-credentials\" not found; create what is missing or correct the pod spec"
    );
}

#[test]
fn a_pod_that_pulls_its_image_has_no_problem() {
    assert_eq!(explained("w-1", &[]), None);
    assert_eq!(explained("w-1", &[warning("FailedScheduling", "0/2 nodes", 1)]), None);
}

#[test]
fn a_tenants_own_warnings_are_cut() {
    let problem = explained("w-1", &[warning(&"R".repeat(9_999), &"x\n".repeat(9_999), 1)]).unwrap();
    assert!(problem.message.len() < 1_000 && !problem.message.contains('\n'));
}

#[rstest]
#[case(json!([{"name": "a", "secret": {"secretName": "s"}}, {"name": "b", "configMap": {"name": "c"}}]),
    Some("Secret \"s\", ConfigMap \"c\""))]
#[case(json!([{"name": "a", "persistentVolumeClaim": {"claimName": "p"}}]), Some("PersistentVolumeClaim \"p\""))]
#[case(json!([{"name": "a", "projected": {"sources": [{"secret": {"name": "s"}}, {"configMap": {"name": "c"}}]}}]),
    Some("Secret \"s\", ConfigMap \"c\""))]
#[case(json!([{"name": "a", "emptyDir": {}}, {"name": "b", "secret": {"secretName": "s", "optional": true}}]), None)]
#[case(json!([]), None)]
fn without_the_right_to_read_events_the_volumes_are_named(
    #[case] volumes: Value,
    #[case] named: Option<&str>,
) {
    let spec: PodSpec = serde_json::from_value(json!({"containers": [], "volumes": volumes})).unwrap();
    let problem = guessed("ns", "w-1", &spec);
    let message = problem.map(|problem| problem.message).unwrap_or_default();
    assert_eq!(named.is_some(), message.contains("kubectl describe pod -n ns w-1"), "{message}");
    assert!(message.contains(named.unwrap_or_default()), "{message}");
}

#[test]
fn nobody_is_asked_for_fifteen_seconds() {
    let waiter = Waiter::new("w-1", "uid-1", at(100));
    assert_eq!(patience_left(&waiter, at(100)), Some(Duration::from_secs(15)));
    assert_eq!(patience_left(&waiter, at(114)), Some(Duration::from_secs(1)));
    assert_eq!(patience_left(&waiter, at(115)), None);
    assert_eq!(patience_left(&waiter, at(0)), Some(Duration::from_secs(15)), "the clock is behind");
}

#[test]
fn the_pod_that_has_waited_longest_is_asked_for() {
    let pods = [waiting(1, 5), waiting(2, 3), Arc::new(record(3, PodState::Ready))];
    assert_eq!(Waiter::longest(&pods), Some(Waiter::new("w-2", "uid-2", at(3))));
    assert_eq!(Waiter::longest(&pods[2..]), None);
    let unready = [unready_since(4, 1), waiting(1, 5)];
    assert_eq!(Waiter::longest(&unready), Some(Waiter::new("w-1", "uid-1", at(5))), "a start comes first");
    assert_eq!(Waiter::longest(&unready[..1]).map(|waiter| waiter.wait), Some(Wait::Readiness));
}

#[test]
fn all_that_wait_as_long_share_the_cause() {
    let problem = PodProblem { reason: Reason::ContainerCannotStart, message: "no Secret".to_owned() };
    let explanation = Explanation { problem: Some(problem), ..Explanation::default() };
    let mut pods = [waiting(1, 0), waiting(2, 0), waiting(3, 10), Arc::new(record(4, PodState::Starting))];
    explanation.explain(&mut pods, at(20));
    let explained: Vec<_> = pods.iter().map(|pod| pod.problem.is_some()).collect();
    assert_eq!(explained, [true, true, false, false]);
}

fn unready_since(ordinal: i64, since: i64) -> Arc<PodRecord> {
    let startup = Startup { unready_since: Some(at(since)), ..Startup::default() };
    Arc::new(PodRecord { startup, running: true, ..record(ordinal, PodState::Starting) })
}

fn probe(message: &str, container: &str, second: i64) -> WarningEvent {
    WarningEvent { container: Some(container.to_owned()), ..warning("Unhealthy", message, second) }
}

#[test]
fn a_probe_that_does_not_succeed_is_quoted() {
    let waiter = Waiter::longest(&[unready_since(1, 0)]).unwrap();
    let events = [
        probe("Startup probe failed: old", "other", 1),
        probe("Startup probe failed: HTTP probe failed with statuscode: 404", "worker", 8),
        probe("Liveness probe failed: x", "worker", 9),
        warning("BackOff", "x", 10),
    ];
    let problem = unready("ns", &waiter, &events);
    assert_eq!(problem.reason, Reason::NotReady);
    assert_eq!(
        problem.message,
        "container \"worker\" of pod \"w-1\" runs, but has not been ready since 2027-01-15T08:00:00Z: Startup probe \
         failed: HTTP probe failed with statuscode: 404; correct the probe if it asks for the wrong path, port or \
         command, else `kubectl logs -n ns w-1` tells why"
    );
    let silent = unready("ns", &waiter, &events[2..]).message;
    assert!(silent.starts_with("pod \"w-1\" runs") && silent.contains("probe has not succeeded"), "{silent}");
    let long = unready("ns", &waiter, &[probe(&"x\n".repeat(9_999), &"c\n".repeat(9_999), 1)]).message;
    assert!(long.len() < 2_000 && !long.contains('\n'), "{long}");
}

#[test]
fn a_container_may_take_three_minutes_to_be_ready() {
    let waiter = Waiter::longest(&[unready_since(1, 100)]).unwrap();
    assert_eq!(patience_left(&waiter, at(100)), Some(Duration::from_mins(3)));
    assert_eq!(patience_left(&waiter, at(280)), None);
    let problem = unready("ns", &waiter, &[]);
    let explanation = Explanation { wait: Wait::Readiness, problem: Some(problem), look_again: None };
    let mut pods = [unready_since(1, 100), unready_since(2, 101), waiting(3, 0)];
    explanation.explain(&mut pods, at(280));
    assert_eq!(pods.map(|pod| pod.problem.is_some()), [true, false, false]);
}

#[test]
fn workers_are_given_three_minutes_from_when_their_scheduler_is_ready() {
    let workers = [unready_since(1, 100)];
    let scheduler = |ready_since| [Arc::new(PodRecord { ready_since, ..record(0, PodState::Ready) })];
    let since = |schedulers: &[_]| Waiter::longest_worker(&workers, schedulers).map(|waiter| waiter.since);
    assert_eq!(since(&scheduler(Some(at(300)))), Some(at(300)));
    assert_eq!(since(&scheduler(Some(at(50)))), Some(at(100)));
    assert_eq!(since(&scheduler(None)), None, "the scheduler's own condition tells");
    let starts = [waiting(2, 100)];
    assert!(Waiter::longest_worker(&starts, &[]).is_some());
}
