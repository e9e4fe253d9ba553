//! What a fake scheduler does with its connections, and the faults that can be scripted.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use rmpv::Value;
use tokio::{
    io::{AsyncWriteExt, BufReader, split},
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::sleep,
};

use super::{
    answers::{answer, exception, register, status_word},
    room,
    state::State,
};
use crate::{
    MessageLimits, WorkerStatus, frame, handshake,
    message::{self, map},
    value::{field, text},
};

/// What goes wrong instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is ever answered; the connection stays open.
    Hang,
    /// Noise is answered.
    Garbage,
    /// The connection is closed.
    Close,
    /// An exception with this text is raised.
    Raise(String),
}

/// A fault for the next calls of an operation.
#[derive(Debug)]
struct Script {
    op: String,
    fault: Fault,
    times: u32,
}

#[derive(Debug)]
struct Inner {
    state: State,
    scripts: Vec<Script>,
    /// The connections on which workers wait for orders.
    streams: HashMap<String, UnboundedSender<Value>>,
}

/// What all connections of one fake scheduler share.
#[derive(Debug, Clone)]
pub(super) struct Shared(Arc<Mutex<Inner>>);

/// Seconds since the epoch.
pub(super) fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Stands for the handshake among operations.
pub(super) const HANDSHAKE: &str = "handshake";

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(Inner { state, scripts: Vec::new(), streams: HashMap::new() })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.lock().state)
    }

    pub(super) fn inject(&self, op: &str, fault: Fault, times: u32) {
        self.lock().scripts.push(Script { op: op.to_owned(), fault, times });
    }

    pub(super) fn mend(&self) {
        self.lock().scripts.clear();
    }

    pub(super) fn drop_streams(&self) {
        self.lock().streams.clear();
    }

    fn fault(&self, op: &str) -> Option<Fault> {
        let mut inner = self.lock();
        let script = inner.scripts.iter_mut().find(|script| script.op == op && script.times > 0)?;
        script.times -= 1;
        Some(script.fault.clone())
    }

    /// Answers, and tells the workers what it means for them.
    fn answer(&self, request: &Value) -> Value {
        let mut inner = self.lock();
        let Inner { state, streams, .. } = &mut *inner;
        if field(request, "op").and_then(Value::as_str) != Some("retire_workers") {
            return answer(state, request, now());
        }
        let statuses = |state: &State| -> HashMap<String, WorkerStatus> {
            state.workers.iter().map(|worker| (worker.address.clone(), worker.status)).collect()
        };
        let before = statuses(state);
        let reply = answer(state, request, now());
        let after = statuses(state);
        for (address, status) in before {
            match after.get(&address) {
                Some(now) if *now != status => {
                    let order =
                        map([("op", "worker-status-change".into()), ("status", status_word(*now).into())]);
                    streams.get(&address).map(|stream| stream.send(order));
                }
                Some(_) => {}
                None => {
                    let order = map([("op", "close".into()), ("reason", "scheduler-remove-worker".into())]);
                    streams.remove(&address).map(|stream| stream.send(order));
                }
            }
        }
        reply
    }

    fn register(&self, request: &Value) -> (Value, Option<(String, UnboundedReceiver<Value>)>) {
        let mut inner = self.lock();
        let reply = register(&mut inner.state, request, now());
        if field(&reply, "status").and_then(Value::as_str) != Some("OK") {
            return (reply, None);
        }
        let address = field(request, "address").and_then(text).unwrap_or_default();
        let (orders, waiting) = unbounded_channel();
        inner.streams.insert(address.clone(), orders);
        (reply, Some((address, waiting)))
    }
}

/// Serves all who connect, each in a task of its own. Dropped, it ends them with it.
pub(super) async fn accept_all<F>(listener: TcpListener, mut serve: impl FnMut(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    // No more files may be open: at once it would be the same.
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                connections.spawn(serve(stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection to its end. What the peer sends is not to be trusted more than elsewhere.
pub(super) async fn serve(stream: TcpStream, shared: Shared) -> Result<(), frame::Error> {
    let limits = MessageLimits::SMALL;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    match shared.fault(HANDSHAKE) {
        Some(Fault::Hang) => pending().await,
        Some(Fault::Garbage) => return noise(&mut stream).await,
        Some(_) => return Ok(()),
        None => {}
    }
    if handshake::exchange(&mut stream, &mut room()).await.is_err() {
        return Ok(());
    }
    loop {
        let frames = frame::read(&mut stream, &limits, &mut room()).await?;
        let Some(Ok(request)) = frames.first.map(|first| message::decode(&first, &limits)) else {
            return Ok(());
        };
        let op = field(&request, "op").and_then(text).unwrap_or_default();
        let reply = match shared.fault(&op) {
            Some(Fault::Hang) => pending().await,
            Some(Fault::Garbage) => return noise(&mut stream).await,
            Some(Fault::Close) => return Ok(()),
            Some(Fault::Raise(text)) => exception(&text),
            None if op == "close" => return Ok(()),
            None if op == "register-worker" => {
                let (reply, accepted) = shared.register(&request);
                frame::write(&mut stream, &message::encode(&reply)).await?;
                match accepted {
                    Some((address, orders)) => return command(stream, &shared, &address, orders).await,
                    None => continue,
                }
            }
            None => shared.answer(&request),
        };
        if field(&request, "reply").and_then(Value::as_bool) != Some(false) {
            frame::write(&mut stream, &message::encode(&reply)).await?;
        }
    }
}

async fn noise(stream: &mut BufReader<TcpStream>) -> Result<(), frame::Error> {
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await?;
    // Closing at once could overtake the noise.
    pending().await
}

/// Sends orders to a worker for as long as it listens and is a member; it is lost when it goes by itself.
async fn command(
    stream: BufReader<TcpStream>,
    shared: &Shared,
    address: &str,
    mut orders: UnboundedReceiver<Value>,
) -> Result<(), frame::Error> {
    let limits = MessageLimits::SMALL;
    let (mut from, mut to) = split(stream);
    let send = async {
        while let Some(order) = orders.recv().await {
            frame::write(&mut to, &message::encode(&Value::Array(vec![order]))).await?;
        }
        Ok(())
    };
    let listen = async {
        loop {
            frame::read(&mut from, &limits, &mut room()).await?;
        }
    };
    let result = tokio::select! {
        result = send => result,
        result = listen => result,
    };
    shared.with(|state| state.remove(address));
    shared.lock().streams.remove(address);
    result
}
