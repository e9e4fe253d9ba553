//! How edits of a cluster reach its running pods, and how workers are drained.

use std::time::Duration as StdDuration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

use crate::duration::Duration;

/// How edits of a cluster reach its running pods, and how long workers may take to hand over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdatePolicy {
    /// What an edit of the worker template does to running workers; `Rolling` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<UpdateStrategy>,
    /// Most workers of a group that an edit may take away at a time; 1 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_unavailable: Option<i32>,
    /// How long a worker may take to finish its tasks and hand over its data, such as `10m`; `1h` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Duration>,
    /// What happens to a worker that is not drained in time; `Keep` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout_action: Option<DrainTimeoutAction>,
    /// When an edit of the scheduler's template restarts the scheduler, which loses all results; `Never` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerUpdate>,
}

/// What an edit of the worker template does to running workers; `Rolling` by default.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Display, IntoStaticStr,
)]
pub enum UpdateStrategy {
    /// They are drained and replaced, some at a time.
    #[default]
    Rolling,
    /// They stay; only new workers are made from the new template.
    OnDelete,
}

/// What happens to a worker that is not drained in time; `Keep` by default.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Display, IntoStaticStr,
)]
pub enum DrainTimeoutAction {
    /// It is kept until it is drained, and a condition says why.
    #[default]
    Keep,
    /// It is deleted; what only it holds is computed again.
    Delete,
}

/// When an edit of the scheduler's template restarts the scheduler, which loses all results; `Never` by default.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Display, IntoStaticStr,
)]
pub enum SchedulerUpdate {
    /// It does not: the new template is for the next scheduler.
    #[default]
    Never,
    /// As soon as the scheduler has nothing to do.
    WhenIdle,
    /// At once.
    Always,
}

/// Default of `drainTimeout`: long enough for most tasks, short enough that somebody is told the same day.
const DRAIN_TIMEOUT: StdDuration = StdDuration::from_hours(1);

impl UpdatePolicy {
    /// `strategy`, or its default.
    #[must_use]
    pub fn strategy(&self) -> UpdateStrategy {
        self.strategy.unwrap_or_default()
    }

    /// `maxUnavailable`, or its default; at least 1.
    #[must_use]
    pub fn max_unavailable(&self) -> usize {
        usize::try_from(self.max_unavailable.unwrap_or(1)).unwrap_or(1).max(1)
    }

    /// `drainTimeout`, or its default.
    #[must_use]
    pub fn drain_timeout(&self) -> StdDuration {
        self.drain_timeout.as_ref().map_or(DRAIN_TIMEOUT, Duration::length)
    }

    /// `drainTimeoutAction`, or its default.
    #[must_use]
    pub fn drain_timeout_action(&self) -> DrainTimeoutAction {
        self.drain_timeout_action.unwrap_or_default()
    }

    /// `scheduler`, or its default.
    #[must_use]
    pub fn scheduler(&self) -> SchedulerUpdate {
        self.scheduler.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_policy_is_gentle() {
        let policy: UpdatePolicy = serde_json::from_value(json!({})).unwrap();
        assert_eq!(policy, UpdatePolicy::default());
        assert_eq!((policy.strategy(), policy.max_unavailable()), (UpdateStrategy::Rolling, 1));
        assert_eq!(policy.drain_timeout(), StdDuration::from_hours(1));
        assert_eq!(policy.drain_timeout_action(), DrainTimeoutAction::Keep);
        assert_eq!(policy.scheduler(), SchedulerUpdate::Never);
    }

    #[test]
    fn what_is_written_is_read() {
        let written = json!({
            "strategy": "OnDelete", "maxUnavailable": 3, "drainTimeout": "5m",
            "drainTimeoutAction": "Delete", "scheduler": "WhenIdle",
        });
        let policy: UpdatePolicy = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&policy).unwrap(), written);
        assert_eq!((policy.strategy(), policy.max_unavailable()), (UpdateStrategy::OnDelete, 3));
        assert_eq!(policy.drain_timeout(), StdDuration::from_mins(5));
        assert_eq!(policy.drain_timeout_action(), DrainTimeoutAction::Delete);
        assert_eq!(policy.scheduler(), SchedulerUpdate::WhenIdle);
    }

    #[test]
    fn a_number_that_admission_would_refuse_does_no_harm() {
        let policy = UpdatePolicy { max_unavailable: Some(-4), ..UpdatePolicy::default() };
        assert_eq!(policy.max_unavailable(), 1);
    }
}
