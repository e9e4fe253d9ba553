use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn report() -> Report {
    Report { round: 1, keys: 1000, present: 1000, workers: 8, stream_done: 50, ..Report::default() }
}

fn enter(report: Report, excuse: Excuse) -> (Cost, bool) {
    Ledger::new(self::report()).enter(report, excuse)
}

#[test]
fn a_quiet_step_costs_nothing() {
    let mut ledger = Ledger::new(report());
    let (cost, may) = ledger.enter(Report { stream_done: 90, executions: 3000, ..report() }, Excuse::None);
    assert!(may && cost.is_nothing() && ledger.is_clean());
    assert_eq!(cost.to_string(), "nothing");
}

#[rstest]
#[case(Report { lost: 3, present: 997, ..report() }, Cost { lost: 3, ..Cost::default() })]
#[case(Report { present: 990, ..report() }, Cost { lost: 10, ..Cost::default() })]
#[case(Report { wrong: 1, ..report() }, Cost { lost: 1, ..Cost::default() })]
#[case(Report { twice_held: 7, ..report() }, Cost { recomputed: 7, ..Cost::default() })]
#[case(Report { twice_stream: 2, ..report() }, Cost { rerun: 2, ..Cost::default() })]
#[case(Report { stream_failed: 2, ..report() }, Cost { rerun: 2, ..Cost::default() })]
#[case(Report { killed: 1, ..report() }, Cost { killed: 1, ..Cost::default() })]
fn every_loss_is_seen_and_not_excused(#[case] report: Report, #[case] expected: Cost) {
    let mut ledger = Ledger::new(self::report());
    assert_eq!(ledger.enter(report, Excuse::None), (expected, false));
    assert_eq!((ledger.unexcused, ledger.excused), (expected, Cost::default()));
    assert!(!ledger.is_clean());
}

#[test]
fn a_loss_is_charged_to_the_step_that_caused_it_alone() {
    let mut ledger = Ledger::new(report());
    let lossy = Report { twice_held: 7, ..report() };
    assert!(!ledger.enter(lossy.clone(), Excuse::None).1);
    assert!(ledger.enter(lossy, Excuse::None).1);
    assert_eq!((ledger.guilty_steps, ledger.unexcused.recomputed), (1, 7));
}

#[test]
fn death_excuses_what_was_running_but_no_loss() {
    assert!(enter(Report { twice_stream: 3, ..report() }, Excuse::Death).1);
    assert!(!enter(Report { twice_held: 1, ..report() }, Excuse::Death).1, "a key that was elsewhere too");
    assert!(!enter(Report { lost: 1, ..report() }, Excuse::Death).1);
    assert!(!enter(Report { killed: 1, ..report() }, Excuse::Death).1);
}

#[test]
fn a_new_round_counts_runs_anew() {
    let mut ledger = Ledger::new(report());
    ledger.enter(Report { twice_held: 7, ..report() }, Excuse::None);
    let (cost, may) = ledger.enter(Report { round: 2, stream_failed: 8, ..report() }, Excuse::NewRound);
    assert!(may, "{cost}");
    let (cost, may) =
        ledger.enter(Report { round: 2, stream_failed: 8, twice_held: 2, ..report() }, Excuse::None);
    assert!(!may);
    assert_eq!(cost, Cost { recomputed: 2, ..Cost::default() });
}

#[test]
fn a_cost_in_words() {
    let cost = Cost { lost: 1, rerun: 2, ..Cost::default() };
    assert_eq!(cost.to_string(), "1 keys lost, 2 tasks run again");
}

#[test]
fn the_audits_line_is_understood() {
    let line = r#"{"round": 1, "workers": 3, "keys": 10, "present": 10, "wrong": 0, "lost": 0, "twice_held": 0,
        "twice_stream": 1, "twice": ["short-1-2"], "executions": 12, "stream_done": 2, "stream_failed": 0,
        "removed_expected": 1, "removed_unexpected": 0, "lost_computed_expected": 0,
        "lost_computed_unexpected": 0, "killed": 0, "suspicious": 0}"#;
    let report: Report = serde_json::from_str(line).unwrap();
    assert_eq!((report.workers, report.twice.len()), (3, 1));
}

proptest! {
    #[test]
    fn no_excuse_hides_a_lost_key(
        present in 0_u64..1000, twice in 0_u64..5, failed in 0_u64..5, round in 1_u32..3,
    ) {
        let report = Report { present, twice_held: twice, stream_failed: failed, round, ..report() };
        for excuse in [Excuse::None, Excuse::Death, Excuse::NewRound] {
            let (cost, may) = enter(report.clone(), excuse);
            prop_assert_eq!(cost.lost, 1000 - present);
            prop_assert!(!may);
        }
    }
}
