//! The operator as a whole: its parts, wired together.

mod client;
mod life;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use jiff::Timestamp;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use client::{ClientError, Clients, clients};

use crate::backoff::Backoff;
use crate::cluster_cache::ClusterCache;
use crate::context::{Claims, Context};
use crate::controllers::cluster::ClusterRefusals;
use crate::controllers::group::{Edits, Ordinals, Progress};
use crate::controllers::status_writer::StatusMemory;
use crate::controllers::{Obstacles, Starts};
use crate::events::{EventSettings, EventSink};
use crate::leader::{Election, Leadership, LeaseLocation, Timing};
use crate::preflight::{Findings, Inspections};
use crate::scheduler_link::SchedulerLinks;
use crate::settings::{ProbeServer, Settings};
use crate::telemetry::{LogControl, Metrics};
use crate::web::health::{Health, Heartbeat};
use crate::web::readiness::Readiness;
use crate::web::{self, Probes};
use crate::writer::{Lane, Limits, Writer};
use life::Life;

/// Why the operator cannot start, or ended without being asked to.
#[derive(Debug, Error)]
pub enum RunError {
    /// The address for probes cannot be used.
    #[error("failed to listen on {address} for probes and metrics: give another address by --liveness")]
    Listen {
        /// What was given.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The server for probes cannot be started.
    #[error("failed to start the server for probes and metrics")]
    Web(#[source] std::io::Error),
    /// The thread of the election cannot be started.
    #[error("failed to start the election")]
    Election(#[source] std::io::Error),
    /// The metrics contradict each other.
    #[error("failed to register metrics")]
    Metrics(#[from] prometheus::Error),
    /// A part of the operator ended, which it never does by itself.
    #[error("failed to go on: the task of {0} has ended")]
    Ended(&'static str),
}

/// An operator that runs. It stops with its token, or when its runtime does.
#[derive(Debug)]
pub struct Running {
    /// What its reconciliations have at hand.
    pub context: Arc<Context>,
    /// Where its server for probes and metrics listens, if there is one.
    pub address: Option<SocketAddr>,
    probes: Probes,
    life: JoinHandle<Result<(), RunError>>,
}

impl Running {
    /// What its readiness probe answers.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        (self.probes.readiness)()
    }

    /// All its metrics, in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn metrics(&self) -> Result<String, prometheus::Error> {
        (self.probes.metrics)()
    }

    /// Waits until it has stopped.
    ///
    /// # Errors
    /// When it stopped without being asked to.
    pub async fn wait(self) -> Result<(), RunError> {
        self.life.await.unwrap_or(Err(RunError::Ended("the operator")))
    }
}

/// Runs the operator until `shutdown`; returns after its running reconciliations have finished, its Events are sent
/// and its Lease is given back.
///
/// # Errors
/// When it cannot start, or a part of it fails for good. Whatever Kubernetes lacks is no error: it is waited for.
pub async fn run(clients: Clients, settings: Settings, shutdown: CancellationToken) -> Result<(), RunError> {
    start(clients, settings, shutdown)?.wait().await
}

/// Starts the operator in this runtime.
///
/// # Errors
/// As [`run`].
pub fn start(clients: Clients, settings: Settings, shutdown: CancellationToken) -> Result<Running, RunError> {
    let Clients { client, for_election } = clients;
    let settings = Arc::new(settings);
    let metrics = Metrics::new()?;
    let identity = settings.identity();
    let (election, leadership) = stand(&settings, &identity);
    let limits = Limits::of(settings.max_in_flight.into());
    let writer = Writer::new(client.clone(), leadership.clone(), metrics.clone(), limits);
    let events = events(&settings, identity, leadership.clone(), metrics.clone(), writer.clone());
    let context = Arc::new(Context {
        cache: ClusterCache::new(metrics.clone()),
        writer,
        events,
        links: SchedulerLinks::default(),
        backoff: Backoff::new(metrics.clone()),
        metrics,
        settings,
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
    });
    let (inspections, findings) = Inspections::new(client.clone(), &context.settings);
    let heartbeat = Heartbeat::default();
    let probes = probes(&context, &findings, &heartbeat);
    let web = CancellationToken::new();
    let address = serve(&context.settings.liveness, &probes, &web)?;
    let life = Life {
        client,
        context: context.clone(),
        inspections,
        findings,
        heartbeat,
        election: election.map(|election| (election, for_election)),
        shutdown,
        web: web.drop_guard(),
    };
    Ok(Running { context, address, probes, life: tokio::spawn(life.live()) })
}

/// Enters the election, if there is one.
fn stand(settings: &Settings, identity: &str) -> (Option<Election>, Leadership) {
    if !settings.leader_election() {
        return (None, Leadership::always());
    }
    let Some(namespace) = settings.lease_namespace() else {
        let notice = "no namespace for the Lease, so this replica writes without asking others: run one replica only, \
                      or give --lease-namespace";
        tracing::warn!("{notice}");
        return (None, Leadership::unguarded(notice));
    };
    let location = LeaseLocation { namespace, name: settings.lease_name.clone() };
    let (election, leadership) = Election::new(location, identity, Timing::default());
    (Some(election), leadership)
}

fn events(
    settings: &Settings,
    reporter: String,
    leadership: Leadership,
    metrics: Metrics,
    writer: Writer,
) -> EventSink {
    let settings = EventSettings { enabled: settings.events_enabled, level: settings.events_level, reporter };
    let deliver = move |event| {
        let writer = writer.clone();
        async move { writer.create(&event, Lane::Bulk).await.map(drop) }
    };
    EventSink::start(settings, leadership, metrics, deliver).0
}

fn probes(context: &Arc<Context>, findings: &Findings, heartbeat: &Heartbeat) -> Probes {
    let (cache, heartbeat) = (context.cache.clone(), heartbeat.clone());
    let health = move || Health::of(Timestamp::now(), heartbeat.pause(), &cache.watch_health());
    let readiness = {
        let (context, findings) = (context.clone(), findings.clone());
        move || {
            let (cache, notice) = (&context.cache, context.leadership.notice());
            Readiness::of(&findings.preflight(), &cache.watch_health(), cache.is_ready(), notice)
        }
    };
    let metrics = {
        let (context, readiness) = (context.clone(), readiness.clone());
        move || {
            context.metrics.observe(&context.sample(readiness().is_ready()));
            context.metrics.render()
        }
    };
    Probes {
        health: Arc::new(health),
        readiness: Arc::new(readiness),
        metrics: Arc::new(metrics),
        log: LogControl::of_process(),
    }
}

fn serve(
    server: &ProbeServer,
    probes: &Probes,
    stop: &CancellationToken,
) -> Result<Option<SocketAddr>, RunError> {
    let ProbeServer::At { address, health_path } = server else { return Ok(None) };
    let listener =
        TcpListener::bind(address).map_err(|source| RunError::Listen { address: *address, source })?;
    let address = listener.local_addr().map_err(RunError::Web)?;
    web::spawn(listener, health_path, probes.clone(), stop.clone()).map_err(RunError::Web)?;
    Ok(Some(address))
}

#[cfg(test)]
mod tests;
