use std::collections::HashSet;
use std::mem::discriminant;

use proptest::prelude::*;

use super::*;

fn kinds() -> impl Strategy<Value = Kinds> {
    any::<[bool; 5]>().prop_map(|[operator, workers, edits, scheduler, nodes]| Kinds {
        operator,
        workers,
        edits,
        scheduler,
        nodes,
    })
}

/// The sizes before each step, and the step.
fn walk(steps: &[Step]) -> Vec<(Sizes, Step)> {
    let mut sizes = Sizes::START;
    let mut places = Vec::new();
    for step in steps {
        places.push((sizes, *step));
        sizes = step.sizes_after(sizes);
    }
    places.push((sizes, Step::KillOperator));
    places
}

proptest! {
    #[test]
    fn a_seed_is_a_walk(seed: u64, kinds in kinds()) {
        prop_assert_eq!(plan(seed, 50, kinds), plan(seed, 50, kinds));
    }

    #[test]
    fn a_longer_walk_begins_as_the_shorter(seed: u64, kinds in kinds(), short in 0_usize..50) {
        prop_assert_eq!(&plan(seed, 50, kinds)[..short], &plan(seed, short, kinds)[..]);
    }

    #[test]
    fn there_are_always_workers_that_take_over_the_data(seed: u64, kinds in kinds()) {
        for (sizes, step) in walk(&plan(seed, 100, kinds)) {
            prop_assert!(sizes.is_allowed(), "{sizes:?} before {step}");
        }
    }

    #[test]
    fn every_scaling_changes_something(seed: u64, kinds in kinds()) {
        for (before, step) in walk(&plan(seed, 100, kinds)) {
            let after = step.sizes_after(before);
            match step {
                Step::Scale(group, _) | Step::ScaleAndKillOperator(group, _) => {
                    prop_assert_ne!(before.of(group), after.of(group));
                }
                Step::ScaleBoth(_) => {
                    prop_assert!(before.first != after.first && before.second != after.second);
                }
                _ => prop_assert_eq!(before, after),
            }
        }
    }

    #[test]
    fn only_groups_with_workers_lose_or_replace_them(seed: u64, kinds in kinds()) {
        for (sizes, step) in walk(&plan(seed, 100, kinds)) {
            if let Step::DeleteWorker(group, _) | Step::EditTemplate(group) = step {
                prop_assert!(sizes.of(group) > 0, "{step} at {sizes:?}");
            }
        }
    }

    #[test]
    fn what_is_not_allowed_does_not_happen(seed: u64, kinds in kinds()) {
        for step in plan(seed, 100, kinds) {
            let allowed = match step {
                Step::Scale(..) | Step::ScaleBoth(_) => true,
                Step::ScaleAndKillOperator(..) | Step::KillOperator => kinds.operator,
                Step::DeleteWorker(..) => kinds.workers,
                Step::EditLabels(_) | Step::EditTemplate(_) => kinds.edits,
                Step::RestartScheduler => kinds.scheduler,
                Step::KillNode => kinds.nodes,
            };
            prop_assert!(allowed, "{step}");
        }
    }
}

#[test]
fn two_hundred_steps_have_every_kind() {
    let kinds: HashSet<_> = plan(1, 200, Kinds::ALL).iter().map(discriminant).collect();
    assert_eq!(kinds.len(), 9);
}

#[test]
fn seeds_differ() {
    assert_ne!(plan(1, 20, Kinds::ALL), plan(2, 20, Kinds::ALL));
}

#[rstest::rstest]
#[case(Step::Scale(Group::First, 1), 3)]
#[case(Step::Scale(Group::First, 6), 0)]
#[case(Step::ScaleBoth(Sizes { first: 2, second: 1 }), 5)]
#[case(Step::ScaleBoth(Sizes { first: 6, second: 0 }), 4)]
#[case(Step::KillOperator, 0)]
fn workers_that_have_to_go(#[case] step: Step, #[case] count: i32) {
    assert_eq!(step.shrinks(Sizes::START), count);
}

#[test]
fn steps_in_words() {
    assert_eq!(Step::Scale(Group::Second, 3).to_string(), "scale B to 3");
    assert_eq!(Step::ScaleBoth(Sizes { first: 1, second: 2 }).to_string(), "scale A to 1 and B to 2");
    assert_eq!(Step::DeleteWorker(Group::First, 7).to_string(), "delete worker 7 of A");
}
