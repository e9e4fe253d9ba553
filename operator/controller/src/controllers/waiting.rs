//! Pods that wait on their node for something that only Events name: a volume whose Secret is missing, a network.

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
/// What the kubelet says when a mount has failed for so long that it gives up waiting; it names no cause.
const SUMMARY: &str = "Unable to attach or mount volumes";
/// Said before the pod was on its node.
const BEFORE: &str = "FailedScheduling";
/// Most volumes that are named where nothing is known.
const MOST_NAMED: usize = 10;

/// A pod that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    name: Box<str>,
    uid: Box<str>,
    since: Timestamp,
}

impl Waiter {
    /// A pod that is on its node since then.
    #[must_use]
    pub fn new(name: &str, uid: &str, since: Timestamp) -> Self {
        Self { name: name.into(), uid: uid.into(), since }
    }

    /// The pod that has waited longest.
    pub fn longest<'a>(pods: impl IntoIterator<Item = &'a Arc<PodRecord>>) -> Option<Self> {
        let waiting = pods.into_iter().filter_map(|pod| Some((pod.startup.waiting_since?, pod)));
        let (since, pod) = waiting.min_by_key(|(since, pod)| (*since, pod.name.clone()))?;
        Some(Self::new(&pod.name, &pod.uid, since))
    }
}

/// What is known of why pods wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// What keeps the pod from starting, in words.
    pub problem: Option<PodProblem>,
    /// When to look again.
    pub look_again: Option<Duration>,
}

impl Explanation {
    /// Gives the problem to the pods that have waited long enough: they are of one template.
    pub fn explain(&self, pods: &mut [Arc<PodRecord>], now: Timestamp) {
        let Some(problem) = &self.problem else { return };
        for pod in pods {
            let since = pod.startup.waiting_since;
            if since.is_some_and(|since| now.duration_since(since) >= PATIENCE) && pod.problem.is_none() {
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
        return Explanation { problem: None, look_again: Some(wait) };
    }
    let look_again = if let Err(wait) = inquiries.turn(key, &waiter.uid, now) {
        wait
    } else {
        match ctx.writer.warnings_of(&key.sibling(&*waiter.name), &waiter.uid).await {
            Ok(events) => inquiries.answered(key, explained(&waiter.name, &events)),
            Err(WriteError::Refused { .. }) => {
                inquiries.answered(key, guessed(&key.namespace, &waiter.name, spec));
            }
            Err(error) => debug!(pod = %waiter.name, error = %chain(&error), "events could not be read"),
        }
        inquiries.pause(key)
    };
    Explanation { problem: inquiries.answer(key, &waiter.uid), look_again: Some(look_again) }
}

fn patience_left(waiter: &Waiter, now: Timestamp) -> Option<Duration> {
    let passed = now.duration_since(waiter.since);
    // A clock behind the API server's makes nobody wait longer.
    let left = PATIENCE.checked_sub(passed.max(SignedDuration::ZERO)).unwrap_or_default();
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
