//! Client of Dask's comm protocol: what an operator asks of schedulers and workers, without Python and pickle.
//!
//! [`SchedulerClient`] and [`WorkerClient`] are the entrances. Everything a peer sends is capped by [`Limits`] before
//! memory is taken for it, and the answers of all peers share a [`Budget`]. Every wait ends at one of the [`Deadlines`], and a connection that missed one is never used
//! again: the next answer on it could belong to an earlier question.
//!
//! Works with `distributed` from 2022.1 to 2026.8.

mod address;
pub mod budget;
pub mod connection;
pub mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod frame;
pub mod handshake;
pub mod identity;
pub mod limits;
pub mod message;
pub mod queue;
mod raw;
pub mod scheduler;
pub mod text;
pub mod tls;
pub mod value;
pub mod worker;
pub mod workers;

pub use budget::Budget;
pub use error::{Error, Step};
pub use identity::Identity;
pub use limits::{Deadlines, Limits, MessageLimits};
pub use queue::{PrefixState, QueueState};
pub use rmpv;
pub use scheduler::{Idleness, Retirement, SchedulerClient};
pub use text::printable;
pub use worker::{Executing, WorkerClient};
pub use workers::{WorkerState, WorkerStatus, Workers};
