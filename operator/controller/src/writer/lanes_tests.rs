use std::pin::{Pin, pin};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;

fn worker(group: &str) -> ObjectKey {
    ObjectKey::new("ns", format!("{group}-worker-0123456789"))
}

fn entered(lanes: &Lanes, lane: Lane) -> Option<Turn> {
    lanes.enter(lane, &worker("g")).now_or_never()
}

#[test]
fn bulk_calls_leave_room_for_urgent_ones() {
    let lanes = Lanes::new(4, 1);
    let bulk: Vec<_> = std::iter::from_fn(|| entered(&lanes, Lane::Bulk)).collect();
    assert_eq!(bulk.len(), 3);
    let urgent = entered(&lanes, Lane::Urgent);
    assert!(urgent.is_some());
    assert!(entered(&lanes, Lane::Urgent).is_none(), "four are in flight");
    drop(bulk);
    assert!(entered(&lanes, Lane::Bulk).is_some());
}

#[test]
fn urgent_calls_may_use_everything() {
    let lanes = Lanes::new(4, 1);
    let urgent: Vec<_> = std::iter::from_fn(|| entered(&lanes, Lane::Urgent)).collect();
    assert_eq!(urgent.len(), 4);
}

#[test]
fn urgent_calls_go_before_those_in_bulk_but_for_the_part_that_is_kept() {
    let lanes = Lanes::new(4, 1);
    let mut under_way: Vec<_> = std::iter::from_fn(|| entered(&lanes, Lane::Urgent)).collect();
    let bulk = queue(&lanes, &["a", "b", "c"]);
    let object = worker("u");
    let mut urgent = lanes.enter(Lane::Urgent, &object).boxed();
    assert!(poll(urgent.as_mut()).is_none());
    // The first call that ends makes room for the part of bulk calls, the second for the urgent call that came last.
    under_way.truncate(2);
    let turns = bulk.into_iter().filter_map(|(group, mut call)| Some((group, poll(call.as_mut())?)));
    let given: Vec<(&str, Turn)> = turns.collect();
    assert_eq!(given.iter().map(|(group, _)| *group).collect::<Vec<_>>(), ["a"]);
    assert!(poll(urgent.as_mut()).is_some());
}

#[test]
fn no_lane_is_closed() {
    let lanes = Lanes::new(0, 9);
    assert!(entered(&lanes, Lane::Bulk).is_some());
    assert!(entered(&lanes, Lane::Urgent).is_some());
}

#[test]
fn the_group_is_in_the_workers_name() {
    assert_eq!(*group_of(&worker("simple-default")), *"simple-default");
    assert_eq!(*group_of(&worker("a-worker-b")), *"a-worker-b");
    assert_eq!(*group_of(&ObjectKey::new("ns", "other")), *"other");
}

/// Calls that wait, each with the name of its group, or of its namespace.
type Calls<'a> = Vec<(&'static str, BoxFuture<'a, Turn>)>;

fn queue<'a>(lanes: &'a Lanes, groups: &[&'static str]) -> Calls<'a> {
    groups.iter().map(|group| (*group, wait(lanes, Lane::Bulk, worker(group)))).collect()
}

fn wait(lanes: &Lanes, lane: Lane, key: ObjectKey) -> BoxFuture<'_, Turn> {
    let mut call = async move { lanes.enter(lane, &key).await }.boxed();
    assert!(poll(call.as_mut()).is_none(), "there is no room yet");
    call
}

/// Calls for objects in these namespaces that wait.
fn queue_in<'a>(lanes: &'a Lanes, lane: Lane, namespaces: &[&'static str]) -> Calls<'a> {
    let key = |namespace: &str| ObjectKey::new(namespace, "g-default-worker-0123456789");
    namespaces.iter().map(|namespace| (*namespace, wait(lanes, lane, key(namespace)))).collect()
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    future.now_or_never()
}

/// Lets one call after another have its turn; returns their groups in order.
fn order(first: Turn, mut waiting: Calls<'_>) -> Vec<String> {
    let mut order = Vec::new();
    let mut turn = first;
    while !waiting.is_empty() {
        drop(turn);
        let ready = waiting.iter_mut().enumerate().find_map(|(n, (_, call))| Some((n, poll(call.as_mut())?)));
        let (n, next) = ready.expect("a turn that ended goes to somebody");
        order.push(waiting.remove(n).0.to_owned());
        turn = next;
    }
    order
}

#[test]
fn groups_take_turns() {
    let lanes = Lanes::new(1, 0);
    let first = entered(&lanes, Lane::Bulk).unwrap();
    let waiting = queue(&lanes, &["big", "big", "big", "big", "small", "other"]);
    assert_eq!(order(first, waiting), ["big", "small", "other", "big", "big", "big"]);
    assert!(entered(&lanes, Lane::Bulk).is_some(), "the last turn is free again");
}

#[test]
fn those_who_give_up_are_passed_over() {
    let lanes = Lanes::new(1, 0);
    let first = entered(&lanes, Lane::Bulk).unwrap();
    let mut waiting = queue(&lanes, &["a", "a", "b", "c"]);
    drop(waiting.drain(1..3));
    assert_eq!(order(first, waiting), ["a", "c"]);
    assert!(entered(&lanes, Lane::Bulk).is_some());
}

#[test]
fn a_turn_given_to_one_who_gives_up_is_not_lost() {
    let lanes = Lanes::new(1, 0);
    let first = entered(&lanes, Lane::Bulk).unwrap();
    let mut waiting = queue(&lanes, &["a", "b"]);
    drop(first);
    drop(waiting.remove(0).1);
    let next = poll(pin!(waiting.remove(0).1));
    assert!(next.is_some(), "b has the turn that a did not take");
}

#[rstest::rstest]
#[case(Lane::Urgent)]
#[case(Lane::Bulk)]
fn namespaces_take_turns(#[case] lane: Lane) {
    let lanes = Lanes::new(1, 0);
    let first = entered(&lanes, lane).unwrap();
    let waiting = queue_in(&lanes, lane, &["noisy", "noisy", "noisy", "quiet", "other", "quiet"]);
    assert_eq!(order(first, waiting), ["noisy", "quiet", "other", "noisy", "quiet", "noisy"]);
}

#[test]
fn a_group_of_a_thousand_workers_does_not_hold_up_a_hundred_small_ones() {
    let lanes = Lanes::new(1, 0);
    let first = entered(&lanes, Lane::Bulk).unwrap();
    let mut waiting = queue(&lanes, &["big"; 1_000]);
    let small = |number: usize| ObjectKey::new(["ns", "b", "c"][number % 3], format!("s-{number}-worker-0"));
    waiting.extend((0..100).map(|number| ("small", wait(&lanes, Lane::Bulk, small(number)))));
    let order = order(first, waiting);
    let last = order.iter().rposition(|group| group == "small").unwrap();
    // The small groups of the big one's own namespace share its turns with it; those of others do not even notice.
    assert!(last < 103, "the last of the small groups had turn {last}");
}

#[test]
fn calls_that_hang_in_one_namespace_leave_room_for_the_others() {
    for lane in [Lane::Urgent, Lane::Bulk] {
        let lanes = Lanes::new(32, 4);
        let key = ObjectKey::new("noisy", "x");
        let hang: Vec<Turn> =
            std::iter::from_fn(|| lanes.enter(lane, &key).now_or_never()).take(100).collect();
        assert_eq!(hang.len(), if lane == Lane::Urgent { 28 } else { 25 });
        assert!(lanes.enter(Lane::Urgent, &ObjectKey::new("quiet", "x")).now_or_never().is_some());
        assert!(lanes.enter(Lane::Bulk, &ObjectKey::new("quiet", "x")).now_or_never().is_some());
    }
}

#[test]
fn worker_pods_of_a_namespace_leave_room_for_its_own_urgent_calls() {
    let lanes = Lanes::new(32, 4);
    let bulk: Vec<Turn> = std::iter::from_fn(|| entered(&lanes, Lane::Bulk)).collect();
    let urgent: Vec<Turn> = std::iter::from_fn(|| entered(&lanes, Lane::Urgent)).collect();
    assert_eq!((bulk.len(), urgent.len()), (25, 3));
}

#[test]
fn nothing_is_kept_of_those_who_called() {
    let lanes = Lanes::new(1, 0);
    let first = entered(&lanes, Lane::Bulk).unwrap();
    let waiting = queue_in(&lanes, Lane::Urgent, &["a", "b", "c"]);
    assert_eq!(order(first, waiting).len(), 3);
    let state = lanes.line.lock();
    assert!(state.urgent.is_empty() && state.bulk.is_empty() && state.calls.taken() == 0);
}
