//! A real Kubernetes on one Linux machine, without Docker and registry: for the tests and the demo.
//!
//! Two tiers: the **API tier** is etcd and kube-apiserver, ready in 3 seconds, needs no root, and many run side by
//! side; **with nodes** there are controllers, scheduler, DNS and nodes that run containers, each node in namespaces
//! of its own.
//!
//! Clusters outlive the process that brought them up: [`Cluster::up`] with the same name finds them again.

mod addresses;
mod cache;
mod cgroups;
mod cluster;
mod command;
mod config;
mod control_plane;
mod error_chain;
mod firewall;
pub mod images;
mod lifecycle;
mod network;
mod node;
mod nodes;
mod pki;
mod ports;
mod process;
pub mod python;
pub mod requirements;
mod state;
mod status;
pub mod tools;
pub mod vm;
mod wait;
pub mod workspace;

pub use cluster::{Cluster, down};
pub use config::ClusterConfig;
pub use error_chain::chain;
pub use lifecycle::{Error, names};
pub use status::{Status, status};
