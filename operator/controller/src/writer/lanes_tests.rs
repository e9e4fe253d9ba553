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
    assert_eq!(group_of(&worker("simple-default")), ObjectKey::new("ns", "simple-default"));
    assert_eq!(group_of(&worker("a-worker-b")), ObjectKey::new("ns", "a-worker-b"));
    assert_eq!(group_of(&ObjectKey::new("ns", "other")), ObjectKey::new("ns", "other"));
}

/// Calls that wait, each with the name of its group.
type Waiting<'a> = Vec<(&'static str, BoxFuture<'a, Turn>)>;

fn queue<'a>(lanes: &'a Lanes, groups: &[&'static str]) -> Waiting<'a> {
    let mut waiting: Waiting<'a> = Vec::new();
    for group in groups.iter().copied() {
        let mut call = async move { lanes.enter(Lane::Bulk, &worker(group)).await }.boxed();
        assert!(poll(call.as_mut()).is_none(), "there is no room yet");
        waiting.push((group, call));
    }
    waiting
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    future.now_or_never()
}

/// Lets one call after another have its turn; returns their groups in order.
fn order(first: Turn, mut waiting: Waiting<'_>) -> Vec<String> {
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
