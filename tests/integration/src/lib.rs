//! The kit of the integration tests: a real API server, the operator in process, faults between the two, and
//! observers that hold the operator to its promises at every moment.
//!
//! * [`ApiServer`] is a kube-apiserver with etcd and kube-controller-manager, shared by all tests of a run; each
//!   test gets a [`Namespace`] of its own.
//! * [`Operator`] runs in a runtime of its own, so that it can be killed between any two writes.
//! * [`Faults`] is a layer in the operator's client that records every request and spoils those a plan names.
//! * [`Kubelet`] plays the nodes: there are none here.
//! * [`Link`] plays the schedulers: no Dask runs here.
//! * [`Observer`] watches every change of every worker pod.
//! * [`World`] is all of them together, [`scenario`] the life of a cluster from creation to deletion.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test kit fails by panicking, with what it saw"
)]

pub mod api_server;
pub mod chart;
pub mod dask;
pub mod fault;
pub mod hostile;
pub mod jobs;
pub mod kubectl;
pub mod kubelet;
pub mod link;
pub mod namespace;
pub mod objects;
pub mod observer;
pub mod operator;
pub mod process;
pub mod scenario;
pub mod templates;
pub mod wait;
pub mod world;

pub use api_server::ApiServer;
pub use fault::{Fault, Faults};
pub use kubelet::Kubelet;
pub use link::Link;
pub use namespace::{Namespace, Object};
pub use observer::Observer;
pub use operator::Operator;
pub use wait::{PATIENCE, holds_for, wait_for, wait_until_quiet};
pub use world::World;
