//! What a fake scheduler answers, in Dask's words.

use rmpv::Value;

use super::{
    metrics,
    state::{State, Worker},
};
use crate::{
    WorkerStatus,
    message::map,
    value::{count, field, list, size, text},
};

/// The first release whose `identity` takes an argument.
const COUNTS_IN_IDENTITY: [u64; 3] = [2025, 4, 0];
/// The first release that tells since when it is idle.
const TELLS_IDLENESS: [u64; 3] = [2023, 3, 2];

/// Dask's word for a status.
pub(super) fn status_word(status: WorkerStatus) -> &'static str {
    match status {
        WorkerStatus::Running => "running",
        WorkerStatus::Paused => "paused",
        WorkerStatus::ClosingGracefully => "closing_gracefully",
        WorkerStatus::Closing => "closing",
        WorkerStatus::Other => "init",
    }
}

/// The answer to a request; `now` is the time in seconds since the epoch.
pub(super) fn answer(state: &mut State, request: &Value, now: f64) -> Value {
    let op = field(request, "op").and_then(text).unwrap_or_default();
    state.calls.push(op.clone());
    match op.as_str() {
        "identity" => identity(state, request),
        "adaptive_target" => state.adaptive_target.unwrap_or(state.workers.len() as u64).into(),
        "check_idle" => check_idle(state, now),
        "workers_to_close" => to_close(state, request),
        "retire_workers" => retire(state, request),
        "log_event" => {
            let argument = |name| field(request, name).and_then(text).unwrap_or_default();
            state.events.push((argument("topic"), argument("msg")));
            Value::Nil
        }
        "versions" => {
            let release = state.release.map(|number| number.to_string()).join(".");
            map([("packages", map([("distributed", release.into())]))])
        }
        "heartbeat_worker" => heartbeat(state, request, now),
        "dask_operator_queue" if state.has_module => queue(state, now),
        "dask_operator_workers" if state.has_module => {
            let rows = state.workers.iter().map(row).collect();
            map([("version", 1.into()), ("workers", Value::Array(rows))])
        }
        _ => Value::Nil,
    }
}

/// How Dask sends an exception; the objects would be in frames of their own.
pub(super) fn exception(text: &str) -> Value {
    map([
        ("status", "uncaught-error".into()),
        ("exception_text", text.into()),
        ("traceback_text", "".into()),
        ("exception", map([("__Serialized__", 1.into())])),
        ("traceback", map([("__Serialized__", 3.into())])),
    ])
}

fn identity(state: &State, request: &Value) -> Value {
    let most = field(request, "n_workers");
    let counts = state.release >= COUNTS_IN_IDENTITY;
    if most.is_some() && !counts {
        let problem = "Scheduler.identity() got an unexpected keyword argument 'n_workers'";
        return exception(&format!("TypeError(\"{problem}\")"));
    }
    let most = most.and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let workers = state.workers.iter().take(most).map(|worker| (worker.address.as_str(), described(worker)));
    let mut identity = vec![
        ("type", "Scheduler".into()),
        ("id", state.id.as_str().into()),
        ("address", state.address.as_str().into()),
        ("services", map([("dashboard", 8787.into())])),
        ("started", state.started.into()),
        ("workers", map(workers)),
    ];
    if counts {
        identity.push(("n_workers", state.workers.len().into()));
        identity.push(("total_threads", threads(state).into()));
        identity.push(("total_memory", 0.into()));
    }
    map(identity)
}

fn threads(state: &State) -> u64 {
    state.workers.iter().map(|worker| worker.nthreads).sum()
}

/// A worker in an identity.
fn described(worker: &Worker) -> Value {
    map([
        ("type", "Worker".into()),
        ("id", worker.address.as_str().into()),
        ("host", worker.host().into()),
        ("name", State::wire_name(worker)),
        ("nthreads", worker.nthreads.into()),
        ("status", status_word(worker.status).into()),
        ("last_seen", worker.last_seen.into()),
        ("nanny", Value::Nil),
        ("metrics", metrics::of(worker)),
    ])
}

/// A worker in the answer of the operator's module.
fn row(worker: &Worker) -> Value {
    map([
        ("address", worker.address.as_str().into()),
        ("name", State::wire_name(worker)),
        ("host", worker.host().into()),
        ("status", status_word(worker.status).into()),
        ("nthreads", worker.nthreads.into()),
        ("executing", (worker.executing + worker.long_running).into()),
        ("long_running", worker.long_running.into()),
        ("processing", (worker.executing + worker.long_running).into()),
        ("stored_bytes", worker.stored_bytes.into()),
        ("keys", worker.keys.into()),
        ("actors", worker.actors.into()),
        ("last_seen", worker.last_seen.into()),
    ])
}

fn check_idle(state: &mut State, now: f64) -> Value {
    if state.release < TELLS_IDLENESS {
        return Value::Nil;
    }
    if state.is_busy() {
        state.idle_since = None;
        return Value::Nil;
    }
    (*state.idle_since.get_or_insert(now)).into()
}

fn to_close(state: &State, request: &Value) -> Value {
    let number = |name| field(request, name).and_then(size);
    let n = number("n").or_else(|| Some(state.workers.len().saturating_sub(number("target")?)));
    let by_name = field(request, "attribute").and_then(Value::as_str) == Some("name");
    let chosen = state.to_close(n).into_iter();
    let values =
        chosen.map(|worker| if by_name { State::wire_name(worker) } else { worker.address.as_str().into() });
    Value::Array(values.collect())
}

fn retire(state: &mut State, request: &Value) -> Value {
    let texts = |name| {
        let values = field(request, name).and_then(list)?;
        Some(values.iter().filter_map(text).collect::<Vec<_>>())
    };
    let addresses = match (texts("workers"), texts("names")) {
        (Some(_), Some(_)) => {
            return exception("TypeError('names and workers are mutually exclusive')");
        }
        (Some(addresses), None) => addresses,
        (None, Some(names)) => {
            let chosen = state.workers.iter().filter(|worker| names.contains(&worker.name));
            chosen.map(|worker| worker.address.clone()).collect()
        }
        // Dask takes whatever it likes.
        (None, None) => state.to_close(None).iter().map(|worker| worker.address.clone()).collect(),
    };
    let flag = |name, default| field(request, name).and_then(Value::as_bool).unwrap_or(default);
    let retired = state.retire(&addresses, flag("close_workers", false), flag("remove", true));
    map(retired.iter().map(|worker| (worker.address.as_str(), described(worker))))
}

fn queue(state: &mut State, now: f64) -> Value {
    let idle_since = check_idle(state, now);
    let number_of =
        |is: &dyn Fn(&Worker) -> bool| Value::from(state.workers.iter().filter(|worker| is(worker)).count());
    let prefixes = state.tasks.iter().map(|task| {
        Value::Array(vec![
            task.prefix.as_str().into(),
            task.mean_seconds.map_or(Value::Nil, Value::from),
            task.queued.into(),
            task.processing.into(),
            task.unrunnable.into(),
        ])
    });
    map([
        ("version", 1.into()),
        ("id", state.id.as_str().into()),
        ("started", state.started.into()),
        ("workers", state.workers.len().into()),
        ("running", number_of(&|worker| worker.status == WorkerStatus::Running)),
        ("threads", threads(state).into()),
        ("queued", state.total(|task| task.queued).into()),
        ("unrunnable", state.total(|task| task.unrunnable).into()),
        ("processing", state.total(|task| task.processing).into()),
        ("saturated", number_of(&|worker| worker.executing > worker.nthreads)),
        ("idle", number_of(&|worker| worker.executing < worker.nthreads)),
        ("idle_since", idle_since),
        ("prefixes", Value::Array(prefixes.collect())),
    ])
}

/// Every worker repeats what it does with each heartbeat.
fn heartbeat(state: &mut State, request: &Value, now: f64) -> Value {
    let address = field(request, "address").and_then(text).unwrap_or_default();
    let interval = heartbeat_interval(state.workers.len());
    let Some(worker) = state.worker_mut(&address) else {
        return map([("status", "missing".into())]);
    };
    worker.last_seen = now;
    if let Some(metrics) = field(request, "metrics") {
        metrics::update(worker, metrics);
    }
    map([("status", "OK".into()), ("time", now.into()), ("heartbeat-interval", interval.into())])
}

/// Takes a new worker in, as `register-worker` asks for it.
pub(super) fn register(state: &mut State, request: &Value, now: f64) -> Value {
    let argument = |name| field(request, name).and_then(text).unwrap_or_default();
    let (address, name) = (argument("address"), argument("name"));
    state.calls.push("register-worker".to_owned());
    if state.workers.iter().any(|worker| worker.name == name || worker.address == address) {
        let message = format!("name taken, {name}");
        return map([("status", "error".into()), ("message", message.into()), ("time", now.into())]);
    }
    let nthreads = field(request, "nthreads").and_then(count).unwrap_or(1);
    let mut worker = Worker { name, nthreads, last_seen: now, ..Worker::new(&address) };
    if let Some(metrics) = field(request, "metrics") {
        metrics::update(&mut worker, metrics);
    }
    state.workers.push(worker);
    let interval = heartbeat_interval(state.workers.len());
    map([
        ("status", "OK".into()),
        ("time", now.into()),
        ("heartbeat-interval", interval.into()),
        ("worker-plugins", map([])),
    ])
}

/// In seconds, as Dask spaces them.
fn heartbeat_interval(workers: usize) -> f64 {
    match workers {
        0..=10 => 0.5,
        11..50 => 1.0,
        50..200 => 2.0,
        more => u32::try_from(more).map_or(60.0, |more| f64::from(more) / 200.0 + 1.0),
    }
}
