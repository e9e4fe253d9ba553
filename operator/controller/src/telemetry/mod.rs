//! Logs and metrics.

mod json_format;
pub mod logging;
pub mod metrics;
#[cfg(test)]
mod testing;

pub use logging::LogControl;
pub use metrics::Metrics;
