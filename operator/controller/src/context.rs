//! What every reconciliation has at hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dask_operator_api::{DaskAutoscalerStatus, DaskClusterStatus, DaskJobStatus, DaskWorkerGroupStatus};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;

use crate::backoff::Backoff;
use crate::cluster_cache::ClusterCache;
use crate::cluster_cache::records::PodState;
use crate::controllers::announce::Announcement;
use crate::controllers::cluster::ClusterRefusals;
use crate::controllers::group::{Edits, Ordinals, Progress};
use crate::controllers::status_writer::StatusMemory;
use crate::controllers::{Obstacles, Starts};
use crate::events::{Event, EventSink, EventType};
use crate::leader::Leadership;
use crate::scheduler_link::SchedulerLinks;
use crate::settings::Settings;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Sample;
use crate::writer::Writer;

/// What the operator was doing when it told something: the `action` of its Events.
const ACTION: &str = "Reconcile";

/// Refused writes to the metadata of objects that users made, by kind.
#[derive(Debug, Default)]
pub struct Claims {
    /// Of clusters.
    pub clusters: Obstacles,
    /// Of jobs.
    pub jobs: Obstacles,
    /// Of autoscalers.
    pub autoscalers: Obstacles,
}

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
    /// What the schedulers said last.
    pub links: SchedulerLinks,
    /// Failures of each object.
    pub backoff: Backoff,
    /// Refused writes to the metadata of clusters, jobs and autoscalers themselves.
    pub claims: Claims,
    /// Refused writes of clusters.
    pub cluster_refusals: ClusterRefusals,
    /// Refused writes of groups.
    pub group_obstacles: Obstacles,
    /// The highest ordinal given in each group.
    pub ordinals: Ordinals,
    /// What happened to each group since it was last at rest.
    pub progress: Progress,
    /// When each group was edited last.
    pub group_edits: Edits,
    /// The last written status of each cluster.
    pub cluster_status: StatusMemory<DaskClusterStatus>,
    /// The last written status of each group.
    pub group_status: StatusMemory<DaskWorkerGroupStatus>,
    /// Refused writes of jobs.
    pub job_obstacles: Obstacles,
    /// The last written status of each job.
    pub job_status: StatusMemory<DaskJobStatus>,
    /// The last written status of each autoscaler.
    pub autoscaler_status: StatusMemory<DaskAutoscalerStatus>,
    /// What is remembered of how pods start.
    pub starts: Starts,
}

impl Context {
    /// Tells a person about an object by an Event, and counts it if it is a problem.
    pub fn announce<K: Resource<DynamicType = ()>>(&self, object: &K, news: &Announcement) {
        self.announce_at(object.object_ref(&()), news);
    }

    /// The same of an object of which no more is known than where it is.
    pub fn announce_at(&self, object: ObjectReference, news: &Announcement) {
        if news.warning {
            self.metrics.problem(object.kind.as_deref().unwrap_or_default(), news.reason);
        }
        let type_ = if news.warning { EventType::Warning } else { EventType::Normal };
        let message = news.message.clone();
        self.events.publish(object, Event { type_, reason: news.reason, action: ACTION, message });
    }

    /// Counts what the gauges show.
    #[must_use]
    pub fn sample(&self, ready: bool) -> Sample {
        let counts = self.cache.counts(Instant::now());
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
            jobs: counts
                .jobs
                .into_iter()
                .map(|(status, count)| (status.map_or("None", <&str>::from), count))
                .collect(),
            pods: pods.collect(),
            links: self.links.states(),
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

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use dask_operator_api::{DaskCluster, Reason};
    use kube::Client;
    use kube::client::Body;
    use tower::service_fn;

    use super::*;
    use crate::events::EventSettings;
    use crate::settings::EventLevel;
    use crate::writer::Limits;

    pub(crate) type Told = Arc<Mutex<Vec<(String, String, String)>>>;

    /// A context without an API server, and the type, reason and action of its Events.
    pub(crate) fn context() -> (Context, Told) {
        let client = Client::new(
            service_fn(|_: http::Request<Body>| {
                std::future::pending::<Result<http::Response<Body>, std::convert::Infallible>>()
            }),
            "ns",
        );
        let (metrics, leadership) = (Metrics::new().unwrap(), Leadership::always());
        let settings =
            EventSettings { enabled: true, level: EventLevel::Normal, reporter: "test".to_owned() };
        let told = Told::default();
        let log = told.clone();
        let (events, _) = EventSink::start(settings, leadership.clone(), metrics.clone(), move |event| {
            let words = [event.type_, event.reason, event.action].map(Option::unwrap_or_default);
            log.lock().unwrap().push(words.into());
            std::future::ready(Ok::<(), std::io::Error>(()))
        });
        let context = Context {
            cache: ClusterCache::new(metrics.clone()),
            writer: Writer::new(client, leadership.clone(), metrics.clone(), Limits::default()),
            events,
            links: SchedulerLinks::default(),
            backoff: Backoff::new(metrics.clone()),
            metrics,
            settings: Arc::new(Settings::from_arguments([""; 0]).unwrap()),
            leadership,
            cluster_refusals: ClusterRefusals::default(),
            group_obstacles: Obstacles::default(),
            ordinals: Ordinals::default(),
            progress: Progress::default(),
            group_edits: Edits::default(),
            cluster_status: StatusMemory::default(),
            group_status: StatusMemory::default(),
            claims: Claims::default(),
            job_obstacles: Obstacles::default(),
            job_status: StatusMemory::default(),
            autoscaler_status: StatusMemory::default(),
            starts: Starts::default(),
        };
        (context, told)
    }

    #[tokio::test]
    async fn problems_are_told_and_counted_and_news_are_told() {
        let (context, told) = context();
        let cluster = DaskCluster::default();
        let news = |reason, warning| Announcement { reason, message: "words".to_owned(), warning };
        context.announce(&cluster, &news(Reason::ImagePullFailed, true));
        context.announce(&cluster, &news(Reason::AllReady, false));
        context.events.flush(Duration::from_secs(10)).await;
        let expected = [("Warning", "ImagePullFailed"), ("Normal", "AllReady")]
            .map(|(type_, reason)| (type_.to_owned(), reason.to_owned(), "Reconcile".to_owned()));
        assert_eq!(*told.lock().unwrap(), expected);
        let text = context.metrics.render().unwrap();
        let problem = "dask_operator_problems_total{kind=\"DaskCluster\",reason=\"ImagePullFailed\"} 1";
        assert!(text.contains(problem) && !text.contains("AllReady"), "{text}");
    }

    #[tokio::test]
    async fn an_empty_cache_gives_an_empty_sample() {
        let (context, _) = context();
        let links = vec![("answering", 0), ("failing", 0), ("not_running", 0)];
        let expected = Sample { leader: true, ready: true, links, ..Sample::default() };
        assert_eq!(context.sample(true), expected);
    }
}
