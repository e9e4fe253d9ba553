//! A worker that computes nothing: it registers, sends heartbeats and obeys when told to close.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rmpv::Value;
use tokio::{
    io::BufReader,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use super::{
    answers::status_word,
    metrics, room,
    server::{accept_all, now},
    state::Worker,
};
use crate::{
    Deadlines, Error, Limits, MessageLimits, Step, WorkerStatus,
    connection::{Connection, dial, from_frame, within},
    frame, handshake,
    message::{self, map},
    value::{field, list, number, text},
};

/// What a fake worker is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeWorkerConfig {
    /// Its name, which must be the only one of its kind.
    pub name: String,
    /// An address that nobody listens on, as for thousands of workers; without one it listens on a port of this machine
    /// and answers `dask_operator_executing` there.
    pub address: Option<String>,
    /// Threads.
    pub nthreads: u64,
    /// Memory in bytes.
    pub memory_limit: u64,
    /// Waits for its scheduler.
    pub deadlines: Deadlines,
}

impl FakeWorkerConfig {
    /// One with a thread and 4 GiB that listens.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            address: None,
            nthreads: 1,
            memory_limit: 4 << 30,
            deadlines: Deadlines::default(),
        }
    }
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Worker>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Worker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fake worker that has joined a scheduler. Dropped, it is gone without a word, as if killed.
#[derive(Debug)]
pub struct FakeWorker {
    address: String,
    shared: Shared,
    closed: watch::Receiver<bool>,
    _tasks: JoinSet<()>,
}

impl FakeWorker {
    /// Joins a scheduler, real or fake. It takes two sockets, with a fake scheduler in the same process four: mind the
    /// limit of open files with many of them.
    ///
    /// # Errors
    /// When the scheduler cannot be reached, or does not want it.
    pub async fn join(scheduler: &str, config: FakeWorkerConfig) -> Result<Self, Error> {
        let mut tasks = JoinSet::new();
        let (listener, address) = if let Some(address) = config.address.clone() {
            (None, address)
        } else {
            let (listener, address) = listen().await?;
            (Some(listener), address)
        };
        let worker = Worker { name: config.name.clone(), nthreads: config.nthreads, ..Worker::new(&address) };
        let shared = Shared(Arc::new(Mutex::new(worker)));
        if let Some(listener) = listener {
            let asked = shared.clone();
            tasks.spawn(accept_all(listener, move |stream| answer(stream, asked.clone())));
        }
        let (close, closed) = watch::channel(false);
        let (orders, interval) = register(scheduler, &shared, &config).await?;
        let heart = Connection::connect(scheduler, Limits::default(), config.deadlines).await?;
        let life = live(orders, heart, shared.clone(), interval, config.deadlines);
        tasks.spawn(async move {
            life.await;
            close.send_replace(true);
        });
        Ok(Self { address, shared, closed, _tasks: tasks })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Looks at what it does, or changes it: seen at once by those who ask itself, and with the next heartbeat by those
    /// who ask its scheduler.
    pub fn with<T>(&self, look: impl FnOnce(&mut Worker) -> T) -> T {
        look(&mut self.shared.lock())
    }

    /// Whether it has been told to close, or has lost its scheduler.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until it is closed.
    pub async fn closed(&mut self) {
        // Its task ends after that only.
        let _ = self.closed.wait_for(|closed| *closed).await;
    }
}

async fn listen() -> Result<(TcpListener, String), Error> {
    let bind = async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("tcp://{}", listener.local_addr()?);
        Ok((listener, address))
    };
    bind.await.map_err(|source: io::Error| Error::Connect { peer: "127.0.0.1:0".to_owned(), source })
}

/// Asks to be taken in. From then on the connection brings orders; the number is the interval of heartbeats.
async fn register(
    scheduler: &str,
    shared: &Shared,
    config: &FakeWorkerConfig,
) -> Result<(BufReader<TcpStream>, Duration), Error> {
    const OP: &str = "register-worker";
    let limits = MessageLimits::SMALL;
    let mut stream = BufReader::new(dial(scheduler, config.deadlines.connect).await?);
    let mut room = room();
    let shaking = handshake::exchange(&mut stream, &mut room);
    within(Step::Handshake, config.deadlines.handshake, shaking)
        .await?
        .map_err(|error| Error::Garbled { step: Step::Handshake, source: error.into() })?;
    let request = message::encode(&registration(&shared.lock(), config));
    let step = || Step::Call(OP.to_owned());
    let exchange = async {
        frame::write(&mut stream, &request).await?;
        frame::read(&mut stream, &limits, &mut room).await
    };
    let frames = within(step(), config.deadlines.call, exchange)
        .await?
        .map_err(|error| from_frame(step(), error, config.deadlines.transfer))?;
    let reply = message::decode(&frames.first.unwrap_or_default(), &limits)
        .map_err(|error| Error::Garbled { step: step(), source: error.into() })?;
    if field(&reply, "status").and_then(Value::as_str) != Some("OK") {
        let message = field(&reply, "message").or_else(|| field(&reply, "exception_text")).and_then(text);
        return Err(Error::Remote { op: OP.to_owned(), exception_text: message.unwrap_or_default() });
    }
    Ok((stream, interval(&reply)))
}

fn interval(reply: &Value) -> Duration {
    let seconds = field(reply, "heartbeat-interval").and_then(number).unwrap_or(1.0);
    Duration::try_from_secs_f64(seconds.clamp(0.05, 60.0)).unwrap_or(Duration::from_secs(1))
}

fn registration(worker: &Worker, config: &FakeWorkerConfig) -> Value {
    let time = now();
    message::request(
        "register-worker",
        false,
        vec![
            ("address", worker.address.as_str().into()),
            ("resolve_address", false.into()),
            ("status", status_word(worker.status).into()),
            ("nthreads", worker.nthreads.into()),
            ("name", worker.name.as_str().into()),
            ("now", time.into()),
            ("resources", map([])),
            ("memory_limit", config.memory_limit.into()),
            ("local_directory", "/tmp".into()),
            ("services", map([])),
            ("nanny", Value::Nil),
            ("pid", 1.into()),
            ("versions", map([("packages", map([]))])),
            ("metrics", metrics::of(worker)),
            ("extra", map([])),
            ("stimulus_id", format!("worker-connect-{time}").into()),
            ("server_id", format!("Worker-{}", worker.name).into()),
        ],
    )
}

/// Until it is told to close or loses its scheduler.
async fn live(
    mut orders: BufReader<TcpStream>,
    mut heart: Connection,
    shared: Shared,
    mut interval: Duration,
    deadlines: Deadlines,
) {
    let obey = async {
        while let Ok(frames) = frame::read(&mut orders, &MessageLimits::SMALL, &mut room()).await {
            let Some(Ok(message)) = frames.first.map(|first| message::decode(&first, &MessageLimits::SMALL))
            else {
                return;
            };
            for order in list(&message).unwrap_or_default() {
                match field(order, "op").and_then(Value::as_str) {
                    Some("close") => return,
                    Some("worker-status-change") => shared.lock().status = status_of(order),
                    _ => {}
                }
            }
        }
    };
    let beat = async {
        loop {
            sleep(interval).await;
            let arguments = {
                let worker = shared.lock();
                vec![
                    ("address", worker.address.as_str().into()),
                    ("resolve_address", false.into()),
                    ("now", now().into()),
                    ("metrics", metrics::of(&worker)),
                    ("executing", map([])),
                    ("extensions", map([])),
                ]
            };
            let Ok(reply) = heart.call("heartbeat_worker", arguments, deadlines.call).await else { return };
            if field(&reply, "status").and_then(Value::as_str) == Some("missing") {
                return;
            }
            interval = self::interval(&reply);
        }
    };
    tokio::select! {
        () = obey => {}
        () = beat => {}
    }
    shared.lock().status = WorkerStatus::Closing;
}

fn status_of(order: &Value) -> WorkerStatus {
    match field(order, "status").and_then(text).as_deref() {
        Some("running") => WorkerStatus::Running,
        Some("paused") => WorkerStatus::Paused,
        Some("closing_gracefully") => WorkerStatus::ClosingGracefully,
        _ => WorkerStatus::Other,
    }
}

/// Answers one who asks the worker itself.
async fn answer(stream: TcpStream, shared: Shared) {
    let limits = MessageLimits::SMALL;
    let mut stream = BufReader::new(stream);
    if handshake::exchange(&mut stream, &mut room()).await.is_err() {
        return;
    }
    while let Ok(frames) = frame::read(&mut stream, &limits, &mut room()).await {
        let Some(Ok(request)) = frames.first.map(|first| message::decode(&first, &limits)) else { return };
        let reply = match field(&request, "op").and_then(Value::as_str) {
            Some("close") => return,
            Some("dask_operator_executing") => {
                let worker = shared.lock();
                map([
                    ("version", 1.into()),
                    ("executing", (worker.executing + worker.long_running).into()),
                    ("long_running", worker.long_running.into()),
                ])
            }
            Some("identity") => {
                map([("type", "Worker".into()), ("id", shared.lock().address.as_str().into())])
            }
            _ => Value::Nil,
        };
        if frame::write(&mut stream, &message::encode(&reply)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
