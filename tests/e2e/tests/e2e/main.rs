//! The operator on a Kubernetes with two nodes: real kubelets, real containers, real Dask.
//!
//! All tests share one cluster, which stays for the next run, and one installation of the operator. Each has a
//! namespace of its own; those that break a node or the operator run alone. Without what nodes need, every test
//! says so and passes.

mod fixtures;
mod harness;
mod jobs;
mod kubecluster;
mod lifecycle;
mod memory;
mod migration;
mod node_failure;
mod operator_failure;
mod operator_outside;
mod operator_release;
mod problems;
mod scenario;
