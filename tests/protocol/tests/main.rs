//! The client against real Dask.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests end there")]

mod fakes;
mod fuzz;
mod releases;
mod tls;
