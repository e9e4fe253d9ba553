//! Prometheus metrics of the operator.

use dask_operator_api::Reason;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// All metrics of the operator. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    api_calls: IntCounterVec,
    api_seconds: HistogramVec,
    watch_events: IntCounterVec,
    reconciles: IntCounterVec,
    reconcile_seconds: HistogramVec,
    problems: IntCounterVec,
}

impl Metrics {
    /// Registers every metric in a registry of its own.
    ///
    /// # Errors
    /// When two metrics have the same name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let histogram = |name: &str, help: &str, labels: &[&str]| {
            HistogramVec::new(
                HistogramOpts::new(name, help).buckets(vec![0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]),
                labels,
            )
        };
        let metrics = Self {
            registry: Registry::new(),
            api_calls: counter(
                "dask_operator_api_calls_total",
                "Calls to the Kubernetes API, by verb, kind and outcome.",
                &["verb", "kind", "outcome"],
            )?,
            api_seconds: histogram(
                "dask_operator_api_call_seconds",
                "Duration of calls to the Kubernetes API, in seconds.",
                &["verb", "kind"],
            )?,
            watch_events: counter("dask_operator_watch_events_total", "Events received on watches.", &["kind"])?,
            reconciles: counter(
                "dask_operator_reconciles_total",
                "Finished reconciliations, by kind and outcome.",
                &["kind", "outcome"],
            )?,
            reconcile_seconds: histogram(
                "dask_operator_reconcile_seconds",
                "Duration of reconciliations, in seconds.",
                &["kind"],
            )?,
            problems: counter(
                "dask_operator_problems_total",
                "Problems announced by a condition and an Event, by kind and reason.",
                &["kind", "reason"],
            )?,
        };
        metrics.registry.register(Box::new(metrics.api_calls.clone()))?;
        metrics.registry.register(Box::new(metrics.api_seconds.clone()))?;
        metrics.registry.register(Box::new(metrics.watch_events.clone()))?;
        metrics.registry.register(Box::new(metrics.reconciles.clone()))?;
        metrics.registry.register(Box::new(metrics.reconcile_seconds.clone()))?;
        metrics.registry.register(Box::new(metrics.problems.clone()))?;
        Ok(metrics)
    }

    /// Counts a finished call to the Kubernetes API. `outcome` is one of a few fixed words.
    pub fn api_call(&self, verb: &str, kind: &str, outcome: &str, seconds: f64) {
        self.api_calls.with_label_values(&[verb, kind, outcome]).inc();
        self.api_seconds.with_label_values(&[verb, kind]).observe(seconds);
    }

    /// Counts an event received on a watch.
    pub fn watch_event(&self, kind: &str) {
        self.watch_events.with_label_values(&[kind]).inc();
    }

    /// Counts a finished reconciliation. `outcome` is one of a few fixed words.
    pub fn reconcile(&self, kind: &str, outcome: &str, seconds: f64) {
        self.reconciles.with_label_values(&[kind, outcome]).inc();
        self.reconcile_seconds.with_label_values(&[kind]).observe(seconds);
    }

    /// Counts a problem that was announced to the user.
    pub fn problem(&self, kind: &str, reason: Reason) {
        self.problems.with_label_values(&[kind, reason.into()]).inc();
    }

    /// The registry, for scraping.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}
