//! The controller of DaskJobs: a cluster and a runner pod for each, and a status that the runner pod tells.

mod apply;
pub mod build;
mod decide;
mod gate;
mod plan;
mod reconcile;
mod status;

pub use decide::{Inputs, decide};
pub use plan::{Ending, JobPlan, Step};
pub use reconcile::run;
pub use status::{final_status, status};

#[cfg(test)]
pub(crate) mod testing;
