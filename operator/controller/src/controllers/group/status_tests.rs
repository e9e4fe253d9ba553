use std::sync::Arc;

use rstest::rstest;

use super::*;
use crate::cluster_cache::records::{PodProblem, PodRecord};
use crate::controllers::group::testing::{self, at, legacy, marked, record, snapshot, worker};

fn troubled(ordinal: i64, reason: Reason) -> Arc<PodRecord> {
    let message = format!("pod \"w-{ordinal}\" has trouble");
    Arc::new(PodRecord {
        problem: Some(Box::new(PodProblem { reason, message })),
        ..record(ordinal, PodState::Pending)
    })
}

fn of(snapshot: &GroupSnapshot, obstacle: Option<&Obstacle>) -> DaskWorkerGroupStatus {
    let obstacles: Vec<_> =
        obstacle.map(|obstacle| (Purpose::Creation, obstacle.clone())).into_iter().collect();
    with(snapshot, &obstacles)
}

fn with(snapshot: &GroupSnapshot, obstacles: &[(Purpose, Obstacle)]) -> DaskWorkerGroupStatus {
    status(snapshot, &Told { obstacles, ..Told::default() }, &DaskWorkerGroupStatus::default(), at(0))
}

fn condition(status: &DaskWorkerGroupStatus) -> (&str, &str, &str) {
    let condition = &status.conditions[0];
    (&condition.status, &condition.reason, &condition.message)
}

#[rstest]
#[case::ready(2, vec![worker(1, PodState::Ready), worker(2, PodState::Ready)],
    ("True", "AllReady", "2 of 2 workers are ready"))]
#[case::starting(2, vec![worker(1, PodState::Ready), worker(2, PodState::Starting)],
    ("False", "Starting", "1 of 2 workers are ready"))]
#[case::none_wanted(0, vec![], ("True", "ScaledToZero", "no workers are wanted"))]
#[case::shrinking(1, vec![worker(1, PodState::Ready), worker(2, PodState::Ready)],
    ("True", "Scaling", "2 of 1 workers are ready; 1 are being removed"))]
#[case::one_trouble(1, vec![troubled(1, Reason::Unschedulable)],
    ("False", "Unschedulable", "0 of 1 workers are ready; pod \"w-1\" has trouble"))]
#[case::the_commonest_trouble(3,
    vec![troubled(1, Reason::Unschedulable), troubled(2, Reason::ImagePullFailed), troubled(3, Reason::ImagePullFailed)],
    ("False", "ImagePullFailed", "0 of 3 workers are ready; 2 workers, such as: pod \"w-2\" has trouble"))]
fn the_condition_says_what_is(
    #[case] desired: i32,
    #[case] workers: Vec<Arc<PodRecord>>,
    #[case] expected: (&str, &str, &str),
) {
    assert_eq!(condition(&of(&snapshot(desired, workers), None)), expected);
}

#[rstest]
#[case::scheduler(Some("job-uid"), vec![], "WaitingForScheduler", "the pod of their scheduler exists")]
#[case::runner(None, vec![worker(0, PodState::Ready)], "WaitingForRunner", "the runner of their job exists")]
#[case::both(None, vec![], "WaitingForScheduler", "the pod of their scheduler exists")]
fn workers_that_wait_say_for_what(
    #[case] runner: Option<&str>,
    #[case] scheduler_pods: Vec<Arc<PodRecord>>,
    #[case] reason: &str,
    #[case] words: &str,
) {
    let snapshot = testing::of_job(2, vec![worker(1, PodState::Ready)], runner);
    let mut snapshot = GroupSnapshot { scheduler_pods, ..snapshot };
    let status = of(&snapshot, None);
    let (_, found, message) = condition(&status);
    assert_eq!(found, reason);
    let expected = format!("1 of 2 workers are ready; workers are created when {words}");
    assert!(message.starts_with(&expected), "{message}");
    snapshot.members.workers.push(worker(2, PodState::Ready));
    assert_eq!(condition(&of(&snapshot, None)).1, "AllReady", "nothing is missing");
}

#[test]
fn counts_and_selector() {
    let workers = vec![
        worker(1, PodState::Ready),
        worker(2, PodState::Starting),
        worker(3, PodState::Pending),
        worker(4, PodState::Failed),
        worker(9, PodState::Terminating),
    ];
    let status = of(&snapshot(5, workers), None);
    assert_eq!((status.replicas, status.ready_replicas, status.highest_ordinal), (3, 1, 9));
    assert_eq!(
        status.selector.as_deref(),
        Some("dask.org/workergroup-name=simple-default,dask.org/component=worker")
    );
}

#[test]
fn an_obstacle_is_told_with_what_works() {
    let obstacle = Obstacle::new(Reason::QuotaExceeded, "no room");
    assert_eq!(condition(&of(&snapshot(2, vec![]), Some(&obstacle))), ("False", "QuotaExceeded", "no room"));
    let some = snapshot(2, vec![worker(1, PodState::Ready)]);
    assert_eq!(
        condition(&of(&some, Some(&obstacle))),
        ("False", "QuotaExceeded", "1 of 2 workers are ready; no room")
    );
}

#[test]
fn several_obstacles_are_all_named() {
    let quota = Obstacle::new(Reason::QuotaExceeded, "no room");
    let policy = Obstacle::new(Reason::AdmissionRefused, "no labels");
    let some = snapshot(2, vec![troubled(1, Reason::Unschedulable)]);
    let obstacles = [(Purpose::Creation, quota), (Purpose::Relabel, policy.clone())];
    assert_eq!(
        condition(&with(&some, &obstacles)),
        ("False", "QuotaExceeded", "0 of 2 workers are ready; no room; no labels; pod \"w-1\" has trouble")
    );
    let full = snapshot(1, vec![worker(1, PodState::Ready)]);
    assert_eq!(
        condition(&with(&full, &obstacles[1..])),
        ("True", "AdmissionRefused", "1 of 1 workers are ready; no labels"),
        "the workers are ready all the same"
    );
    let long = Obstacle::new(Reason::AdmissionRefused, "x".repeat(5_000));
    let many = [(Purpose::Creation, long), (Purpose::Mark, policy)];
    let bounded = with(&full, &many);
    let message = condition(&bounded).2;
    assert!(message.len() <= 1_000 && message.contains("no labels"), "{} bytes", message.len());
}

#[rstest]
#[case(Purpose::Mark)]
#[case(Purpose::Deletion)]
fn a_refusal_to_let_workers_go_is_why_the_group_does_not_shrink(#[case] purpose: Purpose) {
    let obstacles = [(purpose, Obstacle::new(Reason::Forbidden, "no right"))];
    let snapshot = snapshot(1, vec![worker(1, PodState::Ready), worker(2, PodState::Ready)]);
    let status = with(&snapshot, &obstacles);
    let scaling = &status.conditions[1];
    assert_eq!((&*scaling.status, &*scaling.reason, &*scaling.message), ("True", "Scaling", "no right"));
    assert_eq!(condition(&status).1, "Forbidden");
}

#[rstest]
#[case(2_000_000_000)]
#[case(i32::MAX)]
#[case(i32::MIN)]
fn a_number_that_cannot_be_meant_breaks_no_arithmetic(#[case] replicas: i32) {
    let obstacle = Obstacle::new(Reason::InvalidReplicas, "words");
    let snapshot = snapshot(replicas, vec![worker(1, PodState::Ready)]);
    let status = of(&snapshot, Some(&obstacle));
    assert_eq!((status.replicas, condition(&status).1), (1, "InvalidReplicas"));
    let counts = crate::controllers::counts::group_counts(&snapshot.members);
    assert_eq!((counts.ready, counts.desired), (1, replicas));
}

#[test]
fn failures_that_delay_a_replacement_are_told() {
    let failures = WorkerFailures {
        consecutive: 2,
        pods: vec![],
        last_reason: "OutOfMemory".into(),
        last_message: "pod \"w-1\" ran out of memory".into(),
        last_time: Time(at(0)),
        retry_after: Time(at(10)),
    };
    let snapshot = snapshot(1, vec![]);
    let told = |now| {
        let status = status(
            &snapshot,
            &Told { failures: Some(&failures), ..Told::default() },
            &DaskWorkerGroupStatus::default(),
            now,
        );
        (status.conditions[0].reason.clone(), status.conditions[0].message.clone())
    };
    assert_eq!(
        told(at(5)),
        (
            "OutOfMemory".to_owned(),
            "0 of 1 workers are ready; pod \"w-1\" ran out of memory; 2 failures in a row, the next try is at \
             2027-01-15T08:00:10Z"
                .to_owned()
        )
    );
    let expected = "0 of 1 workers are ready; before: pod \"w-1\" ran out of memory";
    assert_eq!(told(at(10)), ("Starting".to_owned(), expected.to_owned()), "its replacement starts");
    assert_eq!(told(at(600)).1, "0 of 1 workers are ready");
}

#[test]
fn the_same_view_gives_the_same_status() {
    let snapshot = snapshot(1, vec![worker(1, PodState::Ready)]);
    let first = of(&snapshot, None);
    assert_eq!(status(&snapshot, &Told::default(), &first, at(500)), first, "transition times do not move");
}

#[test]
fn the_highest_ordinal_never_falls() {
    let previous = DaskWorkerGroupStatus { highest_ordinal: 12, ..DaskWorkerGroupStatus::default() };
    let next = status(&snapshot(1, vec![worker(3, PodState::Ready)]), &Told::default(), &previous, at(0));
    assert_eq!(next.highest_ordinal, 12);
}

#[rstest]
#[case::as_wanted(1, None, ("False", "AtDesiredSize", "1 workers are wanted"))]
#[case::growing(3, None, ("True", "Scaling", "1 of 3 workers exist"))]
#[case::shrinking(1, Some("worker \"w-2\" finishes 2 tasks"), ("True", "Draining", "worker \"w-2\" finishes 2 tasks"))]
fn the_condition_scaling_says_who_is_waited_for(
    #[case] desired: i32,
    #[case] finding: Option<&str>,
    #[case] expected: (&str, &str, &str),
) {
    let snapshot = snapshot(desired, vec![worker(1, PodState::Ready)]);
    let finding = finding.map(|words| Finding::new(Reason::Draining, words));
    let status = status(
        &snapshot,
        &Told { shrinking: finding.as_ref(), ..Told::default() },
        &DaskWorkerGroupStatus::default(),
        at(0),
    );
    let scaling = &status.conditions[1];
    assert_eq!(scaling.type_, "Scaling");
    assert_eq!((&*scaling.status, &*scaling.reason, &*scaling.message), expected);
}

#[test]
fn workers_that_are_to_go_are_no_replicas() {
    let mut snapshot = snapshot(2, vec![worker(1, PodState::Ready), Arc::new(marked(2, 0))]);
    snapshot.members.legacy = vec![legacy(&[PodState::Ready])];
    let status = of(&snapshot, None);
    assert_eq!((status.replicas, status.ready_replicas), (2, 2));
    assert_eq!(condition(&status), ("True", "AllReady", "2 of 2 workers are ready"));
}
