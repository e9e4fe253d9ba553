//! The controller of DaskWorkerGroups: bare worker pods.

mod announce;
mod apply;
mod build;
mod decide;
mod edits;
mod ended;
mod failures;
mod inherited;
mod joining;
mod kept;
mod known;
mod misfits;
mod modules;
mod ordinals;
mod paced;
mod progress;
mod reconcile;
mod relabel;
mod removal;
mod shrink;
mod start;
mod status;
mod steps;
mod stranded;
mod unit;
mod update;

pub use build::WorkerTemplate;
pub use decide::{GroupPlan, Inputs, WorkerAllocation, decide};
pub use edits::Edits;
pub use ordinals::Ordinals;
pub use progress::Progress;
pub use reconcile::run;
pub use removal::{Cause, Finding, Marking, Object, Removal};
pub use shrink::{Shrink, Situation, shrink};
pub use status::status;

#[cfg(test)]
pub(crate) mod testing;
