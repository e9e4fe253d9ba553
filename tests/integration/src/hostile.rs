//! Schedulers that answer the most expensive things they can think of.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dask_protocol::frame;
use dask_protocol::message::{self, map};
use dask_protocol::rmpv::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// What none of them may smuggle into a condition, an Event, or a line of a log of its own.
pub const SECRET: &str = "s3cret";

/// Workers that a list of a small cluster may have: two pods.
const WORKERS: usize = 1_032;

/// In what a scheduler is hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hostility {
    /// Four million letters, each a value, instead of an introduction: 8 MB, and 300 MB decoded.
    Letters,
    /// An introduction that comes byte by byte.
    SlowIntroduction,
    /// Something else listens.
    Stranger,
    /// The same letters as the answer to each question.
    LettersLater,
    /// The longest list of kinds of tasks that is legal.
    ManyPrefixes,
    /// Legal lists of workers with all the bytes and values that are allowed.
    FullLists,
    /// Lists of many more workers than there can be.
    ManyWorkers,
    /// Names and addresses of 4 kB with line feeds.
    LongNames,
    /// A list that begins at once and then comes byte by byte.
    SlowList,
    /// Bytes without end.
    Endless,
    /// Lists within lists.
    Deep,
    /// Exceptions of a megabyte.
    Exceptions,
    /// Largest numbers everywhere.
    LargestNumbers,
    /// Frames of which nothing is needed, as many and as large as is legal.
    ManyFrames,
    /// Hangs up on every question.
    HangsUp,
    /// Hangs at every question.
    Hangs,
}

impl Hostility {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Letters,
        Self::SlowIntroduction,
        Self::Stranger,
        Self::LettersLater,
        Self::ManyPrefixes,
        Self::FullLists,
        Self::ManyWorkers,
        Self::LongNames,
        Self::SlowList,
        Self::Endless,
        Self::Deep,
        Self::Exceptions,
        Self::LargestNumbers,
        Self::ManyFrames,
        Self::HangsUp,
        Self::Hangs,
    ];

    /// Whether no answer is of any use, so that every question ends with a failure.
    #[must_use]
    pub fn is_useless(self) -> bool {
        matches!(self, Self::Letters | Self::Stranger | Self::LettersLater | Self::Deep)
    }
}

/// A hostile scheduler on port 8786 of an address. Gone when dropped.
#[derive(Debug)]
pub struct HostileScheduler {
    how: Hostility,
    connections: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl HostileScheduler {
    /// Starts one.
    pub async fn start(ip: Ipv4Addr, how: Hostility) -> Self {
        let listener = TcpListener::bind((ip, 8786)).await.expect("the address is free");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let serving = tokio::spawn(async move {
            let answers = Arc::new(Answers::of(how));
            let mut open = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        counter.fetch_add(1, Ordering::Relaxed);
                        let answers = answers.clone();
                        open.spawn(async move { answers.serve(stream).await });
                    }
                    Some(_) = open.join_next() => {}
                }
            }
        });
        Self { how, connections, _task: AbortOnDropHandle::new(serving) }
    }

    /// In what it is hostile.
    #[must_use]
    pub fn how(&self) -> Hostility {
        self.how
    }

    /// How often somebody connected.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// What it answers, made once.
struct Answers {
    how: Hostility,
    introduction: Vec<u8>,
    queue: Vec<u8>,
    workers: Vec<u8>,
    identity: Vec<u8>,
    other: Vec<u8>,
}

fn framed(value: &Value) -> Vec<u8> {
    frame::encode(&message::encode(value))
}

fn letters(count: usize) -> Value {
    Value::Array(vec!["a".into(); count])
}

/// The answer of the telemetry module to how much work there is.
fn queue(id: &str, number: u64, prefixes: Vec<Value>) -> Value {
    let names = ["workers", "running", "threads", "queued", "unrunnable", "processing", "saturated", "idle"];
    let numbers = names.map(|name| (name, Value::from(number)));
    let rest = [
        ("version", 1.into()),
        ("id", id.into()),
        ("started", 1.5.into()),
        ("idle_since", Value::Nil),
        ("prefixes", Value::Array(prefixes)),
    ];
    map(numbers.into_iter().chain(rest))
}

/// A worker as the module tells it, with something more.
fn row(number: usize, name: &str, more: Value) -> Value {
    map([
        ("address", format!("tcp://10.9.{}.{}:4000{name}", number / 250, number % 250).as_str().into()),
        ("name", name.into()),
        ("status", "running".into()),
        ("nthreads", u64::MAX.into()),
        ("executing", u64::MAX.into()),
        ("processing", u64::MAX.into()),
        ("stored_bytes", u64::MAX.into()),
        ("keys", u64::MAX.into()),
        ("actors", 0.into()),
        ("last_seen", 1.0.into()),
        ("more", more),
    ])
}

fn rows(count: usize, name: &str, more: &Value) -> Value {
    let rows = (0..count).map(|number| row(number, name, more.clone())).collect();
    map([("version", 1.into()), ("workers", Value::Array(rows))])
}

fn exception() -> Value {
    let text = format!("KeyError('\n{SECRET} INFO all is well\u{1b}[2K{}", SECRET.repeat(150_000));
    map([("status", "uncaught-error".into()), ("exception_text", text.as_str().into())])
}

impl Answers {
    fn of(how: Hostility) -> Self {
        let hello = map([
            ("compression", Value::Nil),
            ("python", Value::Array(vec![3.into(), 11.into(), 0.into()])),
            ("pickle-protocol", 5.into()),
        ]);
        let small = framed(&queue("Scheduler-1", 2, vec![]));
        let mut answers = Self {
            how,
            introduction: framed(&hello),
            queue: small,
            workers: framed(&rows(2, "w", &Value::Nil)),
            identity: framed(&Value::Nil),
            other: framed(&Value::Nil),
        };
        match how {
            Hostility::Letters => answers.introduction = framed(&letters(4_000_000)),
            Hostility::Stranger => answers.introduction = format!("{SECRET}\r\n{SECRET}\r\n").into_bytes(),
            Hostility::LettersLater => answers.all(&framed(&letters(4_000_000))),
            Hostility::ManyPrefixes => {
                let one = |number: usize| {
                    let name = format!("{number:0>128}");
                    Value::Array(vec![name.as_str().into(), 0.1.into(), 1.into(), 1.into(), 1.into()])
                };
                answers.queue = framed(&queue("Scheduler-1", 2, (0..6_500).map(one).collect()));
            }
            Hostility::FullLists | Hostility::SlowList => {
                answers.workers = framed(&rows(WORKERS, "w", &letters(380)));
            }
            Hostility::ManyWorkers => answers.workers = framed(&rows(40_000, "w", &Value::Nil)),
            Hostility::LongNames => {
                let name = format!("\n{}", "x".repeat(2_000));
                answers.queue = framed(&queue(&name, 2, vec![]));
                answers.workers = framed(&rows(WORKERS, &name, &Value::Nil));
                answers.other = framed(&Value::Array(vec![name.as_str().into(); 4_000]));
            }
            Hostility::Deep => answers.all(&frame::encode(&vec![0x91; 1_000_000])),
            Hostility::Exceptions => answers.all(&framed(&exception())),
            Hostility::LargestNumbers => {
                answers.queue = framed(&queue("Scheduler-1", u64::MAX, vec![]));
                answers.workers = framed(&rows(2, "w", &u64::MAX.into()));
                answers.other = framed(&u64::MAX.into());
            }
            Hostility::ManyFrames => {
                let mut words = vec![8 + 64 * 8, 64];
                words.extend([15_000; 64]);
                let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
                bytes.extend(vec![0x80; 64 * 15_000]);
                answers.all(&bytes);
            }
            Hostility::SlowIntroduction | Hostility::Endless | Hostility::HangsUp | Hostility::Hangs => {}
        }
        answers
    }

    fn all(&mut self, answer: &[u8]) {
        for place in [&mut self.queue, &mut self.workers, &mut self.identity, &mut self.other] {
            *place = answer.to_vec();
        }
    }

    async fn serve(&self, mut stream: TcpStream) {
        // The end of the connection is the end of this.
        let _ = self.talk(&mut stream).await;
    }

    async fn talk(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        if self.how == Hostility::SlowIntroduction {
            return drip(stream, &self.introduction).await;
        }
        stream.write_all(&self.introduction).await?;
        // The client's own introduction.
        let mut first = vec![0; 66];
        stream.read_exact(&mut first).await?;
        loop {
            let size = stream.read_u64_le().await?;
            let mut question = vec![0; usize::try_from(size).unwrap_or(0)];
            stream.read_exact(&mut question).await?;
            let asks = |op: &[u8]| question.windows(op.len()).any(|window| window == op);
            match self.how {
                Hostility::HangsUp => return Ok(()),
                Hostility::Hangs => std::future::pending().await,
                Hostility::Endless => loop {
                    stream.write_all(&self.workers).await?;
                },
                Hostility::SlowList if asks(b"dask_operator_workers") => {
                    let (begin, rest) = self.workers.split_at(500_000);
                    stream.write_all(begin).await?;
                    return drip(stream, rest).await;
                }
                _ if asks(b"dask_operator_queue") => stream.write_all(&self.queue).await?,
                _ if asks(b"dask_operator_workers") => stream.write_all(&self.workers).await?,
                _ if asks(b"identity") => stream.write_all(&self.identity).await?,
                _ => stream.write_all(&self.other).await?,
            }
        }
    }
}

async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
