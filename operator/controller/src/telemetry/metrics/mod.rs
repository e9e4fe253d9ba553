//! Prometheus metrics of the operator.

mod definitions;
mod reference;

use std::time::Duration;

use dask_operator_api::Reason;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Error, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use reference::reference;

use crate::events::Outcome;
use definitions::{BUCKETS, Definition};

/// All metrics of the operator. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    leader: IntGaugeVec,
    ready: IntGaugeVec,
    clusters: IntGaugeVec,
    groups: IntGaugeVec,
    jobs: IntGaugeVec,
    pods: IntGaugeVec,
    watch_silence: GaugeVec,
    watch_events: IntCounterVec,
    api_calls: IntCounterVec,
    api_seconds: HistogramVec,
    reconciles: IntCounterVec,
    reconcile_seconds: HistogramVec,
    backing_off: IntGaugeVec,
    links: IntGaugeVec,
    scheduler_polls: IntCounterVec,
    scheduler_failures: IntCounterVec,
    drains: IntCounterVec,
    problems: IntCounterVec,
    events: IntCounterVec,
    autoscaler_decisions: IntCounterVec,
}

/// What is counted when somebody looks, so that it cannot drift from the truth.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// This process leads.
    pub leader: bool,
    /// Nothing is missing.
    pub ready: bool,
    /// Clusters by phase.
    pub clusters: Vec<(&'static str, usize)>,
    /// Worker groups.
    pub groups: usize,
    /// Jobs by status.
    pub jobs: Vec<(&'static str, usize)>,
    /// Pods by component and state.
    pub pods: Vec<(&'static str, &'static str, usize)>,
    /// Links to schedulers by state.
    pub links: Vec<(&'static str, usize)>,
    /// Kind of each watch, and since when the API server has not sent anything on it.
    pub watches: Vec<(&'static str, Duration)>,
}

impl Metrics {
    /// Registers every metric in a registry of its own.
    ///
    /// # Errors
    /// When two metrics have the same name.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let build_info = gauge(&registry, &definitions::BUILD_INFO)?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Self {
            leader: gauge(&registry, &definitions::LEADER)?,
            ready: gauge(&registry, &definitions::READY)?,
            clusters: gauge(&registry, &definitions::CLUSTERS)?,
            groups: gauge(&registry, &definitions::GROUPS)?,
            jobs: gauge(&registry, &definitions::JOBS)?,
            pods: gauge(&registry, &definitions::PODS)?,
            watch_silence: register(&registry, GaugeVec::new, &definitions::WATCH_SILENCE)?,
            watch_events: counter(&registry, &definitions::WATCH_EVENTS)?,
            api_calls: counter(&registry, &definitions::API_CALLS)?,
            api_seconds: histogram(&registry, &definitions::API_SECONDS)?,
            reconciles: counter(&registry, &definitions::RECONCILES)?,
            reconcile_seconds: histogram(&registry, &definitions::RECONCILE_SECONDS)?,
            backing_off: gauge(&registry, &definitions::BACKING_OFF)?,
            links: gauge(&registry, &definitions::LINKS)?,
            scheduler_polls: counter(&registry, &definitions::SCHEDULER_POLLS)?,
            scheduler_failures: counter(&registry, &definitions::SCHEDULER_FAILURES)?,
            drains: counter(&registry, &definitions::DRAINS)?,
            problems: counter(&registry, &definitions::PROBLEMS)?,
            events: counter(&registry, &definitions::EVENTS)?,
            autoscaler_decisions: counter(&registry, &definitions::AUTOSCALER_DECISIONS)?,
            registry,
        })
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

    /// Counts a round of questions that a scheduler answered. `source` is one of two fixed words.
    pub fn scheduler_poll(&self, source: &str) {
        self.scheduler_polls.with_label_values(&[source]).inc();
    }

    /// Counts a round of questions that a scheduler did not answer.
    pub fn scheduler_failure(&self, reason: Reason) {
        self.scheduler_failures.with_label_values(&[<&str>::from(reason)]).inc();
    }

    /// Counts the outcome of a drain. `outcome` is one of a few fixed words.
    pub fn drain(&self, outcome: &str) {
        self.drains.with_label_values(&[outcome]).inc();
    }

    /// Says how many objects of a kind wait after a failure.
    pub fn backing_off(&self, kind: &str, objects: usize) {
        self.backing_off.with_label_values(&[kind]).set(as_gauge(objects));
    }

    /// Counts a decision of an autoscaler.
    pub fn autoscaler_decision(&self, reason: Reason) {
        self.autoscaler_decisions.with_label_values(&[<&str>::from(reason)]).inc();
    }

    /// Counts a Kubernetes Event.
    pub fn event(&self, outcome: Outcome) {
        self.events.with_label_values(&[<&str>::from(outcome)]).inc();
    }

    /// Sets the gauges of what was just counted.
    pub fn observe(&self, sample: &Sample) {
        let none: &[&str] = &[];
        self.leader.with_label_values(none).set(i64::from(sample.leader));
        self.ready.with_label_values(none).set(i64::from(sample.ready));
        self.groups.with_label_values(none).set(as_gauge(sample.groups));
        self.clusters.reset();
        for (phase, count) in &sample.clusters {
            self.clusters.with_label_values(&[*phase]).add(as_gauge(*count));
        }
        self.jobs.reset();
        for (status, count) in &sample.jobs {
            self.jobs.with_label_values(&[*status]).add(as_gauge(*count));
        }
        self.pods.reset();
        for (component, state, count) in &sample.pods {
            self.pods.with_label_values(&[*component, *state]).add(as_gauge(*count));
        }
        for (state, count) in &sample.links {
            self.links.with_label_values(&[*state]).set(as_gauge(*count));
        }
        self.watch_silence.reset();
        for (kind, silence) in &sample.watches {
            let longest = self.watch_silence.with_label_values(&[*kind]);
            longest.set(longest.get().max(silence.as_secs_f64()));
        }
    }

    /// The registry, for tests that read single values.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn render(&self) -> Result<String, Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn register<M: Collector + Clone + 'static>(
    registry: &Registry,
    new: impl FnOnce(Opts, &[&str]) -> Result<M, Error>,
    definition: &Definition,
) -> Result<M, Error> {
    let metric = new(Opts::new(definition.name, definition.help), definition.labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(registry: &Registry, definition: &Definition) -> Result<IntCounterVec, Error> {
    register(registry, IntCounterVec::new, definition)
}

fn gauge(registry: &Registry, definition: &Definition) -> Result<IntGaugeVec, Error> {
    register(registry, IntGaugeVec::new, definition)
}

fn histogram(registry: &Registry, definition: &Definition) -> Result<HistogramVec, Error> {
    let new = |options: Opts, labels: &[&str]| {
        HistogramVec::new(HistogramOpts::from(options).buckets(BUCKETS.to_vec()), labels)
    };
    register(registry, new, definition)
}

#[cfg(test)]
mod tests;
