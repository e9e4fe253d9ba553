use std::collections::BTreeSet;
use std::path::Path;

use prometheus::proto::MetricType;
use strum::IntoEnumIterator;

use super::definitions::{ALL, PROCESS, Type};
use super::*;

/// Metrics of which each has at least one value.
fn all_used() -> Metrics {
    let metrics = Metrics::new().unwrap();
    metrics.api_call("create", "Pod", "success", 0.1);
    metrics.watch_event("Pod");
    metrics.reconcile("DaskCluster", "success", 0.1);
    metrics.problem("DaskCluster", Reason::ImagePullFailed);
    metrics.backing_off("DaskCluster", 3);
    metrics.event(Outcome::Published);
    metrics.scheduler_poll("telemetry");
    metrics.scheduler_failure(Reason::SchedulerUnreachable);
    metrics.drain("drained");
    metrics.autoscaler_decision(Reason::Autoscaled);
    metrics.observe(&Sample {
        leader: true,
        ready: false,
        clusters: vec![("Running", 2)],
        groups: 4,
        jobs: vec![("Running", 6)],
        pods: vec![("worker", "Ready", 5)],
        links: vec![("answering", 1), ("failing", 0)],
        watches: vec![("Pod", Duration::from_secs(1)), ("Pod", Duration::from_secs(3))],
    });
    metrics
}

#[test]
fn what_is_registered_is_what_the_list_says() {
    let families = all_used().registry().gather();
    let seen: BTreeSet<String> = families.iter().map(|family| family.name().to_owned()).collect();
    let listed = ALL.iter().copied().chain(&PROCESS).map(|definition| definition.name.to_owned());
    assert_eq!(seen, listed.collect());
    for family in families {
        let definition = ALL.iter().copied().chain(&PROCESS).find(|d| d.name == family.name()).unwrap();
        let type_ = match family.get_field_type() {
            MetricType::COUNTER => Type::Counter,
            MetricType::HISTOGRAM => Type::Histogram,
            _ => Type::Gauge,
        };
        assert_eq!((type_, family.help()), (definition.type_, definition.help), "{}", definition.name);
        let labels: BTreeSet<&str> =
            family.get_metric()[0].get_label().iter().map(prometheus::proto::LabelPair::name).collect();
        assert_eq!(labels, definition.labels.iter().copied().collect(), "{}", definition.name);
    }
}

#[test]
fn values_in_text_format() {
    let text = all_used().render().unwrap();
    for line in [
        concat!("dask_operator_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "dask_operator_leader 1",
        "dask_operator_ready 0",
        "dask_operator_clusters{phase=\"Running\"} 2",
        "dask_operator_worker_groups 4",
        "dask_operator_jobs{status=\"Running\"} 6",
        "dask_operator_autoscaler_decisions_total{reason=\"Autoscaled\"} 1",
        "dask_operator_pods{component=\"worker\",state=\"Ready\"} 5",
        "dask_operator_watch_silence_seconds{kind=\"Pod\"} 3",
        "dask_operator_api_call_seconds_bucket{kind=\"Pod\",verb=\"create\",le=\"0.1\"} 1",
        "dask_operator_problems_total{kind=\"DaskCluster\",reason=\"ImagePullFailed\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}

#[test]
fn what_is_no_more_is_not_counted_any_longer() {
    let metrics = all_used();
    metrics.observe(&Sample { clusters: vec![("Pending", 1)], ..Sample::default() });
    let text = metrics.render().unwrap();
    assert!(text.contains("dask_operator_clusters{phase=\"Pending\"} 1"));
    for gone in ["phase=\"Running\"", "component=\"worker\"", "watch_silence_seconds{"] {
        assert!(!text.contains(gone), "{gone} is still in:\n{text}");
    }
}

#[test]
fn every_outcome_of_an_event_is_in_the_help() {
    for outcome in Outcome::iter() {
        let word: &str = outcome.into();
        assert!(definitions::EVENTS.help.contains(word), "{word}");
    }
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == reference(), "{} is stale: run `make generate`", path.display());
}
