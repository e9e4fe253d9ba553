//! The controller of DaskWorkerGroups: bare worker pods.

mod apply;
mod batches;
mod build;
mod choose;
mod decide;
mod failures;
mod ordinals;
mod reconcile;
mod status;

pub use build::WorkerTemplate;
pub use choose::choose_to_remove;
pub use decide::{GroupPlan, Removal, WorkerAllocation, decide};
pub use ordinals::Ordinals;
pub use reconcile::run;
pub use status::status;

#[cfg(test)]
mod testing;
