//! The controller of DaskClusters: the scheduler's Deployment and Service, and the default worker group.

pub mod build;
mod decide;
mod plan;
mod status;

pub use decide::decide;
pub use plan::ClusterPlan;
pub use status::status;

#[cfg(test)]
mod testing;
