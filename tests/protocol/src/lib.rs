//! What [`dask_protocol`] is held to: one contract, for real schedulers of several releases and for the fake one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests end there")]

pub mod cluster;
pub mod contract;
pub mod fake;
pub mod lab;
pub mod wait;
