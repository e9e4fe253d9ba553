//! The controller of DaskClusters: the scheduler's Deployment and Service, and the default worker group.

mod apply;
pub mod build;
mod decide;
mod idle;
mod incarnation;
pub(crate) mod modules;
mod plan;
mod reconcile;
mod refusals;
mod runner;
mod scheduler_exit;
mod service;
mod start;
mod status;
mod updating;

pub use decide::{Inputs, Modules, decide};
pub use plan::{ClusterPlan, Part, PartObstacle, RollCause, SchedulerRoll, SchedulerWrites};
pub use reconcile::run;
pub use refusals::ClusterRefusals;
pub use status::status;

#[cfg(test)]
pub(crate) mod testing;
