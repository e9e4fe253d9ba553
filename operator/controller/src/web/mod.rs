//! The server for probes, metrics and the log level.
//!
//! It runs on a thread of its own, so that it answers in time however busy the operator is, and notices if the
//! operator's runtime hangs.

pub mod health;
pub mod readiness;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::runtime;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::telemetry::LogControl;
use health::Health;
use readiness::Readiness;

/// Longest log filter that is read, in bytes.
const LONGEST_FILTER: usize = 1024;
/// Stack of the server's thread, in bytes.
const STACK: usize = 512 * 1024;

type Source<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// What the server answers from.
#[derive(Clone)]
pub struct Probes {
    /// For the health probe.
    pub health: Source<Health>,
    /// For `/readyz`.
    pub readiness: Source<Readiness>,
    /// For `/metrics`, in Prometheus' text format.
    pub metrics: Source<Result<String, prometheus::Error>>,
    /// For `/log-level`; without it the level cannot be changed.
    pub log: Option<LogControl>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").finish_non_exhaustive()
    }
}

/// Starts the server on a thread of its own; it ends with `shutdown`.
///
/// # Errors
/// When the thread or its runtime cannot be made.
pub fn spawn(
    listener: TcpListener,
    health_path: &str,
    probes: Probes,
    shutdown: CancellationToken,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let router = router(health_path, probes);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("web".to_owned()).stack_size(STACK).spawn(move || {
        if let Err(error) = runtime.block_on(serve(listener, router, shutdown)) {
            warn!(%error, "the server for probes has failed");
        }
    })?;
    Ok(())
}

async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    // Connections that are still open are dropped: their clients ask again.
    shutdown.run_until_cancelled_owned(async { axum::serve(listener, service).await }).await.unwrap_or(Ok(()))
}

fn router(health_path: &str, probes: Probes) -> Router {
    Router::new()
        .route(health_path, get(health))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .route("/log-level", get(log_level).put(set_log_level))
        .layer(DefaultBodyLimit::max(LONGEST_FILTER))
        .with_state(probes)
}

async fn health(State(probes): State<Probes>) -> Response {
    let health = (probes.health)();
    match serde_json::to_string(&health) {
        Ok(text) => (code(health.is_good()), [(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn readiness(State(probes): State<Probes>) -> Response {
    let readiness = (probes.readiness)();
    (code(readiness.is_ready()), readiness.to_string()).into_response()
}

async fn metrics(State(probes): State<Probes>) -> Response {
    match (probes.metrics)() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn log_level(State(probes): State<Probes>) -> Response {
    match probes.log.map(|log| log.filter()) {
        Some(Ok(filter)) => filter.into_response(),
        Some(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Changes the log filter, for callers within the pod and by `kubectl port-forward` only: who can reach the port
/// for metrics shall not be able to silence the logs.
async fn set_log_level(
    State(probes): State<Probes>,
    ConnectInfo(caller): ConnectInfo<SocketAddr>,
    filter: String,
) -> Response {
    if !caller.ip().to_canonical().is_loopback() {
        let cure = "the log level can be set from within the pod only: use `kubectl port-forward`\n";
        return (StatusCode::FORBIDDEN, cure).into_response();
    }
    let Some(log) = probes.log else { return StatusCode::NOT_FOUND.into_response() };
    match log.set(filter.trim()) {
        Ok(()) => {
            info!(filter = filter.trim(), "log filter changed");
            format!("{}\n", filter.trim()).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

fn code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests;
