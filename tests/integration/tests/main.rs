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
mod compatibility;
mod convergence;
mod draining;
#[path = "../../../operator/api/tests/fixtures/mod.rs"]
mod fixtures;
mod idle;
mod jobs;
mod leader;
mod links;
mod missing_crds;
mod rbac;
mod rest;
mod samples;
mod stale_cache;
mod starts;
mod takeover;
mod updates;
mod worker_failure;
