//! The Dask operator: reconciles `DaskCluster` and `DaskWorkerGroup` resources into scheduler and worker pods.
//!
//! Data flows one way: watches fill the [`cluster_cache`]; a controller takes an immutable snapshot, decides
//! without client or clock, has the [`writer`] apply the plan, and derives the status from what was applied
//! and observed.

pub mod backoff;
pub mod cluster_cache;
pub mod context;
pub mod controllers;
pub mod digest;
mod error_chain;
pub mod events;
pub mod fair;
pub mod leader;
mod object_text;
pub mod pods;
pub mod preflight;
pub mod run;
pub mod scheduler_link;
pub mod settings;
pub mod telemetry;
pub mod web;
mod words;
pub mod writer;
