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
    /// The scheduler answers the operator.
    SchedulerReachable,
    /// The scheduler restarted and lost the results that it knew of.
    SchedulerLostState,
    /// Workers are being added, drained or removed; also why one that should go is kept.
    Scaling,
    /// Running pods differ from the templates that they should be made from.
    Updating,
    /// The autoscaler can act.
    ScalingActive,
    /// The runner pod of the cluster's job could be made and can run.
    RunnerReady,
    /// Pods that are made get the preload modules. Kept only where that is, or was, not so.
    ModulesReady,
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn time(text: &str) -> Time {
        Time(text.parse().unwrap())
    }

    fn set(previous: &[Condition], status: Option<bool>, now: &str) -> Vec<Condition> {
        Conditions::new(previous, Some(7), &time(now))
            .set(ConditionType::Ready, status, Reason::Starting, "1 of 2 workers is ready")
            .build()
    }

    #[rstest]
    #[case(Some(true), "True")]
    #[case(Some(false), "False")]
    #[case(None, "Unknown")]
    fn a_condition_says_what_it_was_told(#[case] status: Option<bool>, #[case] text: &str) {
        let conditions = set(&[], status, "2026-01-01T00:00:00Z");
        assert_eq!(
            conditions,
            [Condition {
                type_: "Ready".to_owned(),
                status: text.to_owned(),
                reason: "Starting".to_owned(),
                message: "1 of 2 workers is ready".to_owned(),
                observed_generation: Some(7),
                last_transition_time: time("2026-01-01T00:00:00Z"),
            }]
        );
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let first = set(&[], Some(false), "2026-01-01T00:00:00Z");
        let same = set(&first, Some(false), "2026-01-02T00:00:00Z");
        assert_eq!(same, first, "same status: nothing to write");
        let other = set(&same, Some(true), "2026-01-03T00:00:00Z");
        assert_eq!(other[0].last_transition_time, time("2026-01-03T00:00:00Z"));
    }

    #[test]
    fn a_new_message_leaves_the_transition_time() {
        let first = set(&[], Some(false), "2026-01-01T00:00:00Z");
        let next = Conditions::new(&first, Some(8), &time("2026-01-02T00:00:00Z"))
            .set(ConditionType::Ready, Some(false), Reason::Unschedulable, "no node")
            .build();
        assert_eq!(next[0].reason, "Unschedulable");
        assert_eq!(next[0].observed_generation, Some(8));
        assert_eq!(next[0].last_transition_time, first[0].last_transition_time);
    }

    #[test]
    fn conditions_of_others_stay_and_come_last() {
        let foreign =
            Condition { type_: "Audited".to_owned(), ..set(&[], None, "2026-01-01T00:00:00Z").remove(0) };
        let own = set(std::slice::from_ref(&foreign), Some(true), "2026-01-01T00:00:00Z");
        assert_eq!(own.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(), ["Ready", "Audited"]);
        assert_eq!(own[1], foreign);
        assert_eq!(set(&own, Some(true), "2026-01-02T00:00:00Z"), own, "a second pass changes nothing");
    }

    #[test]
    fn conditions_are_shown_in_the_order_in_which_they_were_set() {
        let now = time("2026-01-01T00:00:00Z");
        let conditions = Conditions::new(&[], None, &now)
            .set(ConditionType::SchedulerReady, Some(true), Reason::AllReady, "")
            .set(ConditionType::WorkersReady, Some(true), Reason::AllReady, "")
            .build();
        assert_eq!(
            conditions.iter().map(|c| c.type_.as_str()).collect::<Vec<_>>(),
            ["SchedulerReady", "WorkersReady"]
        );
    }

    #[rstest]
    #[case("a".repeat(MAX_MESSAGE + 1), MAX_MESSAGE)]
    #[case("a".repeat(MAX_MESSAGE), MAX_MESSAGE)]
    #[case("é".repeat(MAX_MESSAGE), MAX_MESSAGE)]
    #[case(format!("a{}", "é".repeat(MAX_MESSAGE)), MAX_MESSAGE - 1)]
    fn long_messages_are_cut_between_characters(#[case] message: String, #[case] bytes: usize) {
        assert_eq!(truncated(&message).len(), bytes);
    }
}
