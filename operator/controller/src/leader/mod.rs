//! Leader election by Lease, and the gate that it puts before every write.
//!
//! The rules are those of client-go's `leaderelection` package: times are measured by this process' own monotonic
//! clock from the moment a record was seen, never compared with a time that another machine wrote; a record is
//! replaced only in the version that was read.
//!
//! What a Lease cannot do: it does not stop a write that left before the term ended and arrives late, and deleting
//! the Lease by hand lets a newly started replica lead at once.

mod candidate;
mod election;
mod evaluate;
mod leadership;
#[cfg(test)]
mod simulation;
mod thread;

pub use election::{Election, LeaseLocation};
pub use evaluate::Timing;
pub use leadership::Leadership;
pub use thread::{Connect, spawn};
