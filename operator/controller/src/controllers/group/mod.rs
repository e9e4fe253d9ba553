//! The controller of DaskWorkerGroups: bare worker pods.

mod apply;
mod batches;
mod build;
mod decide;
mod edits;
mod failures;
mod ordinals;
mod reconcile;
mod removal;
mod shrink;
mod status;
mod unit;

pub use build::WorkerTemplate;
pub use decide::{GroupPlan, Inputs, WorkerAllocation, decide};
pub use edits::Edits;
pub use ordinals::Ordinals;
pub use reconcile::run;
pub use removal::{Cause, Finding, Marking, Object, Removal};
pub use shrink::{Shrink, Situation, shrink};
pub use status::status;

#[cfg(test)]
pub(crate) mod testing;
