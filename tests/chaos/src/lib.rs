//! A random walk of scalings, losses and restarts on a real Kubernetes with nodes, while a client of Dask keeps keys
//! on the workers and has them compute: nothing may be lost, nothing may be computed twice because of us, and no worker
//! may be deleted that its scheduler still counts on.
//!
//! The walk is a pure function of its seed ([`plan`]), and so is the judgement of what the client saw ([`ledger`]).

pub mod audit;
pub mod cli;
pub mod deletions;
pub mod error;
pub mod ledger;
pub mod perform;
pub mod plan;
pub mod run;
pub mod table;
pub mod world;

pub use error::Error;
