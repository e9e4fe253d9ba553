use dask_operator_api::{DaskWorkerGroupStatus, DrainIntent};
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::controllers::group::testing::{
    at, cluster, failing, member, members, record, snapshot, without_workers,
};
use crate::controllers::group::{Inputs, WorkerAllocation};
use crate::pods::form::PodForm;
use crate::scheduler_link::testing::heard;
use crate::scheduler_link::{Member, Members, testing};

/// The scheduler started at 100 s, the question is asked at 140 s: these workers of four have joined.
fn sample(joined: &[i64]) -> Sample {
    let workers = |ordinal: i64| joined.contains(&ordinal).then(|| member(ordinal, Some(0)));
    let mut known = without_workers(&[1, 2, 3, 4]);
    for ordinal in 1..=4 {
        known.insert(&format!("uid-{ordinal}"), workers(ordinal).into_iter().collect());
    }
    listed(known)
}

fn listed(mut known: Members) -> Sample {
    known.taken = Some(at(138));
    let members = Some(Arc::new(known));
    Sample { taken: at(138), started: Some(at(100)), members, ..testing::sample("second") }
}

/// A cluster whose scheduler was another one before.
fn restarted_cluster() -> DaskCluster {
    let mut cluster = cluster();
    cluster.status =
        Some(serde_json::from_value(json!({"scheduler": {"restarts": 0, "id": "first"}})).unwrap());
    cluster
}

fn pod(ordinal: i64) -> PodRecord {
    PodRecord { ip: Some(format!("10.0.0.{ordinal}").into()), ..record(ordinal, PodState::Ready) }
}

fn policy(max_unavailable: i32) -> UpdatePolicy {
    UpdatePolicy { max_unavailable: Some(max_unavailable), ..UpdatePolicy::default() }
}

fn decide(pods: Vec<PodRecord>, cluster: &DaskCluster, view: &LinkView, max: i32) -> Useless {
    let desired = i32::try_from(pods.len()).unwrap();
    let members = snapshot(desired, pods.into_iter().map(Arc::new).collect()).members;
    useless(&members, cluster, view, &policy(max), at(140))
}

fn names(useless: &Useless) -> Vec<&str> {
    useless.mark.iter().map(|marking| &*marking.pod.name).collect()
}

fn found(useless: &Useless) -> Option<(Reason, &str)> {
    useless.finding.as_ref().map(|finding| (finding.reason, finding.message.as_str()))
}

#[test]
fn workers_that_did_not_join_are_replaced() {
    let result = decide(vec![pod(3), pod(1), pod(2)], &restarted_cluster(), &heard(sample(&[2])), 3);
    assert_eq!(names(&result), ["w-1", "w-3"]);
    assert!(result.mark.iter().all(|marking| marking.reason == Reason::WorkerStranded));
    let words = "2 workers, such as \"w-1\", have not joined the restarted scheduler and are replaced";
    assert_eq!(found(&result), Some((Reason::WorkerStranded, words)));
}

#[rstest]
#[case::one_at_a_time(1, &[], &["w-1"])]
#[case::two_at_a_time(2, &[], &["w-1", "w-2"])]
#[case::the_replacement_is_not_ready(1, &[PodState::Starting], &[])]
#[case::two_and_one_replacement_is_not_ready(2, &[PodState::Starting], &["w-1"])]
#[case::the_replacement_is_ready(1, &[PodState::Ready], &["w-1"])]
fn they_go_few_at_a_time(#[case] max: i32, #[case] others: &[PodState], #[case] expected: &[&str]) {
    let new =
        (10..).zip(others).map(|(ordinal, state)| PodRecord { created: at(120), ..record(ordinal, *state) });
    let pods = [pod(1), pod(2), pod(3), pod(4)].into_iter().chain(new).collect();
    assert_eq!(names(&decide(pods, &restarted_cluster(), &heard(sample(&[4])), max)), expected);
}

#[test]
fn one_that_drains_is_away() {
    let intent = DrainIntent { reason: Reason::WorkerStranded, since: at(130) };
    let going = PodRecord { drain: Some(Box::new(intent)), ..pod(1) };
    let pods = || vec![going.clone(), pod(2), pod(3), pod(4)];
    let link = heard(sample(&[4]));
    assert_eq!(names(&decide(pods(), &restarted_cluster(), &link, 1)), [""; 0]);
    assert_eq!(names(&decide(pods(), &restarted_cluster(), &link, 2)), ["w-2"]);
}

#[test]
fn if_nobody_joined_nobody_goes() {
    let result = decide(vec![pod(1), pod(2)], &restarted_cluster(), &heard(sample(&[])), 2);
    assert_eq!(names(&result), [""; 0]);
    let (reason, words) = found(&result).unwrap();
    assert_eq!(reason, Reason::WorkerStranded);
    assert!(words.contains("nor has any other"), "{words}");
}

/// All have joined from addresses that are not their pods'.
#[test]
fn while_a_worker_fits_no_pod_nobody_is_stranded() {
    let mut known = members([(4, member(4, Some(0)))]);
    for ordinal in 1..=3 {
        known.insert_unknown(&format!("uid-{ordinal}"));
    }
    known.unmatched.add("mine", "tcp://10.96.0.1:1");
    let result = decide(vec![pod(1), pod(2), pod(4)], &restarted_cluster(), &heard(listed(known.clone())), 3);
    assert_eq!((names(&result).len(), found(&result)), (0, None));
    // As seen before they ran.
    known.insert("uid-1", vec![]);
    assert_eq!(names(&decide(vec![pod(1)], &restarted_cluster(), &heard(listed(known)), 3)), [""; 0]);
}

#[test]
fn the_first_scheduler_strands_nobody() {
    let mut first = cluster();
    assert_eq!(decide(vec![pod(1)], &first, &heard(sample(&[2])), 1), Useless::default());
    first.status =
        Some(serde_json::from_value(json!({"scheduler": {"restarts": 0, "id": "second"}})).unwrap());
    assert_eq!(decide(vec![pod(1)], &first, &heard(sample(&[2])), 1), Useless::default());
}

#[test]
fn the_restart_is_known_by_the_condition_once_the_id_is_stored() {
    let mut cluster = restarted_cluster();
    let conditions = json!({
        "scheduler": {"restarts": 0, "id": "second"},
        "conditions": [{"type": "SchedulerLostState", "status": "True", "reason": "SchedulerRestarted",
                        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    });
    cluster.status = Some(serde_json::from_value(conditions).unwrap());
    assert_eq!(names(&decide(vec![pod(1)], &cluster, &heard(sample(&[2])), 1)), ["w-1"]);
}

#[rstest]
#[case::made_for_the_new_one(PodRecord { created: at(101), ..pod(1) })]
#[case::restarted_a_moment_ago(PodRecord { ready_since: Some(at(120)), ..pod(1) })]
#[case::not_ready(PodRecord { state: PodState::Starting, ready_since: None, ..pod(1) })]
#[case::newer_than_the_list(PodRecord { uid: "other".into(), ..pod(1) })]
#[case::ended(PodRecord { state: PodState::Failed, ..pod(1) })]
fn workers_that_may_still_join_are_left(#[case] pod: PodRecord) {
    let result = decide(vec![pod], &restarted_cluster(), &heard(sample(&[2])), 5);
    assert_eq!((names(&result).len(), found(&result)), (0, None));
}

#[rstest]
#[case::no_list(Sample { members: None, ..sample(&[2]) })]
#[case::too_early(Sample { started: Some(at(120)), ..sample(&[2]) })]
fn what_is_not_known_yet_is_asked_for_again(#[case] sample: Sample) {
    let again = Useless { requeue_after: Some(POLL), ..Useless::default() };
    assert_eq!(decide(vec![pod(1)], &restarted_cluster(), &heard(sample), 1), again);
}

#[test]
fn a_scheduler_that_does_not_answer_changes_nothing() {
    let failure = failing(Reason::SchedulerUnreachable).failure;
    let fenced = [pod(1).uid].into();
    let view = LinkView { failure, ..heard(Sample { fenced, ..sample(&[2]) }) };
    assert_eq!(names(&decide(vec![pod(1)], &restarted_cluster(), &view, 1)), [""; 0]);
}

#[test]
fn long_after_a_restart_nobody_is_looked_for_unless_some_are_still_being_replaced() {
    let mut members = snapshot(1, vec![Arc::new(pod(1))]).members;
    let mut late = Members::clone(sample(&[2]).members.as_deref().unwrap());
    late.taken = Some(at(1000));
    let link = heard(Sample { taken: at(1000), members: Some(Arc::new(late)), ..sample(&[2]) });
    let decide = |members: &GroupMembers| useless(members, &restarted_cluster(), &link, &policy(1), at(1000));
    assert_eq!(decide(&members), Useless::default());
    let status = json!({"conditions": [{"type": "Scaling", "status": "True", "reason": "WorkerStranded",
                        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    Arc::make_mut(&mut members.group).status = Some(serde_json::from_value(status).unwrap());
    assert_eq!(names(&decide(&members)), ["w-1"]);
}

#[test]
fn a_worker_that_stayed_fenced_is_replaced() {
    let known = members([(1, Member::default()), (2, Member::default())]);
    let fenced = ["uid-1".into(), "uid-2".into(), "uid-3".into()].into();
    let link = heard(Sample { fenced, ..listed(known) });
    let intent = DrainIntent { reason: Reason::ScaledDown, since: at(0) };
    let marked = PodRecord { drain: Some(Box::new(intent)), ..pod(2) };
    let going = PodRecord { state: PodState::Terminating, ..pod(3) };
    let result = decide(vec![pod(1), marked, going], &cluster(), &link, 3);
    let marks: Vec<_> = result.mark.iter().map(|marking| (&*marking.pod.name, marking.reason)).collect();
    assert_eq!(marks, [("w-1", Reason::WorkerReplaced)]);
    assert_eq!(names(&decide(vec![pod(1), pod(2)], &cluster(), &link, 1)), ["w-1"], "few at a time");
    let old = heard(Sample { taken: at(100), fenced: ["uid-1".into()].into(), ..testing::sample("second") });
    assert_eq!(names(&decide(vec![pod(1)], &cluster(), &old, 1)), [""; 0]);
}

/// The scheduler is asked for its workers as long as the status says so.
#[test]
fn while_one_drains_the_others_are_still_told_of() {
    let intent = DrainIntent { reason: Reason::WorkerStranded, since: at(130) };
    let going = PodRecord { drain: Some(Box::new(intent)), ..pod(1) };
    let pods = vec![going, pod(2), pod(4)].into_iter().map(Arc::new).collect();
    let snapshot = GroupSnapshot { cluster: Some(Arc::new(restarted_cluster())), ..snapshot(3, pods) };
    let (status, link) = (DaskWorkerGroupStatus::default(), heard(sample(&[4])));
    let inputs = Inputs {
        template_hash: "",
        status: &status,
        link: &link,
        standing: None,
        allocation: WorkerAllocation::default(),
        form: PodForm::default(),
        settling: None,
        inherited: None,
    };
    let plan = crate::controllers::group::decide(&snapshot, &inputs, at(140));
    assert_eq!(plan.mark, [], "one at a time");
    assert_eq!(plan.shrinking.map(|finding| finding.reason), Some(Reason::WorkerStranded));
}
