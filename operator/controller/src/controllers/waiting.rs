//! Pods that wait for something that only Events name: on their node for a volume whose Secret is missing, or a network;
//! or running, for a probe that does not succeed.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::Reason;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{PodSpec, Volume};
use tracing::debug;

use super::inquiries::Inquiries;
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::records::{PodProblem, PodRecord};
use crate::context::Context;
use crate::error_chain::chain;
use crate::words::quoted;
use crate::writer::{WarningEvent, WriteError};

/// How long a pod may wait before its Events are read: the kubelet says after a second or two that a mount failed.
const PATIENCE: SignedDuration = SignedDuration::from_secs(15);
/// How long a container may run without being ready before its pod's Events are read: some install packages first.
const UNREADY_PATIENCE: SignedDuration = SignedDuration::from_mins(3);
/// What the kubelet says when a probe fails.
const UNHEALTHY: &str = "Unhealthy";
/// What the kubelet says when a mount has failed for so long that it gives up waiting; it names no cause.
const SUMMARY: &str = "Unable to attach or mount volumes";
/// Said before the pod was on its node.
const BEFORE: &str = "FailedScheduling";
/// Most volumes that are named where nothing is known.
const MOST_NAMED: usize = 10;

/// What a pod waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// To be started on its node.
    #[default]
    Start,
    /// To be ready, though it runs.
    Readiness,
}

impl Wait {
    fn patience(self) -> SignedDuration {
        match self {
            Self::Start => PATIENCE,
            Self::Readiness => UNREADY_PATIENCE,
        }
    }

    /// Since when the pod waits for this.
    fn of(self, pod: &PodRecord) -> Option<Timestamp> {
        match self {
            Self::Start => pod.startup.waiting_since,
            Self::Readiness => pod.startup.unready_since,
        }
    }
}

/// A pod that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    name: Box<str>,
    uid: Box<str>,
    since: Timestamp,
    wait: Wait,
}

impl Waiter {
    /// A pod that is on its node since then.
    #[must_use]
    pub fn new(name: &str, uid: &str, since: Timestamp) -> Self {
        Self { name: name.into(), uid: uid.into(), since, wait: Wait::Start }
    }

    /// The pod that has waited longest for its start; if none does, for its readiness.
    #[must_use]
    pub fn longest(pods: &[Arc<PodRecord>]) -> Option<Self> {
        let longest = |wait: Wait| {
            let waiting = pods.iter().filter_map(|pod| Some((wait.of(pod)?, pod)));
            let (since, pod) = waiting.min_by_key(|(since, pod)| (*since, pod.name.clone()))?;
            Some(Self { wait, ..Self::new(&pod.name, &pod.uid, since) })
        };
        longest(Wait::Start).or_else(|| longest(Wait::Readiness))
    }

    /// The same for workers, which cannot be ready before their scheduler is.
    #[must_use]
    pub fn longest_worker(workers: &[Arc<PodRecord>], schedulers: &[Arc<PodRecord>]) -> Option<Self> {
        let waiter = Self::longest(workers)?;
        if waiter.wait == Wait::Start {
            return Some(waiter);
        }
        let ready = schedulers.iter().filter_map(|pod| pod.ready_since).max()?;
        Some(Self { since: waiter.since.max(ready), ..waiter })
    }

    /// What an inquiry about it is kept under.
    fn subject(&self) -> String {
        match self.wait {
            Wait::Start => self.uid.to_string(),
            Wait::Readiness => format!("{}/ready", self.uid),
        }
    }
}

/// What is known of why pods wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// What the pod waits for.
    wait: Wait,
    /// What keeps it from that, in words.
    pub problem: Option<PodProblem>,
    /// When to look again.
    pub look_again: Option<Duration>,
}

impl Explanation {
    /// Gives the problem to the pods that have waited long enough: they are of one template.
    pub fn explain(&self, pods: &mut [Arc<PodRecord>], now: Timestamp) {
        let Some(problem) = &self.problem else { return };
        for pod in pods {
            let since = self.wait.of(pod);
            let long = |since: Timestamp| now.duration_since(since) >= self.wait.patience();
            if since.is_some_and(long) && pod.problem.is_none() {
                Arc::make_mut(pod).problem = Some(Box::new(problem.clone()));
            }
        }
    }
}

/// Finds out why a pod waits, if it has waited for long: by its Events, which are read seldom.
///
/// `key` is the object that the inquiry is kept for, `spec` what the pod was made from.
pub async fn why(
    ctx: &Context,
    inquiries: &Inquiries,
    key: &ObjectKey,
    waiter: Option<Waiter>,
    spec: &PodSpec,
    now: Timestamp,
) -> Explanation {
    let Some(waiter) = waiter else {
        inquiries.forget(key);
        return Explanation::default();
    };
    if let Some(wait) = patience_left(&waiter, now) {
        return Explanation { look_again: Some(wait), ..Explanation::default() };
    }
    let (subject, wait) = (waiter.subject(), waiter.wait);
    if wait == Wait::Readiness
        && let Some(problem) = inquiries.answer(key, &subject)
    {
        // What a probe says can differ each time, and would be written each time.
        return Explanation { wait, problem: Some(problem), look_again: None };
    }
    let look_again = if let Err(pause) = inquiries.turn(key, &subject, now) {
        pause
    } else {
        match ctx.writer.warnings_of(&key.sibling(&*waiter.name), &waiter.uid).await {
            Ok(events) if wait == Wait::Start => {
                inquiries.answered(key, explained(&waiter.name, &events));
            }
            Err(WriteError::Refused { .. }) if wait == Wait::Start => {
                inquiries.answered(key, guessed(&key.namespace, &waiter.name, spec));
            }
            Ok(events) => inquiries.answered(key, Some(unready(&key.namespace, &waiter, &events))),
            Err(WriteError::Refused { .. }) => {
                inquiries.answered(key, Some(unready(&key.namespace, &waiter, &[])));
            }
            Err(error) => debug!(pod = %waiter.name, error = %chain(&error), "events could not be read"),
        }
        inquiries.pause(key)
    };
    Explanation { wait, problem: inquiries.answer(key, &subject), look_again: Some(look_again) }
}

fn patience_left(waiter: &Waiter, now: Timestamp) -> Option<Duration> {
    let passed = now.duration_since(waiter.since);
    // A clock behind the API server's makes nobody wait longer.
    let left = waiter.wait.patience().checked_sub(passed.max(SignedDuration::ZERO)).unwrap_or_default();
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

/// The newest of the warnings that name a cause, as a problem of the pod.
fn explained(pod: &str, events: &[WarningEvent]) -> Option<PodProblem> {
    let relevant = events.iter().filter(|event| event.reason != BEFORE);
    let event = relevant.max_by_key(|event| (!event.message.starts_with(SUMMARY), event.time))?;
    let message = format!(
        "pod \"{pod}\" waits on its node ({}){}; create what is missing or correct the pod spec",
        quoted(Some(&event.reason)).trim_start_matches(": "),
        quoted(Some(&event.message)),
    );
    Some(PodProblem { reason: Reason::ContainerCannotStart, message })
}

/// That the pod runs without being ready, with what the kubelet said last of its probes.
fn unready(namespace: &str, waiter: &Waiter, events: &[WarningEvent]) -> PodProblem {
    let Waiter { name, since, .. } = waiter;
    let failures = events.iter().filter(|event| event.reason == UNHEALTHY);
    // Of a liveness probe that fails, a restart tells.
    let failure = failures.filter(|event| !event.message.starts_with("Liveness")).max_by_key(|e| e.time);
    let container = failure.and_then(|failure| failure.container.as_deref());
    let container = container.map_or_else(String::new, |container| {
        format!("container \"{}\" of ", quoted(Some(container)).trim_start_matches(": "))
    });
    let words = failure.map(|failure| quoted(Some(&failure.message)));
    let message = format!(
        "{container}pod \"{name}\" runs, but has not been ready since {}{}; correct the probe if it asks for the wrong \
         path, port or command, else `kubectl logs -n {namespace} {name}` tells why",
        since.strftime("%Y-%m-%dT%H:%M:%SZ"),
        words.as_deref().unwrap_or(": its startup or readiness probe has not succeeded"),
    );
    PodProblem { reason: Reason::NotReady, message }
}

/// What the pod may wait for, where its Events cannot be read.
fn guessed(namespace: &str, pod: &str, spec: &PodSpec) -> Option<PodProblem> {
    let mut needed = String::new();
    let named = spec.volumes.iter().flatten().flat_map(needs);
    for (kind, name) in named.take(MOST_NAMED) {
        let name = quoted(Some(&name));
        let _ = write!(
            needed,
            "{}{kind} \"{}\"",
            if needed.is_empty() { "" } else { ", " },
            name.trim_start_matches(": ")
        );
    }
    if needed.is_empty() {
        return None;
    }
    let message = format!(
        "pod \"{pod}\" waits on its node, and its containers are not created; check that what its volumes need exists: \
         {needed}; `kubectl describe pod -n {namespace} {pod}` tells why (the operator has no right to list Events)"
    );
    Some(PodProblem { reason: Reason::ContainerCannotStart, message })
}

/// What a volume needs to exist.
fn needs(volume: &Volume) -> Vec<(&'static str, String)> {
    let secret = volume.secret.as_ref().filter(|source| source.optional != Some(true));
    let config = volume.config_map.as_ref().filter(|source| source.optional != Some(true));
    let claim = volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.clone());
    let secret = secret.and_then(|source| source.secret_name.clone());
    let mut needs = Vec::new();
    needs.extend(secret.map(|name| ("Secret", name)));
    needs.extend(config.map(|source| ("ConfigMap", source.name.clone())));
    needs.extend(claim.map(|name| ("PersistentVolumeClaim", name)));
    for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        needs.extend(source.secret.as_ref().map(|secret| ("Secret", secret.name.clone())));
        needs.extend(source.config_map.as_ref().map(|config| ("ConfigMap", config.name.clone())));
    }
    needs
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
