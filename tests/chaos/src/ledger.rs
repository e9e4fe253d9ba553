//! What the client of Dask saw, step by step, and whether it may be so.

use std::fmt;

use serde::Deserialize;

/// What the audit reports. All but the keys and the workers are sums since the audit began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Report {
    /// Incarnation of the scheduler, from 1.
    pub round: u32,
    /// Workers that the scheduler knows.
    pub workers: i32,
    /// Keys that should be held.
    pub keys: u64,
    /// Keys that a worker has.
    pub present: u64,
    /// Keys that a worker has with another value.
    pub wrong: u64,
    /// Keys that no worker has, and that did not come back either.
    pub lost: u64,
    /// Held keys that were computed once more in this round, without excuse.
    pub twice_held: u64,
    /// Tasks of the stream that were begun once more in this round, without excuse.
    pub twice_stream: u64,
    /// Some of both, by name.
    #[serde(default)]
    pub twice: Vec<String>,
    /// Executions in this round.
    pub executions: u64,
    /// Tasks of the stream that ended well.
    pub stream_done: u64,
    /// Tasks of the stream that did not.
    pub stream_failed: u64,
    /// Workers that left and were expected to.
    pub removed_expected: u64,
    /// Workers that left without a word.
    pub removed_unexpected: u64,
    /// Computed keys that left with workers that were expected to.
    pub lost_computed_expected: u64,
    /// Computed keys that left with the others.
    pub lost_computed_unexpected: u64,
    /// Tasks that the scheduler gave up because workers died under them.
    pub killed: u64,
    /// Sum of the scheduler's suspicions about its present tasks.
    pub suspicious: u64,
}

/// What of a step may go wrong by design of Dask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// Nothing.
    None,
    /// Workers die without a word. The audit was told what only they hold: that is not counted. What they began in the
    /// meantime runs again.
    Death,
    /// The scheduler lost its state: a new round began.
    NewRound,
}

/// What a step cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Keys that are gone or have another value.
    pub lost: u64,
    /// Held keys that were computed again.
    pub recomputed: u64,
    /// Tasks of the stream that ran again or failed.
    pub rerun: u64,
    /// Tasks that the scheduler gave up.
    pub killed: u64,
}

impl Cost {
    /// Whether nothing was lost and nothing ran twice.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    fn plus(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            recomputed: self.recomputed + other.recomputed,
            rerun: self.rerun + other.rerun,
            killed: self.killed + other.killed,
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_nothing() {
            return f.write_str("nothing");
        }
        let parts = [
            (self.lost, "keys lost"),
            (self.recomputed, "keys recomputed"),
            (self.rerun, "tasks run again"),
            (self.killed, "tasks given up"),
        ];
        let words: Vec<String> =
            parts.iter().filter(|(count, _)| *count > 0).map(|(n, what)| format!("{n} {what}")).collect();
        f.write_str(&words.join(", "))
    }
}

/// The sums of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    last: Report,
    /// What no step excuses.
    pub unexcused: Cost,
    /// What a step excuses.
    pub excused: Cost,
    /// Steps that cost something that they do not excuse.
    pub guilty_steps: usize,
}

impl Ledger {
    /// Begins with what the audit reported before the first step.
    #[must_use]
    pub fn new(first: Report) -> Self {
        Self { last: first, ..Self::default() }
    }

    /// Enters what was seen after a step; returns what the step cost and whether it may.
    pub fn enter(&mut self, report: Report, excuse: Excuse) -> (Cost, bool) {
        // Runs are counted by round; all else goes on.
        let before = if report.round == self.last.round {
            self.last.clone()
        } else {
            Report { twice_held: 0, twice_stream: 0, ..self.last.clone() }
        };
        let missing = report.keys.saturating_sub(report.present).max(report.lost);
        let failed = report.stream_failed.saturating_sub(before.stream_failed);
        let cost = Cost {
            lost: missing + report.wrong,
            recomputed: report.twice_held.saturating_sub(before.twice_held),
            rerun: report.twice_stream.saturating_sub(before.twice_stream) + failed,
            killed: report.killed.saturating_sub(before.killed),
        };
        let may = match excuse {
            Excuse::None => cost.is_nothing(),
            Excuse::Death => cost.lost == 0 && cost.recomputed == 0 && cost.killed == 0,
            // What the client holds now was computed after the restart.
            Excuse::NewRound => cost.lost == 0 && cost.recomputed == 0,
        };
        if may {
            self.excused = self.excused.plus(cost);
        } else {
            self.unexcused = self.unexcused.plus(cost);
            self.guilty_steps += 1;
        }
        self.last = report;
        (cost, may)
    }

    /// The last report.
    #[must_use]
    pub fn last(&self) -> &Report {
        &self.last
    }

    /// Whether every step may have cost what it did.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.guilty_steps == 0
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
