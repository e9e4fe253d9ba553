//! The objects of a job, one a file.

mod cluster;
mod runner;

pub use cluster::{cluster, foreign_selector};
pub use runner::runner;

/// Name of the runner pod of the job with this name.
#[must_use]
pub fn runner_name(job: &str) -> String {
    format!("{job}-runner")
}
