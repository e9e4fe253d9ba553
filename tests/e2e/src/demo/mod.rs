//! The demo: a Kubernetes, the operator, a Dask cluster that computes and scales.
//!
//! [`prepare`] and [`play`] do it, [`transcript`] words it, [`Teller`] prints it.

pub mod play;
pub mod prepare;
pub mod settings;
mod teller;
pub mod transcript;

pub use teller::{Failure, Teller};
