//! Which Events go out: the same thing is told once in a while, and no object can flood the namespace.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use dask_operator_api::Reason;
use k8s_openapi::api::core::v1::ObjectReference;

use super::{Event, EventType};

/// The same words about the same object are told again after this time.
const REPEATED_AFTER: Duration = Duration::from_mins(10);
/// Events about one object: this many at once, then one each interval.
const OBJECT_BURST: u32 = 10;
const OBJECT_INTERVAL: Duration = Duration::from_secs(30);
/// Events about all objects together.
const TOTAL_BURST: u32 = 200;
const TOTAL_INTERVAL: Duration = Duration::from_millis(100);
/// How often entries that no longer matter are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Whether an Event goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    Duplicate,
    RateLimited,
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub(super) struct Gate {
    objects: HashMap<String, Told>,
    total: Option<Bucket>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Told {
    bucket: Bucket,
    recent: Vec<(EventType, Reason, String, Instant)>,
}

impl Gate {
    pub(super) fn admit(&mut self, object: &ObjectReference, event: &Event, now: Instant) -> Verdict {
        self.sweep(now);
        let told = self
            .objects
            .entry(identity(object))
            .or_insert_with(|| Told { bucket: Bucket::full(OBJECT_BURST, now), recent: Vec::new() });
        told.recent.retain(|(.., at)| now.saturating_duration_since(*at) < REPEATED_AFTER);
        let same = |(type_, reason, message, _): &(EventType, Reason, String, Instant)| {
            *type_ == event.type_ && *reason == event.reason && *message == event.message
        };
        if told.recent.iter().any(same) {
            return Verdict::Duplicate;
        }
        let total = self.total.get_or_insert_with(|| Bucket::full(TOTAL_BURST, now));
        let both = told.bucket.has(OBJECT_BURST, OBJECT_INTERVAL, now)
            && total.has(TOTAL_BURST, TOTAL_INTERVAL, now);
        if !both {
            return Verdict::RateLimited;
        }
        told.bucket.tokens -= 1;
        total.tokens -= 1;
        told.recent.push((event.type_, event.reason, event.message.clone(), now));
        Verdict::Admitted
    }

    /// Drops the objects of which nothing is remembered that could matter.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|at| now.saturating_duration_since(at) < SWEEP_INTERVAL) {
            return;
        }
        self.swept = Some(now);
        self.objects.retain(|_, told| {
            let last = told.recent.iter().map(|(.., at)| *at).max();
            last.is_some_and(|last| now.saturating_duration_since(last) < REPEATED_AFTER)
        });
    }
}

fn identity(object: &ObjectReference) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    [&object.kind, &object.namespace, &object.name, &object.uid].map(part).join("/")
}

/// A token bucket; `tokens` are those at `since`.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    since: Instant,
}

impl Bucket {
    fn full(burst: u32, now: Instant) -> Self {
        Self { tokens: burst, since: now }
    }

    /// Refills and says whether a token is left.
    fn has(&mut self, burst: u32, interval: Duration, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since);
        let earned = u32::try_from(elapsed.as_nanos() / interval.as_nanos()).unwrap_or(u32::MAX);
        if self.tokens.saturating_add(earned) >= burst {
            *self = Self::full(burst, now);
        } else {
            self.tokens += earned;
            self.since += interval * earned;
        }
        self.tokens > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> ObjectReference {
        ObjectReference {
            kind: Some("DaskCluster".to_owned()),
            name: Some(name.to_owned()),
            ..Default::default()
        }
    }

    fn event(message: &str) -> Event {
        Event {
            type_: EventType::Warning,
            reason: Reason::Unschedulable,
            action: "Reconcile",
            message: message.to_owned(),
        }
    }

    #[test]
    fn the_same_words_once_in_ten_minutes() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let mut tell =
            |words, seconds| gate.admit(&object("a"), &event(words), start + Duration::from_secs(seconds));
        assert_eq!(tell("no node", 0), Verdict::Admitted);
        assert_eq!(tell("no node", 599), Verdict::Duplicate);
        assert_eq!(tell("no room", 599), Verdict::Admitted, "other words are news");
        assert_eq!(tell("no node", 600), Verdict::Admitted);
    }

    #[test]
    fn another_object_reason_or_type_is_news() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        assert_eq!(gate.admit(&object("a"), &event("x"), now), Verdict::Admitted);
        assert_eq!(gate.admit(&object("b"), &event("x"), now), Verdict::Admitted);
        let other = Event { reason: Reason::QuotaExceeded, ..event("x") };
        assert_eq!(gate.admit(&object("a"), &other, now), Verdict::Admitted);
        let other = Event { type_: EventType::Normal, ..event("x") };
        assert_eq!(gate.admit(&object("a"), &other, now), Verdict::Admitted);
        let remade = ObjectReference { uid: Some("2".to_owned()), ..object("a") };
        assert_eq!(gate.admit(&remade, &event("x"), now), Verdict::Admitted);
    }

    #[test]
    fn ten_at_once_about_an_object_then_one_each_half_minute() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let mut number = 0;
        let mut admitted = |at: Duration, tries: usize| {
            let told = (0..tries).filter(|_| {
                number += 1;
                gate.admit(&object("a"), &event(&number.to_string()), start + at) == Verdict::Admitted
            });
            told.count()
        };
        assert_eq!(admitted(Duration::ZERO, 50), 10);
        assert_eq!(admitted(Duration::from_secs(29), 50), 0);
        assert_eq!(admitted(Duration::from_secs(30), 50), 1);
        assert_eq!(admitted(Duration::from_secs(100), 50), 2, "at 60 and 90 seconds");
        assert_eq!(admitted(Duration::from_hours(1), 50), 10, "never more than ten saved up");
    }

    #[test]
    fn all_objects_together_are_limited_and_a_refused_event_may_be_told_later() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let verdicts: Vec<_> =
            (0..300).map(|n| gate.admit(&object(&n.to_string()), &event("x"), start)).collect();
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Admitted).count(), 200);
        assert_eq!(verdicts[250], Verdict::RateLimited);
        let later = start + Duration::from_secs(1);
        assert_eq!(gate.admit(&object("250"), &event("x"), later), Verdict::Admitted);
        assert_eq!(gate.admit(&object("10"), &event("x"), later), Verdict::Duplicate);
    }

    #[test]
    fn objects_are_forgotten() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        for n in 0..100 {
            gate.admit(&object(&n.to_string()), &event("x"), start);
        }
        gate.admit(&object("last"), &event("x"), start + REPEATED_AFTER + SWEEP_INTERVAL);
        assert_eq!(gate.objects.len(), 1);
    }
}
