use std::sync::Arc;

use dask_operator_api::Conditions;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::controllers::cluster::status;
use crate::controllers::cluster::testing::{at, made, workers};
use crate::scheduler_link::{Sample, testing};

/// A cluster whose Service is bent, as spec and as live object.
#[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
fn with_service(change: Value) -> ClusterSnapshot {
    let mut snapshot = made(PodState::Ready);
    let cluster = Arc::make_mut(&mut snapshot.cluster);
    let mut spec = json!(cluster.spec.scheduler.service);
    for (key, value) in change.as_object().unwrap() {
        spec[key] = value.clone();
    }
    cluster.spec.scheduler.service = serde_json::from_value(spec).unwrap();
    let live = Arc::make_mut(snapshot.service.as_mut().unwrap());
    live.spec = cluster.spec.scheduler.service.clone();
    snapshot
}

fn joined(workers: usize) -> LinkView {
    testing::heard(Sample { workers, ..testing::sample("one") })
}

fn reason(snapshot: &ClusterSnapshot, link: &LinkView) -> Option<Reason> {
    finding(snapshot, link, &DaskClusterStatus::default()).map(|(_, reason, _)| reason)
}

#[rstest]
#[case::usual(json!({}), None)]
#[case::another_cluster(json!({"dask.org/cluster-name": "other"}), Some(Reason::ServiceSelectsNothing))]
#[case::another_component(json!({"dask.org/component": "worker"}), Some(Reason::ServiceSelectsNothing))]
#[case::no_such_label(json!({"app": "dask"}), Some(Reason::ServiceSelectsNothing))]
#[case::one_pod(json!({"pod-template-hash": "abc"}), None)]
fn a_selector_that_selects_nothing(#[case] selector: Value, #[case] expected: Option<Reason>) {
    let mut all = json!({"dask.org/cluster-name": "simple", "dask.org/component": "scheduler"});
    for (key, value) in selector.as_object().unwrap() {
        all[key] = value.clone();
    }
    assert_eq!(reason(&with_service(json!({"selector": all})), &joined(0)), expected);
}

#[test]
fn the_selector_and_the_cure_are_named_and_the_cluster_is_not_ready() {
    let selector = json!({"dask.org/cluster-name": "report", "dask.org/component": "scheduler"});
    let mut snapshot = with_service(json!({"selector": selector}));
    workers(&mut snapshot, &[PodState::Ready, PodState::Ready]);
    let status = status(&snapshot, &joined(0), &[], &DaskClusterStatus::default(), at(0));
    assert!(is_unproven(&status));
    for type_ in ["SchedulerReady", "Ready"] {
        let condition = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            ("False", "ServiceSelectsNothing")
        );
        for words in
            ["\"simple-scheduler\"", "dask.org/cluster-name=report", "spec.scheduler.service.selector"]
        {
            assert!(condition.message.contains(words), "{}", condition.message);
        }
    }
}

#[test]
fn a_label_that_others_may_have_added_is_believed_when_workers_have_joined() {
    let other = with_service(json!({"selector": {"mesh.example.org/injected": "true"}}));
    assert_eq!(reason(&other, &joined(0)), Some(Reason::ServiceSelectsNothing));
    assert_eq!(reason(&other, &joined(1)), None);
    let mut starting = other;
    Arc::make_mut(&mut starting.scheduler_pods[0]).state = PodState::Starting;
    assert_eq!(reason(&starting, &joined(0)), None, "who knows what label it will have");
    let wrong = with_service(json!({"selector": {"dask.org/cluster-name": "other"}}));
    assert_eq!(reason(&wrong, &joined(1)), Some(Reason::ServiceSelectsNothing), "they have another address");
}

#[test]
fn the_labels_are_those_of_the_running_scheduler() {
    let selector = json!({"selector": {"dask.org/component": "scheduler", "team": "a"}});
    let mut snapshot = with_service(selector);
    let labels =
        Labels::from([("dask.org/component", "scheduler"), ("team", "a")].map(|(k, v)| (k.into(), v.into())));
    Arc::make_mut(snapshot.deployment.as_mut().unwrap()).pod_labels = Some(labels);
    assert_eq!(reason(&snapshot, &joined(0)), None);
}

#[rstest]
#[case::without_selector(json!({"selector": null}))]
#[case::a_name_elsewhere(json!({"type": "ExternalName", "selector": {"dask.org/cluster-name": "other"}}))]
fn a_service_that_leads_elsewhere_is_its_authors(#[case] change: Value) {
    assert_eq!(reason(&with_service(change), &joined(0)), None);
}

#[rstest]
#[case::renamed(json!([{"name": "dask-tcp-comm", "port": 18786, "targetPort": "tcp-comm"}]), None)]
#[case::only_the_dashboard(json!([{"name": "http-dashboard", "port": 8787}]), Some("no port that leads to"))]
#[case::typing_error(json!([{"name": "tcp-comm", "port": 8786, "targetPort": "tcp-com"}]), Some("\"tcp-com\""))]
fn ports_that_lead_nowhere(#[case] ports: Value, #[case] words: Option<&str>) {
    let snapshot = with_service(json!({ "ports": ports }));
    let nothing = DaskClusterStatus::default();
    let found = finding(&snapshot, &joined(0), &nothing);
    assert_eq!(found.as_ref().map(|found| found.1), words.map(|_| Reason::ServicePortMissing));
    if let (Some((.., message)), Some(words)) = (found, words) {
        let cure = "put {name: tcp-comm, port: 8786, targetPort: 8786} into spec.scheduler.service.ports";
        assert!(message.contains(words) && message.contains(cure), "{message}");
    }
    assert_eq!(finding(&snapshot, &joined(1), &nothing), None, "workers have joined");
}

#[test]
fn another_reason_is_no_matter_of_the_service() {
    let time = Time(Timestamp::UNIX_EPOCH);
    let conditions = Conditions::new(&[], None, &time)
        .set(ConditionType::SchedulerReady, Some(true), Reason::AllReady, "")
        .build();
    assert!(!is_unproven(&DaskClusterStatus { conditions, ..DaskClusterStatus::default() }));
}

#[test]
fn a_restart_of_the_operator_changes_nothing_before_it_has_asked() {
    let snapshot = with_service(json!({"ports": [{"name": "http-dashboard", "port": 8787}]}));
    let empty = DaskClusterStatus::default();
    let told = status(&snapshot, &joined(0), &[], &empty, at(0));
    let silent = status(&snapshot, &joined(1), &[], &empty, at(0));
    for before in [told, silent] {
        assert_eq!(status(&snapshot, &LinkView::default(), &[], &before, at(9)), before);
    }
}
