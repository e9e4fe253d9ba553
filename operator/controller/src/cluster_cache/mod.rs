//! The watched state of the Kubernetes cluster, reduced to what decisions need.

mod key;
pub mod records;
pub mod snapshot;

pub use key::ObjectKey;
