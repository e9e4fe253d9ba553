//! The metrics that workers put into their heartbeats.

use rmpv::Value;

use super::state::Worker;
use crate::{
    message::map,
    value::{at, count},
};

/// With everything that real schedulers read of them, and keys of arrays as real workers send them.
pub(super) fn of(worker: &Worker) -> Value {
    let digest = |activity: &str, unit: &str| {
        let key = ["execute", "inc", activity, unit].map(Value::from).to_vec();
        (Value::Array(key), Value::from(0.25))
    };
    let counts = [
        ("executing", worker.executing),
        ("long-running", worker.long_running),
        ("memory", worker.keys),
        ("ready", 0),
    ];
    let bandwidth = map([("total", 100_000_000.into()), ("workers", map([])), ("types", map([]))]);
    map([
        ("task_counts", map(counts.map(|(state, number)| (state, number.into())))),
        ("bandwidth", bandwidth),
        (
            "digests_total_since_heartbeat",
            Value::Map(vec![digest("thread-cpu", "seconds"), digest("disk-read", "count")]),
        ),
        ("managed_bytes", worker.stored_bytes.into()),
        ("spilled_bytes", map([("memory", 0.into()), ("disk", 0.into())])),
        ("transfer", map([("incoming_bytes", 0.into()), ("outgoing_bytes", 0.into())])),
        ("event_loop_interval", 0.02.into()),
        ("cpu", 2.0.into()),
        ("memory", (100_000_000 + worker.stored_bytes).into()),
        ("time", worker.last_seen.into()),
        // Names and types that schedulers before 2023 read.
        ("executing", worker.executing.into()),
        ("in_memory", worker.keys.into()),
        ("ready", 0.into()),
        ("in_flight", 0.into()),
        ("spilled_nbytes", map([("memory", 0.into()), ("disk", 0.into())])),
    ])
}

/// Takes what a worker says of itself into what the scheduler knows of it.
pub(super) fn update(worker: &mut Worker, metrics: &Value) {
    let metric = |path: &[&str]| at(metrics, path).and_then(count);
    let fields = [
        (&mut worker.executing, metric(&["task_counts", "executing"])),
        (&mut worker.long_running, metric(&["task_counts", "long-running"])),
        (&mut worker.keys, metric(&["task_counts", "memory"])),
        (&mut worker.stored_bytes, metric(&["managed_bytes"])),
    ];
    for (field, value) in fields {
        if let Some(value) = value {
            *field = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_says_is_what_the_scheduler_knows() {
        let said =
            Worker { executing: 1, long_running: 2, keys: 3, stored_bytes: 4, ..Worker::new("tcp://a:1") };
        let mut known = Worker::new("tcp://a:1");
        update(&mut known, &of(&said));
        assert_eq!(known, said);
        update(&mut known, &Value::Nil);
        assert_eq!(known, said, "silence changes nothing");
    }
}
