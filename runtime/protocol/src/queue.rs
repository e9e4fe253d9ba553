//! How much work waits, as the operator's module in the scheduler tells it.

use rmpv::Value;

use crate::{
    text::{LONGEST, printable},
    value::{field, list, number, size, text},
};

/// The scheduler's work in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueState {
    /// As in [`crate::Identity`].
    pub id: String,
    /// As in [`crate::Identity`].
    pub started: Option<f64>,
    /// Workers of any status.
    pub workers: usize,
    /// Workers that get tasks: not paused, not closing.
    pub running: usize,
    /// Threads of all workers.
    pub threads: usize,
    /// Tasks that wait for any worker to have room.
    pub queued: usize,
    /// Tasks that no worker may run.
    pub unrunnable: usize,
    /// Tasks assigned to workers.
    pub processing: usize,
    /// Workers that have more than they can run.
    pub saturated: usize,
    /// Workers that have too little to do.
    pub idle: usize,
    /// Since when there has been no work at all, in seconds since the epoch.
    pub idle_since: Option<f64>,
    /// Kinds of tasks that there is work of.
    pub prefixes: Vec<PrefixState>,
}

/// Tasks of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct PrefixState {
    /// What their keys begin with, such as `read-parquet`.
    pub name: String,
    /// Mean run time in seconds; none before the first one is done.
    pub mean_seconds: Option<f64>,
    /// As in [`QueueState`].
    pub queued: usize,
    /// As in [`QueueState`].
    pub processing: usize,
    /// As in [`QueueState`].
    pub unrunnable: usize,
}

impl QueueState {
    /// A number that is missing makes the answer none: zero would mean that there is no work.
    pub(crate) fn from_reply(reply: &Value) -> Option<Self> {
        let number_of = |name| field(reply, name).and_then(size);
        let prefixes = list(field(reply, "prefixes")?)?;
        Some(Self {
            id: printable(&field(reply, "id").and_then(text)?, LONGEST),
            started: field(reply, "started").and_then(number),
            workers: number_of("workers")?,
            running: number_of("running")?,
            threads: number_of("threads")?,
            queued: number_of("queued")?,
            unrunnable: number_of("unrunnable")?,
            processing: number_of("processing")?,
            saturated: number_of("saturated")?,
            idle: number_of("idle")?,
            idle_since: field(reply, "idle_since").and_then(number),
            prefixes: prefixes.iter().map(PrefixState::from_row).collect::<Option<_>>()?,
        })
    }
}

impl PrefixState {
    fn from_row(row: &Value) -> Option<Self> {
        let row = list(row)?;
        Some(Self {
            name: printable(&text(row.first()?)?, LONGEST),
            mean_seconds: number(row.get(1)?).filter(|seconds| *seconds >= 0.0),
            queued: size(row.get(2)?)?,
            processing: size(row.get(3)?)?,
            unrunnable: size(row.get(4)?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::map;

    const NUMBERS: [&str; 8] =
        ["workers", "running", "threads", "queued", "unrunnable", "processing", "saturated", "idle"];

    fn reply() -> Value {
        let prefix = |name: &str, mean: Value| {
            Value::Array(vec![name.into(), mean, 1.into(), 2.into(), 3.into(), "one more".into()])
        };
        let prefixes = Value::Array(vec![prefix("inc", 0.5.into()), prefix("load", Value::Nil)]);
        let numbers = NUMBERS.iter().zip(1_u64..).map(|(name, number)| (*name, Value::from(number)));
        let rest = [
            ("version", 1.into()),
            ("id", "Scheduler-1".into()),
            ("started", 1.5.into()),
            ("idle_since", Value::Nil),
            ("prefixes", prefixes),
        ];
        map(numbers.chain(rest))
    }

    #[test]
    fn every_number_arrives_in_its_place() {
        let state = QueueState::from_reply(&reply()).unwrap();
        let numbers = [
            state.workers,
            state.running,
            state.threads,
            state.queued,
            state.unrunnable,
            state.processing,
            state.saturated,
            state.idle,
        ];
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((state.started, state.idle_since), (Some(1.5), None));
        let expected = |name: &str, mean_seconds| PrefixState {
            name: name.into(),
            mean_seconds,
            queued: 1,
            processing: 2,
            unrunnable: 3,
        };
        assert_eq!(state.prefixes, [expected("inc", Some(0.5)), expected("load", None)]);
    }

    #[test]
    fn a_number_that_is_missing_is_not_zero() {
        for missing in NUMBERS.into_iter().chain(["id", "prefixes"]) {
            let Value::Map(mut entries) = reply() else { panic!("a map") };
            entries.retain(|(key, _)| key.as_str() != Some(missing));
            assert_eq!(QueueState::from_reply(&Value::Map(entries)), None, "{missing}");
        }
        assert_eq!(QueueState::from_reply(&Value::Nil), None);
    }

    #[test]
    fn a_row_cut_short_is_none() {
        for row in [Value::Array(vec!["inc".into(), Value::Nil, 1.into()]), Value::Nil, 3.into()] {
            assert_eq!(PrefixState::from_row(&row), None);
        }
    }
}
