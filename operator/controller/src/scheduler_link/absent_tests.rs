use std::sync::Arc;

use dask_operator_api::{DrainIntent, Reason};
use dask_protocol::{WorkerState, WorkerStatus};
use rstest::rstest;

use super::*;
use crate::controllers::group::testing::legacy;
use crate::scheduler_link::drain::PodFacts;
use crate::scheduler_link::matching::Candidate;
use crate::scheduler_link::roster::Roster;
use crate::scheduler_link::testing::{candidate, worker};

/// Pods of the tests are ready since second 1 of another count.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn changed(number: i64, change: impl FnOnce(&mut PodRecord)) -> Candidate {
    let mut candidate = candidate(number);
    change(Arc::make_mut(&mut candidate.pod));
    candidate
}

fn pods(pods: impl IntoIterator<Item = Candidate>) -> Candidates {
    Candidates { pods: pods.into_iter().collect(), ..Candidates::default() }
}

fn registered(name: &str, address: &str) -> WorkerState {
    worker(name, address, WorkerStatus::Running)
}

/// One whose scheduler has been up for long.
fn absent(registered: usize, expected: usize) -> Absent {
    let mut absent = Absent::default();
    absent.count(registered, expected, at(0));
    absent.count(registered, expected, at(30));
    absent
}

/// What is told after lists with these workers, half a minute apart, the first after 100 s.
fn told(candidates: &Candidates, lists: &[&[WorkerState]]) -> Vec<Option<Vec<String>>> {
    told_beside(&Drains::default(), candidates, lists)
}

fn told_beside(
    drains: &Drains,
    candidates: &Candidates,
    lists: &[&[WorkerState]],
) -> Vec<Option<Vec<String>>> {
    let mut absent = absent(0, 0);
    let mut told = Vec::new();
    for (second, workers) in (100..).step_by(30).zip(lists) {
        let roster = Roster::new(at(second), at(second), candidates, workers, None);
        absent.look(candidates, &roster.members, drains, at(second));
        told.push(absent.pods().map(|pods| pods.into_iter().map(String::from).collect()));
    }
    told
}

#[expect(clippy::unnecessary_wraps, reason = "as it is compared")]
fn these(uids: &[&str]) -> Option<Vec<String>> {
    Some(uids.iter().map(|uid| (*uid).to_owned()).collect())
}

#[test]
fn who_is_missing_in_lists_of_half_a_minute_is_told_until_he_joins() {
    let three = pods([candidate(7), candidate(8), candidate(9)]);
    let (none, one) = ([], [registered("x", "tcp://10.0.0.8:1")]);
    let all = [7, 8, 9].map(|number| registered("x", &format!("tcp://10.0.0.{number}:1")));
    assert_eq!(
        told(&three, &[&none, &none, &one, &all]),
        [None, these(&["u7", "u8", "u9"]), these(&["u7", "u9"]), these(&[])]
    );
}

/// As after `Client.restart()`.
#[test]
fn who_comes_back_is_not_told_of() {
    let here = [registered("x", "tcp://10.0.0.7:1")];
    let one = pods([candidate(7)]);
    assert_eq!(told(&one, &[&here, &[], &here, &[]]), [these(&[]), None, these(&[]), None]);
}

#[rstest]
#[case::ready_a_moment_ago(|pod: &mut PodRecord| pod.ready_since = Some(at(71)))]
#[case::its_clock_is_ahead(|pod: &mut PodRecord| pod.ready_since = Some(at(9_999)))]
#[case::its_probe_fails(|pod: &mut PodRecord| (pod.state, pod.ready_since) = (PodState::Starting, None))]
#[case::on_its_way_out(|pod: &mut PodRecord| pod.state = PodState::Terminating)]
#[case::ended(|pod: &mut PodRecord| pod.state = PodState::Failed)]
#[case::stopped(|pod: &mut PodRecord| pod.running = false)]
#[case::to_be_drained(|pod: &mut PodRecord| {
    pod.drain = Some(Box::new(DrainIntent { reason: Reason::ScaledDown, since: at(0) }));
})]
fn who_need_not_have_joined_is_left_alone(#[case] change: fn(&mut PodRecord)) {
    let one = pods([changed(7, change)]);
    assert_eq!(told(&one, &[&[], &[]]), [these(&[]), these(&[])]);
}

#[test]
fn a_drain_goes_on_without_its_mark() {
    let facts = PodFacts { uid: "u7".into(), running: true, marked: true, ..PodFacts::default() };
    let mut drains = Drains::default();
    drains.look(&[facts], &Roster::default(), at(0), at(0));
    assert_eq!(told_beside(&drains, &pods([candidate(7)]), &[&[], &[]]), [these(&[]), these(&[])]);
}

/// They may listen at an address that is not their pod's.
#[test]
fn while_a_worker_fits_no_pod_nobody_is_missing() {
    let strange = [registered("mine", "tcp://10.96.0.1:1")];
    let two = pods([candidate(7), candidate(8)]);
    assert_eq!(told(&two, &[&strange, &strange]), [these(&[]), these(&[])]);
}

#[test]
fn pods_of_one_address_are_told_apart_by_name_or_not_at_all() {
    let here = |number| changed(number, |pod| pod.ip = Some("10.0.0.1".into()));
    let two = pods([here(7), here(8)]);
    let mine = [registered("mine", "tcp://10.0.0.1:1")];
    assert_eq!(told(&two, &[&mine, &mine]), [these(&[]), these(&[])]);
    let named = [registered("w7", "tcp://10.0.0.1:1")];
    assert_eq!(told(&two, &[&named, &named]), [None, these(&["u8"])]);
}

#[test]
fn one_worker_of_several_in_a_pod_is_enough() {
    let here = [registered("w7-1", "tcp://10.0.0.7:1")];
    assert_eq!(told(&pods([candidate(7)]), &[&here, &here]), [these(&[]), these(&[])]);
}

#[test]
fn a_worker_of_the_python_operator_has_the_name_of_its_deployment() {
    let old = legacy(&[PodState::Ready, PodState::Ready]);
    let deployment = Some(&old.deployment).cloned();
    let one = |number: usize| Candidate { pod: old.pods[number].clone(), deployment: deployment.clone() };
    let named = [registered("old-1", "tcp://10.96.0.1:1")];
    assert_eq!(told(&pods([one(0)]), &[&named, &named]), [these(&[]), these(&[])]);
    assert_eq!(
        told(&pods([one(0), one(1)]), &[&named, &named]),
        [these(&[]), these(&[])],
        "either may have it"
    );
    assert_eq!(told(&pods([one(0)]), &[&[], &[]]), [None, these(&["uid-100"])]);
}

#[test]
fn lists_are_asked_for_every_half_minute_while_some_are_missing() {
    let one = pods([candidate(7)]);
    let mut absent = absent(1, 1);
    assert!(!absent.wants_list(at(100)), "nobody is missing");
    assert_eq!(absent.pods(), Some(BTreeSet::new()));
    absent.count(0, 1, at(100));
    assert!(absent.wants_list(at(100)));
    assert_eq!(absent.pods(), None, "it is not known who");

    let roster = Roster::new(at(100), at(100), &one, &[], None);
    absent.look(&one, &roster.members, &Drains::default(), at(100));
    assert!(!absent.wants_list(at(129)) && absent.wants_list(at(130)));
    assert!(absent.wants_list(at(0)), "the clock was set back");
    absent.count(1, 1, at(110));
    assert!(absent.wants_list(at(110)), "it may have come");
    // Another pod has several workers.
    let others = [registered("elsewhere", "tcp://10.0.0.8:1")];
    let two = pods([candidate(7), candidate(8)]);
    let roster = Roster::new(at(110), at(110), &two, &others, None);
    absent.look(&two, &roster.members, &Drains::default(), at(110));
    assert!(!absent.wants_list(at(139)) && absent.wants_list(at(140)), "only a list tells");
}

/// Workers that waited for it look for it at random moments.
#[test]
fn a_scheduler_that_began_a_moment_ago_is_given_time() {
    let one = pods([candidate(7)]);
    let mut absent = Absent::default();
    absent.count(0, 1, at(100));
    let roster = Roster::new(at(100), at(100), &one, &[], None);
    absent.look(&one, &roster.members, &Drains::default(), at(100));
    assert!(absent.pods().is_none() && !absent.wants_list(at(129)));
    absent.count(0, 1, at(130));
    assert!(absent.pods().is_none() && absent.wants_list(at(130)));
    absent.count(1, 1, at(131));
    assert_eq!(absent.pods(), Some(BTreeSet::new()));
}
