//! Bytes that no Dask ever sent: nothing panics, nothing exceeds the limits or the memory that they stand for, every
//! call ends and gives back what it took of the budget.
//!
//! 20,000 inputs in a usual run; `DASK_PROTOCOL_FUZZ_INPUTS` asks for more, `DASK_PROTOCOL_FUZZ_SEED` for others.

use std::{env, time::Duration};

use dask_protocol::{
    Budget, Deadlines, Limits, MessageLimits, Retirement, SchedulerClient, WorkerClient,
    budget::Room,
    frame, handshake,
    message::{self, map},
    rmpv::Value,
};
use fastrand::Rng;
use tokio::io::{AsyncWriteExt, duplex};

/// Small enough for random numbers to exceed them.
const LIMITS: MessageLimits = MessageLimits { message_bytes: 4096, frames: 8, depth: 6, items: 200 };

/// Memory of a value in a list that grew by doubling, and of the allocation that its text has: what the limits of
/// values were chosen by.
const VALUE_BYTES: usize = 2 * size_of::<Value>() + 32;

fn room() -> Room {
    Budget::default().room(Deadlines::default().transfer)
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn inputs() -> u64 {
    setting("DASK_PROTOCOL_FUZZ_INPUTS", 20_000)
}

fn rng(test: u64) -> Rng {
    Rng::with_seed(setting("DASK_PROTOCOL_FUZZ_SEED", 1) ^ test << 32)
}

const WORDS: [&str; 24] = [
    "op",
    "status",
    "uncaught-error",
    "exception_text",
    "id",
    "address",
    "started",
    "workers",
    "n_workers",
    "name",
    "nthreads",
    "metrics",
    "task_counts",
    "executing",
    "long-running",
    "version",
    "prefixes",
    "queued",
    "__Set__",
    "as-list",
    "__Pickled__",
    "packages",
    "distributed",
    "idle_since",
];

/// Any value; maps are likely to have keys that mean something.
fn value(rng: &mut Rng, depth: usize) -> Value {
    match rng.u8(0..if depth == 0 { 8 } else { 12 }) {
        0 => Value::Nil,
        1 => rng.bool().into(),
        2 => rng.u64(..).into(),
        3 => rng.i64(..).into(),
        4 => f64::from_bits(rng.u64(..)).into(),
        5 => rng.u64(0..3).into(),
        6 => rng.choice(WORDS).unwrap_or_default().into(),
        7 => Value::Binary((0..rng.usize(0..9)).map(|_| rng.u8(..)).collect()),
        8 => Value::Array((0..rng.usize(0..6)).map(|_| value(rng, depth - 1)).collect()),
        9 => {
            Value::Map((0..rng.usize(0..6)).map(|_| (value(rng, depth - 1), value(rng, depth - 1))).collect())
        }
        _ => {
            let entries: Vec<_> = (0..rng.usize(0..8))
                .map(|_| (rng.choice(WORDS).unwrap_or_default(), value(rng, depth - 1)))
                .collect();
            map(entries)
        }
    }
}

/// An answer that is nearly right: what the operator's module says, with something else in some places.
fn telemetry(rng: &mut Rng) -> Value {
    let mut number = || if rng.u8(0..12) == 0 { value(rng, 2) } else { rng.u64(0..9).into() };
    let names = ["workers", "running", "threads", "queued", "unrunnable", "processing", "saturated", "idle"];
    let mut entries: Vec<(&str, Value)> = names.map(|name| (name, number())).to_vec();
    let row = Value::Array(vec!["inc".into(), number(), number(), number(), number()]);
    entries.extend([("version", 1.into()), ("id", number()), ("prefixes", Value::Array(vec![row]))]);
    map(entries)
}

/// Changes bytes, cuts some out, repeats some.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.usize(0..4) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.usize(0..bytes.len());
        match rng.u8(0..5) {
            0 => bytes[at] = rng.u8(..),
            1 => bytes[at] ^= 1 << rng.u8(0..8),
            2 => bytes.truncate(at),
            3 => {
                let copy = bytes[at..(at + 8).min(bytes.len())].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                bytes.remove(at);
            }
        }
    }
}

/// A message with any number of frames, of which the first ones are in the first part.
fn framed(rng: &mut Rng, first: &[u8]) -> Vec<u8> {
    let mut frames = vec![first.to_vec()];
    for _ in 0..rng.usize(0..3) {
        frames.push(vec![0x80; rng.usize(0..40)]);
    }
    let packed: usize = frames[..rng.usize(0..=frames.len())].iter().map(Vec::len).sum();
    let mut bytes = Vec::new();
    let head = [8 + 8 * frames.len() as u64 + packed as u64, frames.len() as u64];
    for word in head.into_iter().chain(frames.iter().map(|frame| frame.len() as u64)) {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(frames.concat());
    bytes
}

fn measure(value: &Value) -> (u64, usize) {
    let inner = |values: &mut dyn Iterator<Item = &Value>| {
        let measured = values.map(measure);
        let (items, depth) =
            measured.fold((0, 0), |(items, depth), (more, deep)| (items + more, depth.max(deep)));
        (items + 1, depth + 1)
    };
    match value {
        Value::Array(values) if !values.is_empty() => inner(&mut values.iter()),
        Value::Map(entries) if !entries.is_empty() => {
            inner(&mut entries.iter().flat_map(|(key, value)| [key, value]))
        }
        _ => (1, 0),
    }
}

/// Bytes that a value has allocated, those of its lists before they are full included.
fn memory(value: &Value) -> usize {
    match value {
        Value::String(text) => text.as_bytes().len(),
        Value::Binary(bytes) | Value::Ext(_, bytes) => bytes.capacity(),
        Value::Array(values) => {
            values.capacity() * size_of::<Value>() + values.iter().map(memory).sum::<usize>()
        }
        Value::Map(entries) => {
            let inner: usize = entries.iter().map(|(key, value)| memory(key) + memory(value)).sum();
            2 * entries.capacity() * size_of::<Value>() + inner
        }
        _ => 0,
    }
}

#[tokio::test]
async fn frames_and_messages_keep_to_the_limits() {
    let mut rng = rng(1);
    let (mut read, mut decoded) = (0, 0);
    for _ in 0..inputs() {
        let first = if rng.u8(0..8) == 0 {
            (0..rng.usize(0..64)).map(|_| rng.u8(..)).collect()
        } else {
            message::encode(&value(&mut rng, 7))
        };
        let mut bytes = framed(&mut rng, &first);
        damage(&mut rng, &mut bytes);
        let mut left = bytes.as_slice();
        let Ok(frames) = frame::read(&mut left, &LIMITS, &mut room()).await else { continue };
        read += 1;
        let used = bytes.len() - left.len();
        assert!(used as u64 <= LIMITS.message_bytes + 8 && frames.skipped < LIMITS.frames, "{bytes:?}");
        let Some(first) = frames.first else { continue };
        assert!(first.len() <= used && first.capacity() <= 2 * first.len().max(1 << 10), "{bytes:?}");
        let Ok(value) = message::decode(&first, &LIMITS) else { continue };
        decoded += 1;
        let (items, depth) = measure(&value);
        assert!(items <= LIMITS.items && depth <= LIMITS.depth, "{items} {depth} {bytes:?}");
        // A list begins with room for four.
        let most = usize::try_from(items).unwrap() * 4 * VALUE_BYTES + first.len();
        assert!(memory(&value) <= most, "{} of {most}: {bytes:?}", memory(&value));
    }
    assert!(read > inputs() / 4 && decoded > inputs() / 8, "the fuzz has grown blunt: {read} {decoded}");
}

/// Answers each question with something until the client is gone.
async fn babble(mut stream: tokio::io::DuplexStream, mut rng: Rng) {
    let limits = MessageLimits::SMALL;
    if rng.u8(0..20) == 0 {
        let mut hello = framed(&mut rng, &message::encode(&map([("python", Value::Array(vec![3.into()]))])));
        damage(&mut rng, &mut hello);
        let _ = stream.write_all(&hello).await;
        return;
    }
    if handshake::exchange(&mut stream, &mut room()).await.is_err() {
        return;
    }
    while frame::read(&mut stream, &limits, &mut room()).await.is_ok() {
        let answer = if rng.bool() { telemetry(&mut rng) } else { value(&mut rng, 4) };
        let mut bytes = framed(&mut rng, &message::encode(&answer));
        if rng.u8(0..6) == 0 {
            damage(&mut rng, &mut bytes);
            // What is cut short would be waited for.
            let _ = stream.write_all(&bytes).await;
            return;
        }
        if stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn every_answer_is_an_answer_or_an_error() {
    let mut rng = rng(2);
    let long = Duration::from_mins(1);
    let deadlines = Deadlines { connect: long, handshake: long, call: long, retire: long, transfer: long };
    let limits = Limits { small: LIMITS, ..Limits::sharing(&Budget::new(4 << 20)) };
    let (mut asked, mut understood) = (0, 0_u64);
    while asked < inputs() {
        let (ours, theirs) = duplex(1 << 16);
        let peer = tokio::spawn(babble(theirs, rng.fork()));
        if rng.u8(0..8) == 0 {
            if let Ok(mut client) = WorkerClient::over(ours, limits.clone(), deadlines).await {
                let result = client.executing().await;
                assert!(!result.is_err_and(|error| error.is_timeout()));
            }
            asked += 1;
        } else if let Ok(mut client) = SchedulerClient::over(ours, limits.clone(), deadlines).await {
            while client.is_usable() && asked < inputs() {
                asked += 1;
                let error = match rng.u8(0..8) {
                    0 => client.identity(rng.bool()).await.err(),
                    1 | 2 => client.queue().await.err(),
                    3 => client.workers().await.err(),
                    4 => client.adaptive_target().await.err(),
                    5 => client.check_idle().await.err(),
                    6 => client.workers_to_close(3).await.err(),
                    _ => client.retire(&["tcp://a:1".to_owned()], Retirement::Fence).await.err(),
                };
                understood += u64::from(error.is_none());
                assert!(!error.is_some_and(|error| error.is_timeout()));
                assert_eq!(limits.budget.available(), limits.budget.total(), "it gives everything back");
            }
        } else {
            asked += 1;
        }
        peer.await.unwrap();
    }
    assert!(understood > inputs() / 20, "the fuzz has grown blunt: {understood} of {asked}");
}

/// A row as the operator's module writes it; a damaged one has something else in some places.
fn row(rng: &mut Rng, damaged: bool) -> Value {
    let names =
        ["address", "name", "host", "status", "nthreads", "executing", "processing", "keys", "last_seen"];
    map(names.map(|name| {
        let value = match if damaged { rng.u8(0..40) } else { 2 } {
            0 => value(rng, 3),
            1 => "x".repeat(rng.usize(0..2_000)).as_str().into(),
            _ if name == "address" => format!("tcp://10.0.0.{}:{}", rng.u8(..), rng.u16(..)).as_str().into(),
            _ => rng.u64(0..9).into(),
        };
        (name, value)
    }))
}

#[tokio::test]
async fn lists_of_workers_take_no_more_than_their_numbers_allow() {
    let mut rng = rng(3);
    let budget = Budget::new(8 << 20);
    let limits = Limits { pods: 10, ..Limits::sharing(&budget) };
    let (mut understood, mut refused) = (0, 0);
    for _ in 0..inputs() / 200 {
        let count = *rng.choice(&[0, 1, 60, 1_000, limits.workers(), limits.workers() + 1, 3_000]).unwrap();
        let damaged = rng.bool();
        let rows: Vec<Value> = (0..count).map(|_| row(&mut rng, damaged)).collect();
        let answer = map([("version", 1.into()), ("workers", Value::Array(rows))]);
        let (ours, mut theirs) = duplex(1 << 16);
        let peer = tokio::spawn(async move {
            handshake::exchange(&mut theirs, &mut room()).await.unwrap();
            frame::read(&mut theirs, &MessageLimits::SMALL, &mut room()).await.unwrap();
            let _ = theirs.write_all(&frame::encode(&message::encode(&answer))).await;
        });
        let mut client = SchedulerClient::over(ours, limits.clone(), Deadlines::default()).await.unwrap();
        match client.workers().await {
            Ok(workers) => {
                understood += 1;
                let workers = workers.unwrap();
                assert!(workers.len() == count && count <= limits.workers());
                let most = workers.len() * Limits::WORKER_BYTES;
                assert!(budget.total() - budget.available() <= most);
                for worker in workers.iter() {
                    let kept = worker.address.len().max(worker.name.len()).max(worker.host.len());
                    assert!(kept <= 256, "{worker:?}");
                }
            }
            Err(_) => refused += 1,
        }
        assert_eq!(budget.available(), budget.total());
        drop(client);
        peer.await.unwrap();
    }
    assert!(understood > 10 && refused > 10, "the fuzz has grown blunt: {understood} {refused}");
}
