//! The controller of DaskClusters: the scheduler's Deployment and Service, and the default worker group.

mod apply;
pub mod build;
mod decide;
mod idle;
mod incarnation;
mod plan;
mod reconcile;
mod runner;
mod status;
mod updating;

pub use decide::{Inputs, decide};
pub use plan::{ClusterPlan, SchedulerRoll};
pub use reconcile::run;
pub use status::status;

#[cfg(test)]
pub(crate) mod testing;
