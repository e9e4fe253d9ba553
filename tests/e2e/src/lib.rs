//! What the demo and the e2e tests share: a Kubernetes with the operator on it, installed as a user installs it, and
//! the means to use Dask clusters and to say what is wrong with them.

pub mod clusters;
pub mod command;
pub mod dashboard;
pub mod dask;
pub mod demo;
pub mod diagnosis;
pub mod error;
pub mod images;
pub mod kubernetes;
pub mod manifest;
pub mod notebook;
pub mod operator;
pub mod operator_outside;
pub mod packages;
pub mod python_operator;
pub mod wait;

pub use error::Error;
pub use kubernetes::Kubernetes;
