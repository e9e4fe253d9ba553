use std::collections::HashMap;
use std::sync::Arc;

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::controllers::group::testing::{at, cluster, record, snapshot};
use crate::scheduler_link::testing::heard;
use crate::scheduler_link::{Member, testing};

/// The scheduler started at 100 s, the question is asked at 140 s.
fn sample(joined: &[&str]) -> Sample {
    let members = Members {
        taken: Some(at(138)),
        by_host: joined
            .iter()
            .map(|host| ((*host).into(), vec![Member::default()]))
            .collect::<HashMap<_, _>>(),
    };
    let (taken, members) = (at(138), Some(Arc::new(members)));
    Sample { taken, started: Some(at(100)), workers: joined.len(), members, ..testing::sample("second") }
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

fn names(pods: Vec<PodRecord>, cluster: &DaskCluster, view: &LinkView) -> Vec<String> {
    let members = snapshot(3, pods.into_iter().map(Arc::new).collect()).members;
    stranded(&members, cluster, view, at(140)).0.into_iter().map(|removal| removal.name).collect()
}

#[test]
fn workers_that_did_not_join_are_replaced() {
    let pods = vec![pod(3), pod(1), pod(2)];
    assert_eq!(names(pods, &restarted_cluster(), &heard(sample(&["10.0.0.2"]))), ["w-1", "w-3"]);
}

#[test]
fn the_first_scheduler_strands_nobody() {
    let mut first = cluster();
    assert_eq!(names(vec![pod(1)], &first, &heard(sample(&[]))), [""; 0]);
    first.status =
        Some(serde_json::from_value(json!({"scheduler": {"restarts": 0, "id": "second"}})).unwrap());
    assert_eq!(names(vec![pod(1)], &first, &heard(sample(&[]))), [""; 0]);
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
    assert_eq!(names(vec![pod(1)], &cluster, &heard(sample(&[]))), ["w-1"]);
}

#[rstest]
#[case::made_for_the_new_one(PodRecord { created: at(101), ..pod(1) })]
#[case::restarted_a_moment_ago(PodRecord { ready_since: Some(at(120)), ..pod(1) })]
#[case::not_ready(PodRecord { state: PodState::Starting, ready_since: None, ..pod(1) })]
#[case::without_address(PodRecord { ip: None, ..pod(1) })]
#[case::ended(PodRecord { state: PodState::Failed, ..pod(1) })]
fn workers_that_may_still_join_are_left(#[case] pod: PodRecord) {
    assert_eq!(names(vec![pod], &restarted_cluster(), &heard(sample(&[]))), [""; 0]);
}

#[rstest]
#[case::no_list(Sample { members: None, ..sample(&[]) })]
#[case::too_early(Sample { started: Some(at(120)), ..sample(&[]) })]
fn what_is_not_known_yet_is_asked_for_again(#[case] sample: Sample) {
    let members = snapshot(1, vec![Arc::new(pod(1))]).members;
    assert_eq!(stranded(&members, &restarted_cluster(), &heard(sample), at(140)), (vec![], Some(POLL)));
}

#[test]
fn a_scheduler_that_does_not_answer_changes_nothing() {
    let failure = crate::scheduler_link::LinkFailure {
        reason: dask_operator_api::Reason::SchedulerUnreachable,
        message: String::new(),
        since: at(139),
    };
    let view = LinkView { failure: Some(failure), ..heard(sample(&[])) };
    assert_eq!(names(vec![pod(1)], &restarted_cluster(), &view), [""; 0]);
}

#[test]
fn long_after_a_restart_nobody_is_looked_for() {
    let members = snapshot(1, vec![Arc::new(pod(1))]).members;
    let late = stranded(&members, &restarted_cluster(), &heard(sample(&[])), at(1000));
    assert_eq!(late, (vec![], None));
}
