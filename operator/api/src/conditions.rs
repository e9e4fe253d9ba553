//! Conditions: standard `metav1.Condition`s whose transition time moves only on change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use strum::{Display, IntoStaticStr};

use crate::reason::Reason;

/// Longest message of a condition or an Event, in bytes. The API server allows 32 kB and 1 kB.
pub const MAX_MESSAGE: usize = 1000;

/// The conditions that the operator keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Display, IntoStaticStr)]
pub enum ConditionType {
    /// The scheduler and all wanted workers are ready.
    Ready,
    /// The scheduler's pod is ready.
    SchedulerReady,
    /// All wanted workers are ready.
    WorkersReady,
}

/// Builds the new list of conditions from the old one.
#[derive(Debug)]
pub struct Conditions<'a> {
    previous: &'a [Condition],
    next: Vec<Condition>,
    generation: Option<i64>,
    now: &'a Time,
}

impl<'a> Conditions<'a> {
    /// Starts from the conditions of the last status; `now` becomes the transition time of what changes.
    #[must_use]
    pub fn new(previous: &'a [Condition], generation: Option<i64>, now: &'a Time) -> Self {
        Self { previous, next: Vec::new(), generation, now }
    }

    /// Sets one condition; `None` stands for `Unknown`.
    #[must_use]
    pub fn set(mut self, type_: ConditionType, status: Option<bool>, reason: Reason, message: &str) -> Self {
        let type_: &str = type_.into();
        let status = match status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let last_transition_time = self
            .previous
            .iter()
            .find(|old| old.type_ == type_ && old.status == status)
            .map_or_else(|| self.now.clone(), |old| old.last_transition_time.clone());
        self.next.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_string(),
            message: truncated(message).to_owned(),
            observed_generation: self.generation,
            last_transition_time,
        });
        self
    }

    /// The new list: what was set, in that order, then conditions of others that were already there.
    #[must_use]
    pub fn build(mut self) -> Vec<Condition> {
        let foreign: Vec<Condition> = self
            .previous
            .iter()
            .filter(|old| self.next.iter().all(|new| new.type_ != old.type_))
            .cloned()
            .collect();
        self.next.extend(foreign);
        self.next
    }
}

/// The message cut to [`MAX_MESSAGE`] bytes at a character boundary.
#[must_use]
pub fn truncated(message: &str) -> &str {
    &message[..message.floor_char_boundary(MAX_MESSAGE)]
}
