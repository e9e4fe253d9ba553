//! What every reconciliation has at hand.

use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::{DaskClusterStatus, DaskWorkerGroupStatus};
use kube::Resource;

use crate::backoff::Backoff;
use crate::cluster_cache::ClusterCache;
use crate::cluster_cache::records::PodState;
use crate::controllers::Obstacles;
use crate::controllers::announce::Announcement;
use crate::controllers::status_writer::StatusMemory;
use crate::events::{Event, EventSink, EventType};
use crate::leader::Leadership;
use crate::settings::Settings;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Sample;
use crate::writer::Writer;

/// What the operator was doing when it told something: the `action` of its Events.
const ACTION: &str = "Reconcile";

/// What every reconciliation has at hand.
#[derive(Debug)]
pub struct Context {
    /// The watched state.
    pub cache: ClusterCache,
    /// The only way to write.
    pub writer: Writer,
    /// Where Events are put.
    pub events: EventSink,
    /// All metrics.
    pub metrics: Metrics,
    /// The settings.
    pub settings: Arc<Settings>,
    /// Whether this process may write.
    pub leadership: Leadership,
    /// Failures of each object.
    pub backoff: Backoff,
    /// Refused writes of clusters.
    pub cluster_obstacles: Obstacles,
    /// Refused writes of groups.
    pub group_obstacles: Obstacles,
    /// The last written status of each cluster.
    pub cluster_status: StatusMemory<DaskClusterStatus>,
    /// The last written status of each group.
    pub group_status: StatusMemory<DaskWorkerGroupStatus>,
}

impl Context {
    /// Tells a person about an object by an Event, and counts it if it is a problem.
    pub fn announce<K: Resource<DynamicType = ()>>(&self, object: &K, news: &Announcement) {
        if news.warning {
            self.metrics.problem(&K::kind(&()), news.reason);
        }
        let type_ = if news.warning { EventType::Warning } else { EventType::Normal };
        let message = news.message.clone();
        self.events
            .publish(object.object_ref(&()), Event { type_, reason: news.reason, action: ACTION, message });
    }

    /// Counts what the gauges show.
    #[must_use]
    pub fn sample(&self, ready: bool) -> Sample {
        let counts = self.cache.counts();
        let pods = counts.pods.into_iter().map(|(scheduler, state, count)| {
            let component = if scheduler { "scheduler" } else { "worker" };
            (component, state_word(state), count)
        });
        let watches = self.cache.watch_health().into_iter();
        Sample {
            leader: self.leadership.is_leader(),
            ready,
            clusters: counts
                .clusters
                .into_iter()
                .map(|(phase, count)| (phase.map_or("None", <&str>::from), count))
                .collect(),
            groups: counts.groups,
            pods: pods.collect(),
            watches: watches
                .map(|watch| {
                    (
                        watch.kind,
                        Duration::try_from_secs_f64(watch.seconds_since_activity).unwrap_or_default(),
                    )
                })
                .collect(),
        }
    }
}

fn state_word(state: PodState) -> &'static str {
    match state {
        PodState::Pending => "Pending",
        PodState::Starting => "Starting",
        PodState::Ready => "Ready",
        PodState::Failed => "Failed",
        PodState::Terminating => "Terminating",
    }
}
