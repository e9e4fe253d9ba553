//! Which Events go out: the same thing is told once in a while, and neither an object nor a namespace floods the rest.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;

use super::Event;
use crate::fair::Namespace;

/// The same words about the same object are told again after this time.
const REPEATED_AFTER: Duration = Duration::from_mins(10);
/// Events about one object: this many at once, then one each interval.
const OBJECT: Limit = Limit { burst: 10, interval: Duration::from_secs(30) };
/// Events about all objects of a namespace: half of what all namespaces have at once, a tenth of what they have in the
/// long run.
const NAMESPACE: Limit = Limit { burst: 100, interval: Duration::from_secs(1) };
/// Events about all objects together. An API server keeps them for an hour: 36,000 of them take 40 MB of etcd.
const TOTAL: Limit = Limit { burst: 200, interval: Duration::from_millis(100) };
/// The last of the total is for namespaces of which little was told.
const KEPT_FOR_QUIET: u32 = 50;
/// A namespace that has so much of its own burst left is quiet.
const QUIET: u32 = NAMESPACE.burst / 2;
/// How often entries that no longer matter are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Whether an Event goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    Duplicate,
    RateLimited,
}

/// Remembers what was told. Only what was admitted is remembered, so the total bounds the memory too: about 6,000 Events
/// in ten minutes, of each of which a number is kept.
#[derive(Debug, Default)]
pub(super) struct Gate {
    objects: HashMap<String, About>,
    namespaces: HashMap<Namespace, Bucket>,
    total: Option<Bucket>,
    swept: Option<Instant>,
}

/// What was told about an object.
#[derive(Debug)]
struct About {
    bucket: Bucket,
    /// What [`words`] made of it, and when.
    recent: Vec<(u64, Instant)>,
}

impl Gate {
    pub(super) fn admit(
        &mut self,
        namespace: &Namespace,
        object: &ObjectReference,
        event: &Event,
        now: Instant,
    ) -> Verdict {
        self.sweep(now);
        let (identity, words) = (identity(object), words(event));
        let is_recent = |at: Instant| now.saturating_duration_since(at) < REPEATED_AFTER;
        let about = self.objects.get(&identity);
        if about.is_some_and(|about| about.recent.iter().any(|(told, at)| *told == words && is_recent(*at))) {
            return Verdict::Duplicate;
        }
        let of_object = OBJECT.refill(about.map(|about| about.bucket), now);
        let of_namespace = NAMESPACE.refill(self.namespaces.get(namespace).copied(), now);
        let total = TOTAL.refill(self.total, now);
        let kept = if of_namespace.tokens >= QUIET { 0 } else { KEPT_FOR_QUIET };
        if of_object.tokens == 0 || of_namespace.tokens == 0 || total.tokens <= kept {
            return Verdict::RateLimited;
        }
        self.total = Some(total.less_one());
        self.namespaces.insert(namespace.clone(), of_namespace.less_one());
        let about = self.objects.entry(identity).or_insert(About { bucket: of_object, recent: Vec::new() });
        about.bucket = of_object.less_one();
        about.recent.retain(|(_, at)| is_recent(*at));
        about.recent.push((words, now));
        Verdict::Admitted
    }

    /// Drops the objects and namespaces of which nothing is remembered that could matter.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|at| now.saturating_duration_since(at) < SWEEP_INTERVAL) {
            return;
        }
        self.swept = Some(now);
        self.objects.retain(|_, about| {
            let last = about.recent.iter().map(|(_, at)| *at).max();
            last.is_some_and(|last| now.saturating_duration_since(last) < REPEATED_AFTER)
        });
        self.namespaces.retain(|_, bucket| NAMESPACE.refill(Some(*bucket), now).tokens < NAMESPACE.burst);
    }
}

fn identity(object: &ObjectReference) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    [&object.kind, &object.namespace, &object.name, &object.uid].map(part).join("/")
}

/// A number for type, reason and message: texts of strangers are not kept for ten minutes.
fn words(event: &Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    (event.type_, event.reason, &event.message).hash(&mut hasher);
    hasher.finish()
}

/// So many at once, and one more each interval.
#[derive(Clone, Copy, Debug)]
struct Limit {
    burst: u32,
    interval: Duration,
}

/// What is left of a [`Limit`]; `tokens` are those at `since`.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    since: Instant,
}

impl Limit {
    /// A bucket as it is now; without one, a full one.
    fn refill(self, bucket: Option<Bucket>, now: Instant) -> Bucket {
        let full = Bucket { tokens: self.burst, since: now };
        let Some(Bucket { tokens, since }) = bucket else { return full };
        let elapsed = now.saturating_duration_since(since);
        let earned = u32::try_from(elapsed.as_nanos() / self.interval.as_nanos()).unwrap_or(u32::MAX);
        if tokens.saturating_add(earned) >= self.burst {
            return full;
        }
        Bucket { tokens: tokens + earned, since: since + self.interval * earned }
    }
}

impl Bucket {
    fn less_one(self) -> Self {
        Self { tokens: self.tokens.saturating_sub(1), ..self }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
