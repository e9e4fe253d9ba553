//! One connection: a question, its answer, the next question.

use std::{
    fmt, io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rmpv::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};

use crate::{
    Deadlines, Error, Limits, MessageLimits, Step, address,
    budget::Room,
    frame,
    handshake::{self, Peer},
    message,
    raw::{Raw, Size},
};

/// Bytes read ahead: most answers as a whole. Frames that are longer do not go through the buffer. A client keeps many
/// connections that are idle nearly all the time, and the usual 8 kB would be a third of what each of them takes.
const BUFFER: usize = 1024;

/// Bytes that the kernel may hold for a connection before they are read; it doubles the number. They count against the
/// memory of a container, and the usual 6 MB for each of many peers that send at once would be more than it has. Enough
/// for 60 MB/s where a round trip takes 2 ms.
const RECEIVE: u32 = 64 << 10;

/// Messages of more bytes are decoded one at a time, and not by the threads that everything else depends on.
const LARGE: usize = 64 << 10;

/// A message of msgpack's nil.
const NIL: u8 = 0xc0;

/// Anything that carries bytes both ways: TCP, TLS, a forwarded port.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection on which the handshake is done.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    limits: Limits,
    transfer: Duration,
    peer: Peer,
    usable: bool,
    decoding: Duration,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("peer", &self.peer)
            .field("usable", &self.usable)
            .finish_non_exhaustive()
    }
}

/// Opens a TCP connection for small messages. Dask's form of an address (`tcp://host:port`) will do too.
///
/// # Errors
/// When nobody listens there, or not within the deadline.
pub async fn dial(host_port: &str, deadline: Duration) -> Result<TcpStream, Error> {
    let peer = address::host_port(host_port);
    let connecting = async {
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        // An IP address is not looked up.
        for address in lookup_host(peer).await? {
            match open(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    };
    within(Step::Connect, deadline, connecting)
        .await?
        .map_err(|source| Error::Connect { peer: peer.to_owned(), source })
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(RECEIVE)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// Ends a wait at its deadline.
pub(crate) async fn within<T>(
    step: Step,
    deadline: Duration,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    timeout(deadline, work).await.map_err(|_| Error::Timeout { step, after: deadline })
}

impl Connection {
    /// Connects by TCP and shakes hands.
    ///
    /// # Errors
    /// When one of the two fails or takes too long.
    pub async fn connect(host_port: &str, limits: Limits, deadlines: Deadlines) -> Result<Self, Error> {
        let stream = dial(host_port, deadlines.connect).await?;
        Self::over(stream, limits, deadlines).await
    }

    /// Shakes hands over a given stream.
    ///
    /// # Errors
    /// When the peer does not answer in time, or is no Dask.
    pub async fn over<S>(stream: S, limits: Limits, deadlines: Deadlines) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream: Box<dyn Stream> = Box::new(stream);
        let mut stream = BufReader::with_capacity(BUFFER, stream);
        let mut room = limits.budget.room(deadlines.transfer);
        let shaking = handshake::exchange(&mut stream, &mut room);
        let peer = within(Step::Handshake, deadlines.handshake, shaking).await?;
        let garbled = |source| Error::Garbled { step: Step::Handshake, source };
        let peer = peer.map_err(|error| match error {
            // Whoever has more to say first is none of Dask's.
            handshake::Error::Frame(error @ frame::Error::TooLarge { .. }) => garbled(error.into()),
            handshake::Error::Frame(error) => from_frame(Step::Handshake, error, deadlines.transfer),
            other => garbled(other.into()),
        })?;
        Ok(Self {
            stream,
            limits,
            transfer: deadlines.transfer,
            peer,
            usable: true,
            decoding: Duration::ZERO,
        })
    }

    /// What the peer said of itself.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether more may be asked: not after a timeout, a broken stream, a garbled answer or a dropped call.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.usable
    }

    /// What this connection allows its peer.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Says how many pods the cluster has now, which bounds lists of its workers.
    pub(crate) fn expect_pods(&mut self, pods: usize) {
        self.limits.pods = pods;
    }

    /// Calls an operation, the answer of which is small. An unknown one is answered by nil.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn call(
        &mut self,
        op: &str,
        arguments: Vec<(&str, Value)>,
        deadline: Duration,
    ) -> Result<Value, Error> {
        let limits = self.limits.small;
        // It was within the limits, so it is always built.
        let build = |reply: Raw<'_>| reply.value(Size::ANSWER).unwrap_or(Value::Nil);
        Ok(self.ask(Question { op, arguments, deadline, limits, workers: 0 }, build).await?.0)
    }

    /// Asks, and understands the answer without keeping it. Gives what was understood, and the room it takes.
    ///
    /// # Errors
    /// When there is no answer in time, or the answer is an exception (after which the connection stays usable).
    pub(crate) async fn ask<T: Send + 'static>(
        &mut self,
        question: Question<'_>,
        understand: impl FnOnce(Raw<'_>) -> T + Send + 'static,
    ) -> Result<(T, Room), Error> {
        let Question { op, arguments, deadline, limits, workers } = question;
        let step = || Step::Call(op.to_owned());
        if !self.usable {
            return Err(Error::Unusable { op: op.to_owned() });
        }
        // Set back at the end only, so that a call that is dropped half-way leaves it so.
        self.usable = false;
        if !self.stream.buffer().is_empty() {
            return Err(Error::Garbled { step: step(), source: "an answer before the question".into() });
        }
        let request = message::encode(&message::request(op, true, arguments));
        let mut room = self.limits.budget.room(self.transfer);
        let exchange = async {
            frame::write(&mut self.stream, &request).await?;
            // A message without frames means nil, as the answer of an unknown operation.
            let bytes =
                frame::read(&mut self.stream, &limits, &mut room).await?.first.unwrap_or_else(|| vec![NIL]);
            if bytes.len() <= LARGE {
                return Ok((Read::from(&bytes, &limits, understand), room));
            }
            // All that is needed before it is one's turn, so that whoever's turn it is waits for nobody.
            room.cover(bytes.len() + Limits::made_of(bytes.len(), workers)).await?;
            let turn = self.limits.budget.decoding().await;
            let work = move || {
                let read = Read::from(&bytes, &limits, understand);
                drop((bytes, turn));
                (read, room)
            };
            tokio::task::spawn_blocking(work).await.map_err(|error| io::Error::other(error).into())
        };
        let (read, room) = within(step(), deadline, exchange)
            .await?
            .map_err(|error| from_frame(step(), error, self.transfer))?;
        self.decoding += read.took;
        let answer = read.answer.map_err(|error| match error {
            message::Error::TooMany(limit) => Error::TooLarge { step: step(), what: "values", limit },
            error => Error::Garbled { step: step(), source: error.into() },
        })?;
        self.usable = true;
        match answer {
            Answer::Understood(value) => Ok((value, room)),
            Answer::Exception(exception_text) => Err(Error::Remote { op: op.to_owned(), exception_text }),
        }
    }

    /// How long the decoding of answers has taken since this was asked last.
    pub(crate) fn take_decoding_time(&mut self) -> Duration {
        std::mem::take(&mut self.decoding)
    }

    /// Says goodbye, so that the peer's log stays clean. Ends within the deadline whether it hears or not.
    pub async fn close(mut self, deadline: Duration) {
        let goodbye = async {
            if self.usable {
                let message = message::encode(&message::request("close", false, Vec::new()));
                frame::write(&mut self.stream, &message).await?;
            }
            self.stream.shutdown().await?;
            Ok::<(), frame::Error>(())
        };
        // Dropping the stream is as good for us.
        let _ = timeout(deadline, goodbye).await;
    }
}

/// What is asked, and how much may be answered.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) op: &'a str,
    pub(crate) arguments: Vec<(&'a str, Value)>,
    pub(crate) deadline: Duration,
    pub(crate) limits: MessageLimits,
    /// Workers of which something is kept, at most.
    pub(crate) workers: usize,
}

/// What came of an answer.
struct Read<T> {
    answer: Result<Answer<T>, message::Error>,
    took: Duration,
}

enum Answer<T> {
    Understood(T),
    /// With its text.
    Exception(String),
}

impl<T> Read<T> {
    fn from(bytes: &[u8], limits: &MessageLimits, understand: impl FnOnce(Raw<'_>) -> T) -> Self {
        let begun = Instant::now();
        let answer = Raw::checked(bytes, limits).map(|reply| match exception(reply) {
            Some(text) => Answer::Exception(text),
            None => Answer::Understood(understand(reply)),
        });
        Self { answer, took: begun.elapsed() }
    }
}

/// The text of the exception that an answer may be.
fn exception(reply: Raw<'_>) -> Option<String> {
    reply.field("status").filter(|status| status.is_text("uncaught-error"))?;
    let text = reply.field("exception_text").and_then(Raw::text);
    Some(text.unwrap_or_else(|| "exception without text".to_owned()))
}

pub(crate) fn from_frame(step: Step, error: frame::Error, transfer: Duration) -> Error {
    match error {
        frame::Error::TooSlow => Error::TooSlow { step, after: transfer },
        frame::Error::TooLarge { what, limit } => Error::TooLarge { step, what, limit },
        frame::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            // An alert of TLS, such as that of a refused certificate: it comes with the first read.
            Error::Garbled { step, source: source.into() }
        }
        frame::Error::Io(source) => Error::Closed { step, source },
        error @ frame::Error::Malformed(_) => Error::Garbled { step, source: error.into() },
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
