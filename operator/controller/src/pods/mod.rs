//! What the pods of schedulers and workers have in common, one concern a file.

pub mod dashboard;
pub mod env;
pub mod form;
pub mod invocation;
pub mod lacking;
pub mod metadata;
pub mod probes;
pub mod telemetry;
