use std::sync::Arc;

use dask_operator_api::{Conditions, DrainIntent};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::cluster_cache::records::{PodRecord, PodState};
use crate::controllers::group::removal::{Finding, Marking, Object};
use crate::controllers::group::testing::{at, running, snapshot, worker};

fn removal(ordinal: i64, cause: Cause) -> Removal {
    Removal {
        object: Object::Pod,
        name: format!("w-{ordinal}"),
        uid: format!("uid-{ordinal}"),
        version: None,
        cause,
    }
}

fn told(snapshot: &GroupSnapshot, plan: &GroupPlan) -> Vec<(Reason, String)> {
    news(snapshot, plan).into_iter().map(|news| (news.reason, news.message)).collect()
}

#[test]
fn every_departure_has_its_reason() {
    let marked = |ordinal, reason| {
        let intent = DrainIntent { reason, since: at(0) };
        Arc::new(PodRecord { drain: Some(Box::new(intent)), ..running(ordinal) })
    };
    let pods = [
        marked(2, Reason::WorkerStranded),
        marked(4, Reason::TemplateChanged),
        marked(6, Reason::WorkerReplaced),
    ];
    let snapshot = snapshot(2, pods.into());
    let plan = GroupPlan {
        remove: vec![
            removal(1, Cause::Drained),
            removal(2, Cause::Drained),
            removal(3, Cause::Outdated),
            removal(4, Cause::Drained),
            removal(5, Cause::Failed),
            removal(6, Cause::Drained),
        ],
        create: vec![9],
        ..GroupPlan::default()
    };
    assert_eq!(
        told(&snapshot, &plan),
        [
            (
                Reason::WorkerStranded,
                "replaced 1 worker that did not join the restarted scheduler: w-2".to_owned()
            ),
            (
                Reason::WorkerReplaced,
                "replaced 1 worker that got no tasks any more, retired before: w-6".to_owned()
            ),
            (Reason::WorkerReplaced, "replaced 2 workers of an older template: w-3, w-4".to_owned()),
            (Reason::WorkerReplaced, "replaced 1 worker that had failed".to_owned()),
        ]
    );
    assert_eq!(too_many(&snapshot, &plan).collect::<Vec<_>>(), ["w-1"]);
}

#[test]
fn marks_for_an_edit_are_told() {
    let mark = vec![Marking { pod: worker(1, PodState::Ready), reason: Reason::TemplateChanged }];
    let plan = GroupPlan { mark, ..GroupPlan::default() };
    assert_eq!(told(&snapshot(1, vec![]), &plan)[0].0, Reason::TemplateChanged);
    assert_eq!(told(&snapshot(1, vec![]), &GroupPlan::default()), []);
}

#[test]
fn what_is_lost_is_a_warning() {
    let plan =
        GroupPlan { remove: vec![removal(1, Cause::Forced("all".to_owned()))], ..GroupPlan::default() };
    let news = news(&snapshot(0, vec![]), &plan);
    assert!(news[0].warning && news[0].message.contains("not drained in time"), "{news:?}");
}

#[test]
fn a_change_of_size_is_told_once_in_whole_numbers() {
    let size = |change: SizeChange, wanted| -> Vec<String> {
        size_news(&change, wanted)
            .into_iter()
            .map(|news| format!("{}: {}", news.reason, news.message))
            .collect()
    };
    let filled = SizeChange { created: 3, growth: 3, ..SizeChange::default() };
    assert_eq!(size(filled, 3), ["ScaledUp: created 3 workers to reach 3"]);
    let replaced = SizeChange { created: 5, ..SizeChange::default() };
    assert_eq!(size(replaced, 3), [""; 0], "a replacement is no growth");
    let names = vec!["w-1".to_owned(), "w-2".to_owned()];
    let shrunk = SizeChange { removed: 12, names: names.clone(), growth: -12, ..SizeChange::default() };
    assert_eq!(size(shrunk, 1), ["ScaledDown: removed 12 workers to reach 1: w-1, w-2, …"]);
    let one = SizeChange { removed: 1, names: names[..1].to_vec(), growth: -1, ..SizeChange::default() };
    assert_eq!(size(one, 2), ["ScaledDown: removed 1 worker to reach 2: w-1"]);
}

#[test]
fn a_worker_that_is_kept_holds_up_no_news() {
    let shrinking =
        |reason| GroupPlan { shrinking: Some(Finding::new(reason, "words")), ..GroupPlan::default() };
    assert!(is_settled(&GroupPlan::default()));
    assert!(!is_settled(&shrinking(Reason::Draining)));
    assert!(is_settled(&shrinking(Reason::DrainRefused)));
}

#[test]
fn a_new_reason_of_the_condition_tells_by_itself() {
    let status = |reason| DaskWorkerGroupStatus {
        conditions: Conditions::new(&[], None, &Time(Timestamp::UNIX_EPOCH))
            .set(ConditionType::WorkersReady, Some(false), reason, "words")
            .build(),
        ..DaskWorkerGroupStatus::default()
    };
    let (ready, quota) = (status(Reason::AllReady), status(Reason::QuotaExceeded));
    assert_eq!(new_reason(&ready, &quota), Some("QuotaExceeded"));
    assert_eq!(new_reason(&quota, &quota), None);
    assert_eq!(new_reason(&DaskWorkerGroupStatus::default(), &ready), Some("AllReady"));
    assert!(is_named(&quota, "words") && !is_named(&quota, "other words"));
    assert!(!is_named(&DaskWorkerGroupStatus::default(), "words"));
}
