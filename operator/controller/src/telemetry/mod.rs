//! Logs and metrics.

mod json_format;
pub mod logging;
pub mod metrics;

pub use logging::LogControl;
pub use metrics::Metrics;
