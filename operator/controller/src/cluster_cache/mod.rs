//! The watched state of the Kubernetes cluster, reduced to what decisions need.
//!
//! `watch` feeds `index`, a set of `table`s that merge what watches show with the replies to own writes;
//! snapshots are cut from it, and `triggers` tell the controllers what to look at again.

mod cache;
mod custom;
mod health;
mod index;
mod intern;
mod key;
mod legacy;
mod lenient;
mod page;
mod pod_state;
mod pods;
pub mod records;
mod runner;
pub mod snapshot;
mod table;
mod triggers;
mod unreadable;
mod watch;
mod watch_line;
mod wire_pod;

pub use cache::{ClusterCache, Counts};
pub use health::WatchHealth;
pub use key::ObjectKey;
pub use triggers::Triggers;
pub use unreadable::Unreadable;
pub use watch::{Scope, watch};
pub use wire_pod::WirePod;
