//! Measures the operator against a raw writer: a client that writes the same objects without thinking.
//!
//! Both work on one real API server without controllers and nodes, in one run, with the same client settings and
//! the same number of calls in flight. What is compared are ratios, because machines differ and are noisy: the
//! sides take turns, in changing order, and every round has a namespace of its own.

pub mod accounts;
pub mod api_metrics;
pub mod audit_log;
pub mod background;
pub mod bench;
pub mod driver;
pub mod fake_nodes;
pub mod noise;
pub mod observer;
pub mod operator;
pub mod pairs;
pub mod processes;
pub mod python_operator;
pub mod raw_writer;
pub mod results;
pub mod scenarios;
pub mod scheduler_pods;
pub mod server;
pub mod statistics;
pub mod wait;
pub mod workload;

/// Calls in flight, of the raw writer as of the operator (its `--max-in-flight`).
pub const IN_FLIGHT: usize = 32;
