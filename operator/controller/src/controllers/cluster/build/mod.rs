//! The objects of a cluster, one a file.

mod default_group;
mod scheduler_deployment;
mod scheduler_ports;
mod scheduler_service;
mod scheduler_template;

pub use default_group::default_group;
pub use scheduler_deployment::{metadata_hash, scheduler_deployment};
pub use scheduler_ports::{SchedulerPort, comm_port, dashboard_port};
pub use scheduler_service::{scheduler_address, scheduler_service, service_patch};
pub use scheduler_template::template_patch;
