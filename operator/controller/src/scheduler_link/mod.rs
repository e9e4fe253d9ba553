//! What is known from the schedulers, and the tasks that ask them.
//!
//! One task per cluster polls its scheduler outside of the reconciliations and publishes what it heard as a
//! [`LinkView`]. A scheduler that does not answer changes nothing: the last [`Sample`] stays, with its age.

mod registry;
pub mod view;

pub use registry::SchedulerLinks;
pub use view::{DrainProgress, Idleness, LinkFailure, LinkView, Member, Members, Sample, Source};
