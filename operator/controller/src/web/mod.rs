//! The server for probes, metrics and the log level.
//!
//! It reads state that is there already, so it answers in milliseconds however busy the controllers are.

mod health;
mod readiness;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::context::Context;
use crate::preflight::Findings;
use crate::telemetry::LogControl;

/// The server cannot listen.
#[derive(Debug, Error)]
#[error("failed to listen on {address} for probes and metrics; give another address by --liveness")]
pub struct WebError {
    address: SocketAddr,
    source: std::io::Error,
}

/// What the server reads.
#[derive(Clone, Debug)]
pub struct Probes {
    /// Caches, metrics, leadership.
    pub context: Arc<Context>,
    /// What is missing.
    pub findings: Findings,
}

/// Binds the address; port 0 takes any free one.
///
/// # Errors
/// When the address is taken or not of this machine.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, WebError> {
    TcpListener::bind(address).await.map_err(|source| WebError { address, source })
}

/// Serves until `shutdown`.
pub async fn serve(listener: TcpListener, health_path: &str, probes: Probes, shutdown: CancellationToken) {
    let router = Router::new()
        .route(health_path, get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/log-level", put(log_level))
        .with_state(probes);
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned());
    if let Err(error) = server.await {
        info!(%error, "the server for probes ended");
    }
}

async fn healthz(State(probes): State<Probes>) -> Response {
    let stuck = health::stuck(&probes.context.cache.watch_health());
    let code = if stuck.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({"now": jiff::Timestamp::now().to_string(), "stuck": stuck});
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn readyz(State(probes): State<Probes>) -> Response {
    match probes.readiness() {
        Ok(text) => text.into_response(),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text).into_response(),
    }
}

async fn metrics(State(probes): State<Probes>) -> Response {
    let ready = probes.readiness().is_ok();
    probes.context.metrics.observe(&probes.context.sample(ready));
    match probes.context.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn log_level(filter: String) -> Response {
    let Some(control) = LogControl::of_process() else {
        return (StatusCode::CONFLICT, "the logs of this process are not the operator's\n").into_response();
    };
    match control.set(filter.trim()) {
        Ok(()) => {
            info!(filter = filter.trim(), "log level changed");
            "ok\n".into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

impl Probes {
    fn readiness(&self) -> Result<String, String> {
        let cache = &self.context.cache;
        let watches = if cache.is_ready() { Vec::new() } else { cache.watch_health() };
        let leadership = &self.context.leadership;
        readiness::report(&self.findings.preflight(), &watches, leadership.is_leader(), leadership.notice().as_deref())
    }
}

#[cfg(test)]
mod tests;
