//! How many workers a cluster with a DaskAutoscaler gets. Pure: no client, no clock.
//!
//! The rules and numbers are dask-kubernetes'.

use std::time::Duration;

use dask_operator_api::Reason;
use jiff::{SignedDuration, Timestamp};

use crate::scheduler_link::LinkView;

/// How often an autoscaler is looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(5);
/// How long it rests after a change, in either direction.
pub(super) const COOLDOWN: SignedDuration = SignedDuration::from_secs(15);
/// One of so many workers goes in a step down, at least one.
const STEP_DOWN: i32 = 4;
/// What a scheduler said longer ago counts no more: several of its link's slowest rounds.
pub(super) const FRESH: SignedDuration = SignedDuration::from_secs(30);

/// All that a decision depends on, but the time.
#[derive(Clone, Copy, Debug)]
pub struct AutoscalerInput<'a> {
    /// `spec.cluster`.
    pub cluster: &'a str,
    /// Whether that cluster exists and is to stay.
    pub cluster_exists: bool,
    /// The autoscaler that acts on that cluster instead, if there is one.
    pub rival: Option<&'a str>,
    /// `spec.minimum`.
    pub minimum: i32,
    /// `spec.maximum`.
    pub maximum: i32,
    /// `spec.worker.replicas` of the default group, which counts workers that are on their way; `None` if there is no
    /// such group.
    pub current: Option<i32>,
    /// Until when the autoscaler rests.
    pub cooldown_until: Option<Timestamp>,
    /// What the cluster's scheduler said last.
    pub link: &'a LinkView,
}

/// What to do, and what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoscalerDecision {
    /// The new number of workers, if it is to change.
    pub replicas: Option<i32>,
    /// Whether the autoscaler can act: the condition `ScalingActive`.
    pub active: bool,
    /// Reason of the condition.
    pub reason: Reason,
    /// Its message, which stays the same while nothing changes.
    pub message: String,
    /// When to look again without being woken; `None` if nothing can change by itself.
    pub requeue_after: Option<Duration>,
}

impl AutoscalerDecision {
    fn stay(active: bool, reason: Reason, message: String) -> Self {
        Self { replicas: None, active, reason, message, requeue_after: Some(INTERVAL) }
    }

    fn until_changed(reason: Reason, message: String) -> Self {
        Self { requeue_after: None, ..Self::stay(false, reason, message) }
    }
}

/// Decides how many workers the default group is to have.
#[must_use]
pub fn decide_replicas(input: AutoscalerInput<'_>, now: Timestamp) -> AutoscalerDecision {
    let AutoscalerInput { cluster, minimum, maximum, .. } = input;
    if !are_valid(minimum, maximum) {
        let message = format!(
            "spec.minimum is {minimum} and spec.maximum is {maximum}; the minimum must be at least 0 and at most the \
             maximum"
        );
        return AutoscalerDecision::until_changed(Reason::InvalidBounds, message);
    }
    if !input.cluster_exists {
        let message = format!("DaskCluster \"{cluster}\" does not exist in this namespace");
        return AutoscalerDecision::until_changed(Reason::ClusterNotFound, message);
    }
    if let Some(rival) = input.rival {
        let message = format!(
            "DaskAutoscaler \"{rival}\", which is older, acts on DaskCluster \"{cluster}\"; two would undo each other's \
             changes, so this one does nothing until the other one is deleted"
        );
        return AutoscalerDecision::until_changed(Reason::AutoscalerConflict, message);
    }
    let Some(current) = input.current else {
        let message = format!("the default group of DaskCluster \"{cluster}\" is not there yet");
        return AutoscalerDecision::until_changed(Reason::Starting, message);
    };
    let target = match target(input.link, now) {
        Ok(target) => target,
        Err((reason, message)) => return AutoscalerDecision::stay(false, reason, message),
    };
    if let Some(rest) =
        input.cooldown_until.map(|until| until.duration_since(now)).filter(SignedDuration::is_positive)
    {
        let message = "the last change of the number of workers is given time to work".to_owned();
        let rest = rest.unsigned_abs().min(INTERVAL);
        return AutoscalerDecision {
            requeue_after: Some(rest),
            ..AutoscalerDecision::stay(true, Reason::CoolingDown, message)
        };
    }
    let bounded = target.clamp(minimum, maximum);
    let replicas = bounded.max(lowest_step(current));
    if replicas != current {
        let message = format!(
            "from {current} to {replicas} workers: the scheduler wants {target}{}",
            limits(target, bounded, replicas)
        );
        return AutoscalerDecision {
            replicas: Some(replicas),
            ..AutoscalerDecision::stay(true, Reason::Autoscaled, message)
        };
    }
    if target > maximum {
        let message = format!("the scheduler wants more workers than the maximum of {maximum}");
        return AutoscalerDecision::stay(true, Reason::Bounded, message);
    }
    if target < minimum {
        let message = format!("the scheduler wants fewer workers than the minimum of {minimum}");
        return AutoscalerDecision::stay(true, Reason::Bounded, message);
    }
    let message = format!("the scheduler wants {current} workers, as many as there are");
    AutoscalerDecision::stay(true, Reason::TargetReached, message)
}

/// Whether an autoscaler can act within these bounds.
pub(super) fn are_valid(minimum: i32, maximum: i32) -> bool {
    0 <= minimum && minimum <= maximum
}

/// The least number of workers after one step down from `current`.
fn lowest_step(current: i32) -> i32 {
    if current > 0 { current - (current / STEP_DOWN).max(1) } else { current.min(0) }
}

/// What kept the wanted number from being taken at once, in words.
fn limits(target: i32, bounded: i32, replicas: i32) -> &'static str {
    match (target.cmp(&bounded), replicas == bounded) {
        (_, false) => ", and a quarter goes at a time",
        (std::cmp::Ordering::Less, true) => ", which is less than the minimum",
        (std::cmp::Ordering::Greater, true) => ", which is more than the maximum",
        (std::cmp::Ordering::Equal, true) => "",
    }
}

/// How many workers the scheduler wants, if that is known and recent.
fn target(link: &LinkView, now: Timestamp) -> Result<i32, (Reason, String)> {
    if let Some(failure) = &link.failure {
        return Err((failure.reason, failure.message.clone()));
    }
    let unasked =
        || (Reason::Starting, "the scheduler was not asked yet how many workers it wants".to_owned());
    let sample = link.sample.as_ref().ok_or_else(unasked)?;
    if now.duration_since(sample.taken) > FRESH {
        let message = "the scheduler has not said anything for some time".to_owned();
        return Err((Reason::SchedulerUnreachable, message));
    }
    let target = sample.adaptive_target.ok_or_else(unasked)?;
    Ok(i32::try_from(target).unwrap_or(i32::MAX))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
