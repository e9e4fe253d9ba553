use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::scheduler_link::testing::{heard, sample};
use crate::scheduler_link::{LinkFailure, Sample};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn link(target: Option<u64>) -> LinkView {
    heard(Sample { taken: at(0), adaptive_target: target, ..sample("Scheduler-1") })
}

fn input(link: &LinkView) -> AutoscalerInput<'_> {
    AutoscalerInput {
        cluster: "c",
        cluster_exists: true,
        rival: None,
        minimum: 0,
        maximum: 100,
        current: Some(4),
        cooldown_until: None,
        link,
    }
}

fn replicas(target: u64, bounds: (i32, i32), current: i32) -> (Option<i32>, Reason) {
    let link = link(Some(target));
    let (minimum, maximum) = bounds;
    let input = AutoscalerInput { minimum, maximum, current: Some(current), ..input(&link) };
    let decision = decide_replicas(input, at(0));
    assert!(decision.active && decision.requeue_after == Some(INTERVAL), "{decision:?}");
    (decision.replicas, decision.reason)
}

#[rstest]
#[case::up_in_one_step(50, (1, 100), 4, Some(50))]
#[case::up_to_the_maximum(500, (1, 100), 4, Some(100))]
#[case::from_nothing(1, (0, 100), 0, Some(1))]
#[case::from_nothing_to_many(7, (0, 5), 0, Some(5))]
#[case::to_the_minimum(0, (3, 100), 0, Some(3))]
#[case::a_quarter_down(0, (0, 100), 100, Some(75))]
#[case::a_quarter_rounded_down(0, (0, 100), 7, Some(6))]
#[case::at_least_one_down(0, (0, 100), 3, Some(2))]
#[case::the_last_one_down(0, (0, 100), 1, Some(0))]
#[case::not_below_the_target(90, (0, 100), 100, Some(90))]
#[case::not_below_the_minimum(0, (95, 100), 100, Some(95))]
#[case::down_to_a_lowered_maximum_by_steps(100, (0, 10), 100, Some(75))]
fn changes(
    #[case] target: u64,
    #[case] bounds: (i32, i32),
    #[case] current: i32,
    #[case] expected: Option<i32>,
) {
    assert_eq!(replicas(target, bounds, current), (expected, Reason::Autoscaled));
}

#[rstest]
#[case(4, (0, 100), 4, Reason::TargetReached)]
#[case(0, (0, 100), 0, Reason::TargetReached)]
#[case(500, (0, 100), 100, Reason::Bounded)]
#[case(u64::MAX, (0, 100), 100, Reason::Bounded)]
#[case(0, (2, 100), 2, Reason::Bounded)]
fn no_change(#[case] target: u64, #[case] bounds: (i32, i32), #[case] current: i32, #[case] reason: Reason) {
    assert_eq!(replicas(target, bounds, current), (None, reason));
}

/// As upstream: 100 → 0 takes 17 steps.
#[test]
fn from_a_hundred_to_none() {
    let (mut current, mut steps) = (100, 0);
    while let (Some(next), _) = replicas(0, (0, 100), current) {
        current = next;
        steps += 1;
    }
    assert_eq!((current, steps), (0, 17));
}

#[test]
fn workers_on_their_way_are_counted() {
    // The scheduler knows of none of the 10 that were asked for, and still wants 10.
    assert_eq!(replicas(10, (0, 100), 10), (None, Reason::TargetReached));
}

#[test]
fn it_rests_after_a_change() {
    let link = link(Some(50));
    let resting = AutoscalerInput { cooldown_until: Some(at(15)), ..input(&link) };
    let decision = decide_replicas(resting, at(0));
    assert_eq!((decision.replicas, decision.active, decision.reason), (None, true, Reason::CoolingDown));
    let late = decide_replicas(resting, at(13));
    assert_eq!(late.requeue_after, Some(Duration::from_secs(2)), "it wakes when the rest ends");
    assert_eq!(late.message, decision.message, "nothing to write");
    assert_eq!(decide_replicas(resting, at(15)).replicas, Some(50));
}

#[rstest]
#[case::reversed(5, 3)]
#[case::negative(-1, 3)]
#[case::both_negative(-3, -1)]
fn bounds_that_contradict_each_other_are_told(#[case] minimum: i32, #[case] maximum: i32) {
    let link = link(Some(50));
    let decision = decide_replicas(AutoscalerInput { minimum, maximum, ..input(&link) }, at(0));
    assert_eq!((decision.replicas, decision.active), (None, false));
    assert_eq!((decision.reason, decision.requeue_after), (Reason::InvalidBounds, None));
    assert!(
        decision.message.contains(&minimum.to_string()) && decision.message.contains(&maximum.to_string())
    );
}

#[test]
fn a_missing_cluster_is_no_error() {
    let link = LinkView::default();
    let decision = decide_replicas(AutoscalerInput { cluster_exists: false, ..input(&link) }, at(0));
    assert_eq!((decision.active, decision.reason), (false, Reason::ClusterNotFound));
    assert_eq!(decision.requeue_after, None, "its creation wakes");
    let decision = decide_replicas(AutoscalerInput { current: None, ..input(&link) }, at(0));
    assert_eq!((decision.active, decision.reason), (false, Reason::Starting));
}

#[test]
fn of_two_autoscalers_one_does_nothing_and_names_the_other() {
    let link = link(Some(50));
    let decision = decide_replicas(AutoscalerInput { rival: Some("older"), ..input(&link) }, at(0));
    assert_eq!((decision.replicas, decision.active), (None, false));
    assert_eq!((decision.reason, decision.requeue_after), (Reason::AutoscalerConflict, None));
    assert!(decision.message.contains("DaskAutoscaler \"older\""), "{}", decision.message);
}

#[rstest]
#[case::never_asked(LinkView::default(), 0, Reason::Starting)]
#[case::not_asked_for_this(link(None), 0, Reason::Starting)]
#[case::long_ago(link(Some(50)), 31, Reason::SchedulerUnreachable)]
#[case::failing(LinkView { failure: Some(failure(Reason::SchedulerUnreachable)), ..link(Some(50)) }, 0,
    Reason::SchedulerUnreachable)]
#[case::garbled(LinkView { failure: Some(failure(Reason::SchedulerGarbled)), ..link(Some(50)) }, 0,
    Reason::SchedulerGarbled)]
#[case::not_running(LinkView { failure: Some(failure(Reason::SchedulerNotRunning)), ..link(Some(50)) }, 0,
    Reason::SchedulerNotRunning)]
fn what_is_not_known_changes_nothing(#[case] link: LinkView, #[case] seconds: i64, #[case] reason: Reason) {
    let decision = decide_replicas(input(&link), at(seconds));
    assert_eq!((decision.replicas, decision.active, decision.reason), (None, false, reason));
    assert_eq!(decision.requeue_after, Some(INTERVAL));
}

fn failure(reason: Reason) -> LinkFailure {
    LinkFailure { reason, message: "no answer".to_owned(), since: at(0) }
}

#[rstest]
#[case(50, (0, 100), 4, "from 4 to 50 workers: the scheduler wants 50")]
#[case(500, (0, 100), 4, "from 4 to 100 workers: the scheduler wants 500, which is more than the maximum")]
#[case(0, (3, 100), 4, "from 4 to 3 workers: the scheduler wants 0, which is less than the minimum")]
#[case(0, (0, 100), 8, "from 8 to 6 workers: the scheduler wants 0, and a quarter goes at a time")]
fn a_change_says_why(
    #[case] target: u64,
    #[case] (minimum, maximum): (i32, i32),
    #[case] current: i32,
    #[case] message: &str,
) {
    let link = link(Some(target));
    let input = AutoscalerInput { minimum, maximum, current: Some(current), ..input(&link) };
    assert_eq!(decide_replicas(input, at(0)).message, message);
}

proptest! {
    #[test]
    fn one_step_is_within_bounds_or_on_its_way_there(
        target in any::<u64>(), minimum in 0_i32..50, extra in 0_i32..50, current in 0_i32..200,
    ) {
        let link = link(Some(target));
        let maximum = minimum + extra;
        let input = AutoscalerInput { minimum, maximum, current: Some(current), ..input(&link) };
        let next = decide_replicas(input, at(0)).replicas.unwrap_or(current);
        prop_assert!(next >= minimum.min(current) && next <= maximum.max(current));
        prop_assert!(current - next <= (current / 4).max(1));
    }

    #[test]
    fn repeated_it_comes_to_rest(target in any::<u64>(), minimum in 0_i32..50, extra in 0_i32..50, start in 0_i32..200) {
        let link = link(Some(target));
        let maximum = minimum + extra;
        let mut current = start;
        for _ in 0..40 {
            let input = AutoscalerInput { minimum, maximum, current: Some(current), ..input(&link) };
            match decide_replicas(input, at(0)).replicas {
                Some(next) => current = next,
                None => break,
            }
        }
        let wanted = i32::try_from(target).unwrap_or(i32::MAX).clamp(minimum, maximum);
        prop_assert_eq!(current, wanted);
    }
}
