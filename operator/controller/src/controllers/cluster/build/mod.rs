//! The objects of a cluster, one a file.

mod default_group;
mod scheduler_deployment;
mod scheduler_service;
mod scheduler_template;

pub use default_group::default_group;
pub use scheduler_deployment::scheduler_deployment;
pub use scheduler_service::{port_named, scheduler_address, scheduler_service, service_patch};
pub use scheduler_template::template_patch;
