//! A scheduler and workers that compute nothing but talk like Dask's: for tests of faults, and for loads.
//!
//! [`FakeScheduler`] keeps the rules of the real one where an operator can notice (what is refused, what reverts, what
//! is silently left out); the same contract tests run against both. [`FakeWorker`] joins either of them.

mod answers;
mod metrics;
mod scheduler;
mod server;
mod state;
mod worker;

pub use scheduler::FakeScheduler;
pub use server::Fault;
pub use state::{State, Task, Worker};
pub use worker::{FakeWorker, FakeWorkerConfig};

use crate::{Budget, Deadlines, budget::Room};

/// Room for one message: fakes have as much as they need.
fn room() -> Room {
    Budget::default().room(Deadlines::default().transfer)
}
