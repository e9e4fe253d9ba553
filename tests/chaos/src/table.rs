//! What a person sees of a walk.

use std::fmt::Write as _;

use crate::{ledger::Cost, plan::Step, run::Outcome};

/// A step that was done and judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its number, from 1.
    pub number: usize,
    /// What was done.
    pub step: Step,
    /// Workers that Dask has, and that were wanted.
    pub workers: (i32, i32),
    /// Until its effect was audited.
    pub seconds: f64,
    /// What it cost.
    pub cost: Cost,
    /// Whether it may cost that.
    pub may: bool,
    /// Some of the tasks that ran twice in this round.
    pub twice: Vec<String>,
    /// Pods that were deleted although the scheduler had not let their workers go.
    pub unconfirmed: Vec<String>,
}

impl Row {
    /// A line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let (workers, wanted) = self.workers;
        let verdict = match (self.cost.is_nothing(), self.may) {
            (true, true) => "ok".to_owned(),
            (_, true) => format!("excused: {}", self.cost),
            (_, false) if self.twice.is_empty() => format!("LOST: {}", self.cost),
            (_, false) => format!("LOST: {} ({})", self.cost, self.twice.join(" ")),
        };
        let deleted = match self.unconfirmed.as_slice() {
            [] => String::new(),
            pods => format!("  DELETED TOO EARLY: {}", pods.join(" ")),
        };
        let (number, seconds, step) = (self.number, self.seconds, self.step.to_string());
        format!("{number:>4}  {step:<38} {workers:>2}/{wanted:<2} {seconds:>6.1} s  {verdict}{deleted}")
    }
}

/// The command that takes the same steps again. A longer walk begins as a shorter one.
#[must_use]
pub fn repeat(seed: u64, steps: usize) -> String {
    format!("make chaos-drain SEED={seed} STEPS={steps}")
}

/// The end of the table.
#[must_use]
pub fn summary(seed: u64, outcome: &Outcome) -> String {
    let Outcome { ledger, steps, shrunk, deleted, unconfirmed } = outcome;
    let last = ledger.last();
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{what:<44}{value}");
    };
    line("seed", seed.to_string());
    line("steps", steps.to_string());
    line("workers scaled away", shrunk.to_string());
    line("pods of workers deleted", deleted.to_string());
    line("of these, not confirmed by the scheduler", unconfirmed.to_string());
    line(
        "workers that left, expected / not",
        format!("{} / {}", last.removed_expected, last.removed_unexpected),
    );
    line(
        "computed keys that left with them",
        format!("{} / {}", last.lost_computed_expected, last.lost_computed_unexpected),
    );
    line("tasks of the stream that ended well", last.stream_done.to_string());
    line("keys lost", ledger.unexcused.lost.to_string());
    line("keys recomputed because of us", ledger.unexcused.recomputed.to_string());
    line("tasks run twice because of us", ledger.unexcused.rerun.to_string());
    line("tasks given up (KilledWorker)", (ledger.unexcused.killed + ledger.excused.killed).to_string());
    line("excused by power cuts and restarts", ledger.excused.to_string());
    line("steps that lost something", ledger.guilty_steps.to_string());
    if !outcome.is_clean() {
        line("to repeat", repeat(seed, *steps));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{Excuse, Ledger, Report},
        plan::Group,
    };

    fn row(cost: Cost, may: bool) -> String {
        let step = Step::Scale(Group::First, 2);
        let twice = if cost.recomputed > 0 { vec!["held-1-00007".to_owned()] } else { Vec::new() };
        Row { number: 3, step, workers: (6, 6), seconds: 4.25, cost, may, twice, unconfirmed: vec![] }.line()
    }

    #[test]
    fn a_quiet_step_is_ok() {
        let line = row(Cost::default(), true);
        assert!(line.contains("scale A to 2") && line.contains("6/6") && line.ends_with("ok"), "{line}");
    }

    #[test]
    fn a_loss_stands_out_and_names_a_key() {
        let cost = Cost { recomputed: 1, ..Cost::default() };
        assert!(row(cost, false).ends_with("LOST: 1 keys recomputed (held-1-00007)"));
        assert!(row(cost, true).contains("excused: 1 keys recomputed"));
    }

    #[test]
    fn the_summary_has_every_sum() {
        let mut ledger = Ledger::default();
        ledger.enter(Report { round: 1, keys: 10, present: 9, lost: 1, ..Report::default() }, Excuse::None);
        let outcome = Outcome { ledger, steps: 5, shrunk: 12, deleted: 14, unconfirmed: 1 };
        let text = summary(7, &outcome);
        for (what, value) in [
            ("seed", "7"),
            ("steps", "5"),
            ("workers scaled away", "12"),
            ("keys lost", "1"),
            ("pods of workers deleted", "14"),
            ("to repeat", "make chaos-drain SEED=7 STEPS=5"),
        ] {
            let found = text.lines().any(|line| line.starts_with(what) && line.ends_with(value));
            assert!(found, "{what} {value} in\n{text}");
        }
    }
}
