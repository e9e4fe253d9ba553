use std::sync::Arc;

use dask_operator_api::{DaskCluster, DrainIntent};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::cluster_cache::records::PodState;
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::controllers::Obstacle;
use crate::controllers::group::status::{Told, status};
use crate::controllers::group::testing::{at, failing, heard, legacy, running, sample, snapshot};
use crate::controllers::group::{Inputs, WorkerAllocation, decide};
use crate::controllers::obstacle::Purpose;
use crate::pods::form::PodForm;
use crate::scheduler_link::Sample;

const NOW: i64 = 200;

fn three() -> GroupSnapshot {
    snapshot(3, [3, 1, 2].map(running).map(Arc::new).to_vec())
}

/// A scheduler that misses the workers with these UIDs; `None` if it has not been found out.
fn missing(uids: Option<&[&str]>) -> LinkView {
    let absent = uids.map(|uids| uids.iter().map(|uid| (*uid).into()).collect());
    heard(Sample { absent, ..sample(NOW) })
}

fn joining(snapshot: &GroupSnapshot, link: &LinkView, now: i64) -> Joining {
    Joining::of(&snapshot.members, link, at(now))
}

/// The status after this one, as it is known now.
fn next(
    snapshot: &GroupSnapshot,
    joining: &Joining,
    before: &DaskWorkerGroupStatus,
) -> DaskWorkerGroupStatus {
    status(snapshot, &Told { joining: Some(joining), ..Told::default() }, before, at(NOW))
}

fn workers_ready(status: &DaskWorkerGroupStatus) -> (&str, &str, &str) {
    let condition = &status.conditions[0];
    (&condition.status, &condition.reason, &condition.message)
}

#[test]
fn who_has_not_joined_is_named() {
    let found = joining(&three(), &missing(Some(&["uid-3", "uid-2", "another-group"])), NOW);
    let status = next(&three(), &found, &DaskWorkerGroupStatus::default());
    let (word, reason, message) = workers_ready(&status);
    assert_eq!((word, reason), ("False", "WorkersNotJoined"));
    let begin =
        "3 of 3 workers are ready; the scheduler knows no worker of 2 of them, such as \"w-2\", though";
    assert!(message.starts_with(begin), "{message}");
    for word in ["kubectl logs -n ns w-2 -c worker", "DASK_SCHEDULER_ADDRESS", "port", "NetworkPol", "TLS"] {
        assert!(message.contains(word), "{message}");
    }
    assert_eq!(next(&three(), &found, &status), status, "nothing to write");
}

#[rstest]
#[case::all_joined(missing(Some(&[])), NOW)]
#[case::not_known_yet(missing(None), NOW)]
#[case::never_asked(LinkView::default(), NOW)]
#[case::no_access(failing(Reason::SchedulerUnreachable), NOW)]
#[case::no_access_for_long(failing(Reason::SchedulerUnreachable), 10_000)]
#[case::ready_for_less_than_a_minute(missing(Some(&["uid-1"])), 60)]
fn otherwise_nothing_is_said(#[case] link: LinkView, #[case] now: i64) {
    let found = joining(&three(), &link, now);
    assert_eq!(found.look_again(&DaskWorkerGroupStatus::default()), None);
    let status = next(&three(), &found, &DaskWorkerGroupStatus::default());
    assert_eq!(workers_ready(&status), ("True", "AllReady", "3 of 3 workers are ready"));
}

#[rstest]
#[case::drains(|pod: &mut PodRecord| {
    pod.drain = Some(Box::new(DrainIntent { reason: Reason::ScaledDown, since: at(100) }));
})]
#[case::its_probe_fails(|pod: &mut PodRecord| (pod.state, pod.ready_since) = (PodState::Starting, None))]
#[case::started_anew(|pod: &mut PodRecord| pod.ready_since = Some(at(NOW - 10)))]
#[case::on_its_way_out(|pod: &mut PodRecord| pod.state = PodState::Terminating)]
fn what_became_of_a_pod_since_counts(#[case] change: fn(&mut PodRecord)) {
    let mut pod = running(1);
    change(&mut pod);
    let snapshot = snapshot(1, vec![Arc::new(pod)]);
    assert_eq!(joining(&snapshot, &missing(Some(&["uid-1"])), NOW), Joining::Nobody);
}

#[test]
fn workers_of_the_python_operator_are_named_too() {
    let mut snapshot = snapshot(1, vec![]);
    snapshot.members.legacy = vec![legacy(&[PodState::Ready])];
    let Joining::Missing(finding) = joining(&snapshot, &missing(Some(&["uid-100"])), NOW) else { panic!() };
    assert!(finding.message.contains("1 of them, such as \"old-1-hash-100\""), "{}", finding.message);
}

/// A new operator has to find out again what the status says; a scheduler may be busy for a while.
#[test]
fn what_was_found_stays_while_nothing_newer_is_known() {
    let found = joining(&three(), &missing(Some(&["uid-1"])), NOW);
    let standing = next(&three(), &found, &DaskWorkerGroupStatus::default());
    for link in [LinkView::default(), missing(None)] {
        assert_eq!(next(&three(), &joining(&three(), &link, NOW), &standing), standing);
    }
    let silent = joining(&three(), &failing(Reason::SchedulerUnreachable), NOW);
    assert_eq!(next(&three(), &silent, &standing), standing);
    assert_eq!(silent.look_again(&standing), Some(Duration::from_secs(100)), "5 min after it became silent");

    let reason = |link: &LinkView, now| {
        let found = joining(&three(), link, now);
        workers_ready(&next(&three(), &found, &standing)).1.to_owned()
    };
    assert_eq!(reason(&failing(Reason::SchedulerUnreachable), 300), "AllReady");
    assert_eq!(reason(&missing(Some(&[])), NOW), "AllReady", "they have joined");
}

#[test]
fn what_a_pod_or_a_write_lacks_comes_first() {
    let found = joining(&three(), &missing(Some(&["uid-1"])), NOW);
    let obstacles = [(Purpose::Creation, Obstacle::new(Reason::QuotaExceeded, "no room"))];
    let told = Told { joining: Some(&found), obstacles: &obstacles, ..Told::default() };
    let status = status(&three(), &told, &DaskWorkerGroupStatus::default(), at(NOW));
    let (_, reason, message) = workers_ready(&status);
    assert_eq!(reason, "QuotaExceeded");
    assert!(message.contains("no room") && message.contains("knows no worker of 1 of them"), "{message}");
}

fn plan(snapshot: &GroupSnapshot, link: &LinkView) -> crate::controllers::group::GroupPlan {
    let status = DaskWorkerGroupStatus::default();
    let inputs = Inputs {
        template_hash: "",
        status: &status,
        link,
        standing: None,
        allocation: WorkerAllocation::default(),
        form: PodForm::default(),
        settling: None,
        inherited: None,
    };
    decide(snapshot, &inputs, at(NOW))
}

#[test]
fn nothing_is_done_to_them() {
    let plan = plan(&three(), &missing(Some(&["uid-1", "uid-2", "uid-3"])));
    assert!(matches!(plan.joining, Joining::Missing(_)));
    assert!(plan.remove.is_empty() && plan.mark.is_empty() && plan.create.is_empty());
    assert_eq!((plan.shrinking, plan.requeue_after), (None, None));
}

#[test]
fn after_a_restart_of_the_scheduler_they_may_be_stranded() {
    let mut cluster: DaskCluster = crate::controllers::group::testing::cluster();
    cluster.status =
        Some(serde_json::from_value(json!({"scheduler": {"restarts": 0, "id": "first"}})).unwrap());
    let snapshot = GroupSnapshot { cluster: Some(Arc::new(cluster)), ..three() };
    let mut link = missing(Some(&["uid-1"]));
    Arc::make_mut(link.sample.as_mut().unwrap()).started = Some(at(NOW - 40));
    assert_eq!(plan(&snapshot, &link).joining, Joining::Nobody);
    Arc::make_mut(link.sample.as_mut().unwrap()).started = Some(at(NOW - 601));
    assert!(matches!(plan(&snapshot, &link).joining, Joining::Missing(_)), "long after it");
}
