//! What is known from the schedulers, and the tasks that ask them.
//!
//! One task per cluster polls its scheduler outside of the reconciliations and publishes what it heard as a
//! [`LinkView`]. A scheduler that does not answer changes nothing: the last [`Sample`] stays, with its age.

mod absent;
mod connect;
mod drain;
mod drain_executor;
mod drains;
mod fenced;
mod interest;
mod link;
mod manager;
mod matching;
mod news;
mod poll;
mod questions;
mod reachability;
mod registry;
mod retry;
mod roster;
mod situation;
mod target;
#[cfg(test)]
pub(crate) mod testing;
pub mod view;

pub use absent::is_expected;
pub use manager::run;
pub use reachability::reachability;
pub use registry::SchedulerLinks;
pub use view::{
    DrainProgress, Idleness, LinkFailure, LinkView, Member, Members, PodWorkers, Sample, Source, Unmatched,
};
