use dask_operator_api::Reason;

use super::*;
use crate::events::EventType;

/// About an object in a namespace of its own.
fn admit(gate: &mut Gate, object: &ObjectReference, event: &Event, now: Instant) -> Verdict {
    let namespace = object.name.clone().unwrap_or_default().into();
    gate.admit(&namespace, object, event, now)
}

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
        |words, seconds| admit(&mut gate, &object("a"), &event(words), start + Duration::from_secs(seconds));
    assert_eq!(tell("no node", 0), Verdict::Admitted);
    assert_eq!(tell("no node", 599), Verdict::Duplicate);
    assert_eq!(tell("no room", 599), Verdict::Admitted, "other words are news");
    assert_eq!(tell("no node", 600), Verdict::Admitted);
}

#[test]
fn another_object_reason_or_type_is_news() {
    let (mut gate, now) = (Gate::default(), Instant::now());
    assert_eq!(admit(&mut gate, &object("a"), &event("x"), now), Verdict::Admitted);
    assert_eq!(admit(&mut gate, &object("b"), &event("x"), now), Verdict::Admitted);
    let other = Event { reason: Reason::QuotaExceeded, ..event("x") };
    assert_eq!(admit(&mut gate, &object("a"), &other, now), Verdict::Admitted);
    let other = Event { type_: EventType::Normal, ..event("x") };
    assert_eq!(admit(&mut gate, &object("a"), &other, now), Verdict::Admitted);
    let remade = ObjectReference { uid: Some("2".to_owned()), ..object("a") };
    assert_eq!(admit(&mut gate, &remade, &event("x"), now), Verdict::Admitted);
}

#[test]
fn ten_at_once_about_an_object_then_one_each_half_minute() {
    let (mut gate, start) = (Gate::default(), Instant::now());
    let mut number = 0;
    let mut admitted = |at: Duration, tries: usize| {
        let told = (0..tries).filter(|_| {
            number += 1;
            admit(&mut gate, &object("a"), &event(&number.to_string()), start + at) == Verdict::Admitted
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
        (0..300).map(|n| admit(&mut gate, &object(&n.to_string()), &event("x"), start)).collect();
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Admitted).count(), 200);
    assert_eq!(verdicts[250], Verdict::RateLimited);
    let later = start + Duration::from_secs(1);
    assert_eq!(admit(&mut gate, &object("250"), &event("x"), later), Verdict::Admitted);
    assert_eq!(admit(&mut gate, &object("10"), &event("x"), later), Verdict::Duplicate);
}

#[test]
fn objects_are_forgotten() {
    let (mut gate, start) = (Gate::default(), Instant::now());
    for n in 0..100 {
        admit(&mut gate, &object(&n.to_string()), &event("x"), start);
    }
    admit(&mut gate, &object("last"), &event("x"), start + REPEATED_AFTER + SWEEP_INTERVAL);
    assert_eq!(gate.objects.len(), 1);
}

/// How many of `tries` Events, each about an object of the namespace that is met for the first time, are admitted.
fn admitted(gate: &mut Gate, namespace: &str, tries: usize, now: Instant) -> usize {
    let key: Namespace = namespace.into();
    let about = |number: usize| ObjectReference {
        namespace: Some(namespace.to_owned()),
        ..object(&format!("{number} {now:?}"))
    };
    (0..tries).filter(|n| gate.admit(&key, &about(*n), &event("x"), now) == Verdict::Admitted).count()
}

#[test]
fn a_namespace_with_hundreds_of_failing_objects_does_not_silence_another() {
    let (mut gate, start) = (Gate::default(), Instant::now());
    assert_eq!(admitted(&mut gate, "noisy", 500, start), 100);
    assert_eq!(admitted(&mut gate, "quiet", 20, start), 20);
    for second in 1..100 {
        let now = start + Duration::from_secs(second);
        assert_eq!(admitted(&mut gate, "noisy", 500, now), 1, "after {second} s");
        assert_eq!(admitted(&mut gate, "quiet", 1, now), 1, "after {second} s");
    }
}

#[test]
fn many_noisy_namespaces_leave_something_for_the_quiet() {
    let (mut gate, start) = (Gate::default(), Instant::now());
    for second in 0..20 {
        for namespace in 0..50 {
            admitted(&mut gate, &namespace.to_string(), 100, start + Duration::from_secs(second));
        }
        // Whoever told little so far has the last quarter; it is used up, and then all wait for the total.
        let mut now = start + Duration::from_secs(second);
        let soon = (0..10).any(|_| {
            now += TOTAL.interval;
            admitted(&mut gate, "quiet", 1, now) == 1
        });
        assert!(soon, "not within a second after {second} s");
    }
}

#[test]
fn what_is_kept_does_not_grow_with_what_is_told_or_refused() {
    let (mut gate, start) = (Gate::default(), Instant::now());
    for second in 0..1_200 {
        let now = start + Duration::from_secs(second);
        for namespace in 0..20 {
            admitted(&mut gate, &namespace.to_string(), 30, now);
        }
    }
    let kept: usize = gate.objects.values().map(|about| about.recent.len()).sum();
    assert!(kept <= 6_800, "{kept}");
    assert!(gate.objects.len() <= 6_800 && gate.namespaces.len() <= 20);
}
