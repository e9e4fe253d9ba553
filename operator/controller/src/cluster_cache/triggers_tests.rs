use std::pin::pin;

use futures::StreamExt;

use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

fn now(name: &str) -> Next {
    Next::Now(key(name))
}

#[test]
fn a_key_waits_once_and_in_its_turn() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    for name in ["b", "a", "b"] {
        queue.add(key(name), start);
    }
    assert_eq!([queue.next(start), queue.next(start), queue.next(start)], [now("b"), now("a"), Next::Never]);
}

#[test]
fn the_first_trigger_comes_at_once_and_the_others_are_spaced() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    let at = |millis| start + Duration::from_millis(millis);
    queue.add(key("busy"), at(0));
    assert_eq!(queue.next(at(0)), now("busy"));
    queue.add(key("busy"), at(10));
    queue.add(key("quiet"), at(20));
    assert_eq!(queue.next(at(20)), now("quiet"), "the busy one holds up nobody");
    assert_eq!(queue.next(at(20)), Next::At(at(100)));
    queue.add(key("busy"), at(99));
    assert_eq!(queue.next(at(100)), now("busy"));
    queue.add(key("busy"), at(300));
    assert_eq!(queue.next(at(300)), now("busy"), "it had been quiet for long enough");
}

#[test]
fn what_was_taken_long_ago_is_forgotten() {
    let (mut queue, start) = (Queue::default(), Instant::now());
    for n in 0..100 {
        queue.add(key(&n.to_string()), start);
        queue.next(start);
    }
    assert_eq!(queue.next(start + SPACING), Next::Never);
    assert!(queue.taken.is_empty() && queue.taken_at.is_empty() && queue.waiting.is_empty());
    assert!(queue.due.is_empty() && queue.later.is_empty());
}

/// A queue of which at most `limit` keys are under way.
fn limited(limit: usize) -> Queue {
    let under_way = UnderWay { shares: Shares::of(limit), keys: HashMap::new() };
    Queue { under_way: Some(under_way), ..Queue::default() }
}

fn taken(queue: &mut Queue, now: Instant) -> Vec<ObjectKey> {
    let next = || match queue.next(now) {
        Next::Now(key) => Some(key),
        Next::At(_) | Next::Never => None,
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn a_namespace_with_hundreds_of_objects_holds_up_nobody() {
    let (mut queue, start) = (limited(64), Instant::now());
    for n in 0..500 {
        queue.add(ObjectKey::new("noisy", n.to_string()), start);
    }
    assert_eq!(taken(&mut queue, start).len(), 56, "not all 64");
    let quiet = ObjectKey::new("quiet", "c");
    queue.add(quiet.clone(), start);
    assert_eq!(taken(&mut queue, start), std::slice::from_ref(&quiet), "though none of the others is done");
    queue.done(&quiet, start);
    queue.done(&ObjectKey::new("noisy", "0"), start);
    assert_eq!(taken(&mut queue, start), [ObjectKey::new("noisy", "56")]);
}

#[test]
fn namespaces_take_turns() {
    let (mut queue, start) = (limited(1), Instant::now());
    for (namespace, name) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "1"), ("c", "1"), ("b", "2")] {
        queue.add(ObjectKey::new(namespace, name), start);
    }
    let order: Vec<String> = std::iter::from_fn(|| match queue.next(start) {
        Next::Now(key) => {
            queue.done(&key, start);
            Some(key.to_string())
        }
        Next::At(_) | Next::Never => None,
    })
    .collect();
    assert_eq!(order, ["a/1", "b/1", "c/1", "a/2", "b/2", "a/3"]);
}

#[test]
fn a_key_that_is_under_way_comes_again_when_it_is_done() {
    let (mut queue, start) = (limited(8), Instant::now());
    let later = start + SPACING;
    queue.add(key("a"), start);
    assert_eq!(queue.next(start), now("a"));
    queue.add(key("a"), start);
    assert_eq!(queue.next(later), Next::Never, "one at a time");
    queue.done(&key("a"), later);
    assert_eq!(queue.next(later), now("a"));
    queue.done(&key("a"), later);
    queue.done(&key("a"), later);
    assert_eq!(queue.next(later + SPACING), Next::Never, "and only once");
    let under_way = queue.under_way.unwrap();
    assert!(under_way.keys.is_empty() && under_way.shares.taken() == 0);
}

#[tokio::test(start_paused = true)]
async fn a_taker_is_woken_by_what_comes_later() {
    let triggers = Triggers::default();
    let mut stream = pin!(triggers.stream());
    let (adder, start) = (triggers.clone(), Instant::now());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        adder.add([key("late"), key("later")]);
    });
    assert_eq!(stream.next().await, Some(key("late")));
    assert_eq!(stream.next().await, Some(key("later")));
    triggers.add([key("late")]);
    assert_eq!(stream.next().await, Some(key("late")));
    assert_eq!(start.elapsed(), Duration::from_secs(1) + SPACING);
}

#[tokio::test(start_paused = true)]
async fn a_taker_is_woken_when_one_is_done() {
    let triggers = Triggers::default();
    let mut turns = pin!(triggers.turns(1));
    triggers.add([key("a"), key("b")]);
    assert_eq!(turns.next().await, Some(key("a")));
    assert!(triggers.is_under_way(&key("a")) && !triggers.is_under_way(&key("b")));
    let other = triggers.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        other.done(&key("a"));
    });
    assert_eq!(turns.next().await, Some(key("b")));
    assert!(!triggers.is_under_way(&key("a")));
}
