//! The operator put together: checks → watches → election → controllers, and the way down again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::PostParams;
use kube::{Api, Client};
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::cluster_cache::{ClusterCache, Scope, watch};
use crate::context::Context;
use crate::controllers::{cluster, group};
use crate::events::{EventSettings, EventSink};
use crate::leader::{Election, LeaseLocation, Leadership, Timing};
use crate::preflight::{Findings, Inspections};
use crate::settings::{ProbeServer, Settings};
use crate::telemetry::Metrics;
use crate::web::{self, Probes, WebError};
use crate::writer::{FIELD_MANAGER, Limits, Writer};

/// Longest time for reconciliations to end on a stop.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Longest time for Events to be sent on a stop.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// Longest time for one Event to be sent.
const EVENT_LIMIT: Duration = Duration::from_secs(10);

/// The operator cannot start.
#[derive(Debug, Error)]
pub enum RunError {
    /// Two metrics have the same name.
    #[error("failed to register the metrics")]
    Metrics(#[from] prometheus::Error),
    /// The server for probes cannot listen.
    #[error("failed to start the server for probes")]
    Web(#[from] WebError),
    /// A part of the operator ended by a defect.
    #[error("failed to keep the operator running")]
    Ended(#[from] tokio::task::JoinError),
}

/// An operator that runs until its token is cancelled.
#[derive(Debug)]
pub struct Running {
    probes: Option<SocketAddr>,
    task: JoinHandle<()>,
}

impl Running {
    /// Where the server for probes listens, if there is one.
    #[must_use]
    pub fn probe_address(&self) -> Option<SocketAddr> {
        self.probes
    }

    /// Waits until the operator has stopped.
    ///
    /// # Errors
    /// When it ended by a defect.
    pub async fn finished(self) -> Result<(), RunError> {
        Ok(self.task.await?)
    }
}

/// Runs the operator until `shutdown`.
///
/// # Errors
/// When it cannot start.
pub async fn run(client: Client, settings: Settings, shutdown: CancellationToken) -> Result<(), RunError> {
    start(client, settings, shutdown).await?.finished().await
}

/// Starts the operator; it stops on `shutdown`. What it lacks in the cluster does not fail it: it waits, and its
/// readiness probe says what is missing.
///
/// # Errors
/// When its metrics or its server cannot be set up.
pub async fn start(client: Client, settings: Settings, shutdown: CancellationToken) -> Result<Running, RunError> {
    let metrics = Metrics::new()?;
    let identity = settings.identity();
    // Lives longer than `shutdown`: what the controllers need until their last write.
    let background = CancellationToken::new();
    let (election, leadership) = election(&client, &settings, &identity);
    let (events, _) = event_sink(&client, &settings, identity, &leadership, &metrics);
    let limits = Limits { in_flight: settings.max_in_flight.into(), ..Limits::default() };
    let context = Arc::new(Context {
        cache: ClusterCache::new(metrics.clone()),
        writer: Writer::new(client.clone(), leadership.clone(), metrics.clone(), limits),
        events,
        backoff: Backoff::new(metrics.clone()),
        metrics,
        leadership,
        cluster_obstacles: Default::default(),
        group_obstacles: Default::default(),
        cluster_status: Default::default(),
        group_status: Default::default(),
        settings: Arc::new(settings),
    });
    let (inspections, findings) = Inspections::new(client.clone(), &context.settings);
    let probes = serve_probes(&context, &findings, &background).await?;

    let task = tokio::spawn(async move {
        let election = election.map(|election| tokio::spawn(election.run(background.clone())));
        let troubled = watch_troubles(&context);
        let inspecting = background.run_until_cancelled(inspections.run(troubled));
        let working = async {
            reconcile(&client, &context, findings, &shutdown, &background).await;
            context.events.flush(FLUSH_LIMIT).await;
            background.cancel();
        };
        tokio::join!(inspecting, working);
        if let Some(election) = election
            && let Err(error) = election.await
        {
            warn!(%error, "the election ended by a defect");
        }
        info!("the operator has stopped");
    });
    Ok(Running { probes, task })
}

/// Waits for what is missing, fills the caches and reconciles until `shutdown`.
async fn reconcile(
    client: &Client,
    context: &Arc<Context>,
    mut findings: Findings,
    shutdown: &CancellationToken,
    background: &CancellationToken,
) {
    let Some(namespaces) = shutdown.run_until_cancelled(findings.complete()).await else { return };
    let scope = namespaces.map_or(Scope::All, |names| Scope::Namespaces(names.into_iter().collect()));
    let _watches = watch(client, &scope, &context.cache, background);
    if shutdown.run_until_cancelled(context.cache.wait_ready()).await.is_none() {
        return;
    }
    info!("the caches are filled");
    let clusters = cluster::run(context.cache.cluster_store(), context.clone(), shutdown.clone());
    let groups = group::run(context.cache.group_store(), context.clone(), shutdown.clone());
    let controllers = async { tokio::join!(clusters, groups) };
    tokio::pin!(controllers);
    tokio::select! {
        _ = &mut controllers => {}
        () = shutdown.cancelled() => {
            if timeout(STOP_LIMIT, controllers).await.is_err() {
                warn!(limit = ?STOP_LIMIT, "stopped although reconciliations had not ended");
            }
        }
    }
}

fn election(client: &Client, settings: &Settings, identity: &str) -> (Option<Election>, Leadership) {
    if !settings.leader_election() {
        return (None, Leadership::always());
    }
    let Some(namespace) = settings.lease_namespace() else {
        warn!("no namespace for the Lease, so nothing keeps two replicas apart: give --lease-namespace or POD_NAMESPACE");
        return (None, Leadership::always());
    };
    let location = LeaseLocation { namespace, name: settings.lease_name.clone() };
    let (election, leadership) = Election::new(client.clone(), location, identity, Timing::default());
    (Some(election), leadership)
}

fn event_sink(
    client: &Client,
    settings: &Settings,
    reporter: String,
    leadership: &Leadership,
    metrics: &Metrics,
) -> (EventSink, JoinHandle<()>) {
    let client = client.clone();
    let deliver = move |event: Event| {
        let events: Api<Event> =
            Api::namespaced(client.clone(), event.metadata.namespace.as_deref().unwrap_or("default"));
        async move {
            let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            let sent = timeout(EVENT_LIMIT, events.create(&params, &event)).await;
            sent.map_err(|_| EventError::Silent)?.map(|_| ()).map_err(|error| EventError::Refused(Box::new(error)))
        }
    };
    let settings = EventSettings { enabled: settings.events_enabled, level: settings.events_level, reporter };
    EventSink::start(settings, leadership.clone(), metrics.clone(), deliver)
}

/// An Event was not taken.
#[derive(Debug, Error)]
enum EventError {
    #[error("no answer within {} s", EVENT_LIMIT.as_secs())]
    Silent,
    #[error("the API server did not take it")]
    Refused(#[source] Box<kube::Error>),
}

async fn serve_probes(
    context: &Arc<Context>,
    findings: &Findings,
    background: &CancellationToken,
) -> Result<Option<SocketAddr>, RunError> {
    let ProbeServer::At { address, health_path } = context.settings.liveness.clone() else { return Ok(None) };
    let listener = web::bind(address).await?;
    let bound = listener.local_addr().ok();
    let probes = Probes { context: context.clone(), findings: findings.clone() };
    let shutdown = background.clone();
    tokio::spawn(async move { web::serve(listener, &health_path, probes, shutdown).await });
    Ok(bound)
}

/// Whether a watch fails now: then a close look at definitions and rights is due.
fn watch_troubles(context: &Arc<Context>) -> impl Fn() -> bool + use<> {
    let cache = context.cache.clone();
    move || cache.watch_health().iter().any(|watch| watch.last_error.is_some())
}
