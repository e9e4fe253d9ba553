//! The controller of DaskClusters: the scheduler's Deployment and Service, and the default worker group.

mod apply;
pub mod build;
mod decide;
mod plan;
mod reconcile;
mod status;

pub use decide::decide;
pub use plan::ClusterPlan;
pub use reconcile::run;
pub use status::status;

#[cfg(test)]
pub(crate) mod testing;
