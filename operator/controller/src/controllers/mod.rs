//! The controllers, one folder a kind. Each reconciliation is
//! observe → decide → apply → status, of which only apply and the final status write touch the API.

pub mod adoption;
pub mod announce;
pub mod autoscaler;
pub mod cluster;
pub mod counts;
pub mod group;
pub mod inquiries;
pub mod job;
pub mod obstacle;
pub mod reconcile;
pub mod starts;
pub mod status_writer;
pub mod takeover;
pub mod unreadable;
pub mod waiting;

pub use obstacle::{Obstacle, Obstacles};
pub use starts::Starts;
