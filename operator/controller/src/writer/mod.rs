//! The only place that writes to the API.
//!
//! Every call waits for its turn in a lane, is refused without the lease, has a timeout, is counted, and fails
//! with an error that says what to do next: a [`Refusal`] is for the user, the rest is to be tried again.

mod client;
mod error;
mod lanes;
mod merge_patch;
mod refusal;
mod warnings;

pub use client::{Creation, Deletion, FIELD_MANAGER, Limits, Writer};
pub use error::{NoAnswer, Target, WriteError};
pub use lanes::Lane;
pub use merge_patch::{diff, merge_patch_between};
pub use refusal::Refusal;
pub use warnings::WarningEvent;
