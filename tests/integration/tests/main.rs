//! The operator against a real API server.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, with what they saw"
)]

mod api_contract;
mod autoscaler;
mod bad_input;
mod chart;
mod clusters;
mod compatibility;
mod convergence;
mod draining;
#[path = "../../../operator/api/tests/fixtures/mod.rs"]
mod fixtures;
mod hostile;
mod idle;
mod jobs;
mod joining;
mod leader;
mod links;
mod many_workers;
mod missing_crds;
mod neighbours;
mod rbac;
mod refusals;
mod rest;
mod samples;
mod services;
mod stale_cache;
mod stamps;
mod starts;
mod takeover;
mod updates;
mod worker_failure;
