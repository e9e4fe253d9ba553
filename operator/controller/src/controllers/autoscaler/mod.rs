//! The controller of DaskAutoscalers: the number that a scheduler wants becomes the size of the default group.

mod cooldown;
mod decide;
mod ownership;
mod reconcile;
mod rivals;

pub use decide::{AutoscalerDecision, AutoscalerInput, decide_replicas};
pub use reconcile::run;
