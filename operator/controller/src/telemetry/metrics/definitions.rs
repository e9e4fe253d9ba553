//! The name, labels and meaning of every metric: the one list behind the registry and the reference page.
//!
//! Labels take few values, all known beforehand; never the name of an object.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
}

/// One metric.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) type_: Type,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Definition {
    Definition { name, type_: Type::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Definition {
    Definition { name, type_: Type::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Definition {
    Definition { name, type_: Type::Histogram, labels, help }
}

/// Bounds of all histograms, in seconds.
pub(super) const BUCKETS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];

pub(super) const BUILD_INFO: Definition =
    gauge("dask_operator_build_info", &["version"], "Always 1; the label names the version that runs.");
pub(super) const LEADER: Definition =
    gauge("dask_operator_leader", &[], "1 on the replica that writes, 0 on those that stand by.");
pub(super) const READY: Definition =
    gauge("dask_operator_ready", &[], "1 if nothing that the operator needs is missing; see /readyz.");
pub(super) const CLUSTERS: Definition =
    gauge("dask_operator_clusters", &["phase"], "DaskClusters, by phase; None for those not handled yet.");
pub(super) const GROUPS: Definition = gauge("dask_operator_worker_groups", &[], "DaskWorkerGroups.");
pub(super) const JOBS: Definition =
    gauge("dask_operator_jobs", &["status"], "DaskJobs, by status; None for those not handled yet.");
pub(super) const PODS: Definition =
    gauge("dask_operator_pods", &["component", "state"], "Scheduler and worker pods, by state.");
pub(super) const WATCH_SILENCE: Definition = gauge(
    "dask_operator_watch_silence_seconds",
    &["kind"],
    "Seconds since the API server sent anything on a watch of this kind, a bookmark about every minute at least.",
);
pub(super) const WATCH_EVENTS: Definition =
    counter("dask_operator_watch_events_total", &["kind"], "Events received on watches, bookmarks included.");
pub(super) const API_CALLS: Definition = counter(
    "dask_operator_api_calls_total",
    &["verb", "kind", "outcome"],
    "Calls to the Kubernetes API, by verb, kind and outcome.",
);
pub(super) const API_SECONDS: Definition = histogram(
    "dask_operator_api_call_seconds",
    &["verb", "kind"],
    "Duration of calls to the Kubernetes API, in seconds.",
);
pub(super) const RECONCILES: Definition = counter(
    "dask_operator_reconciles_total",
    &["kind", "outcome"],
    "Finished reconciliations, by kind and outcome.",
);
pub(super) const RECONCILE_SECONDS: Definition =
    histogram("dask_operator_reconcile_seconds", &["kind"], "Duration of reconciliations, in seconds.");
pub(super) const BACKING_OFF: Definition = gauge(
    "dask_operator_reconcile_backing_off",
    &["kind"],
    "Objects whose last reconciliation failed and that wait to be tried again.",
);
pub(super) const LINKS: Definition = gauge(
    "dask_operator_scheduler_links",
    &["state"],
    "Schedulers that are answering, failing to answer, or not_running.",
);
pub(super) const SCHEDULER_POLLS: Definition = counter(
    "dask_operator_scheduler_polls_total",
    &["source"],
    "Rounds of questions that schedulers answered, by telemetry or standard operations.",
);
pub(super) const SCHEDULER_FAILURES: Definition = counter(
    "dask_operator_scheduler_failures_total",
    &["reason"],
    "Rounds of questions that schedulers did not answer, by reason.",
);
pub(super) const DRAINS: Definition = counter(
    "dask_operator_drains_total",
    &["outcome"],
    "Workers that the scheduler confirmed as drained, or refused to retire.",
);
pub(super) const PROBLEMS: Definition = counter(
    "dask_operator_problems_total",
    &["kind", "reason"],
    "Problems announced by a condition and an Event, by kind and reason.",
);
pub(super) const EVENTS: Definition = counter(
    "dask_operator_events_total",
    &["outcome"],
    "Kubernetes Events: published, or dropped as duplicate, rate_limited, queue_full or failed.",
);

pub(super) const AUTOSCALER_DECISIONS: Definition = counter(
    "dask_operator_autoscaler_decisions_total",
    &["reason"],
    "Decisions of DaskAutoscalers, by reason; Autoscaled for those that changed the number of workers.",
);

/// All of them, in the order of the reference page.
pub(super) const ALL: [&Definition; 21] = [
    &BUILD_INFO,
    &LEADER,
    &READY,
    &CLUSTERS,
    &GROUPS,
    &JOBS,
    &PODS,
    &WATCH_SILENCE,
    &WATCH_EVENTS,
    &API_CALLS,
    &API_SECONDS,
    &RECONCILES,
    &RECONCILE_SECONDS,
    &BACKING_OFF,
    &LINKS,
    &SCHEDULER_POLLS,
    &SCHEDULER_FAILURES,
    &DRAINS,
    &PROBLEMS,
    &EVENTS,
    &AUTOSCALER_DECISIONS,
];

/// Metrics of the process, by the `process` feature of the prometheus crate.
pub(super) const PROCESS: [Definition; 7] = [
    counter("process_cpu_seconds_total", &[], "Total user and system CPU time spent in seconds."),
    gauge("process_max_fds", &[], "Maximum number of open file descriptors."),
    gauge("process_open_fds", &[], "Number of open file descriptors."),
    gauge("process_resident_memory_bytes", &[], "Resident memory size in bytes."),
    gauge("process_start_time_seconds", &[], "Start time of the process since unix epoch in seconds."),
    gauge("process_threads", &[], "Number of OS threads in the process."),
    gauge("process_virtual_memory_bytes", &[], "Virtual memory size in bytes."),
];
