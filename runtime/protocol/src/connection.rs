//! One connection: a question, its answer, the next question.

use std::{fmt, io, time::Duration};

use rmpv::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::{
    Deadlines, Error, Limits, Step, address, frame,
    handshake::{self, Peer},
    message, value,
};

/// Bytes read ahead: most answers as a whole. Frames that are longer do not go through the buffer. A client keeps many
/// connections that are idle nearly all the time, and the usual 8 kB would be a third of what each of them takes.
const BUFFER: usize = 1024;

/// Anything that carries bytes both ways: TCP, TLS, a forwarded port.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection on which the handshake is done.
pub struct Connection {
    stream: BufReader<Box<dyn Stream>>,
    limits: Limits,
    peer: Peer,
    usable: bool,
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
        let stream = TcpStream::connect(peer).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    within(Step::Connect, deadline, connecting)
        .await?
        .map_err(|source| Error::Connect { peer: peer.to_owned(), source })
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
        Self::over(stream, limits, deadlines.handshake).await
    }

    /// Shakes hands over a given stream.
    ///
    /// # Errors
    /// When the peer does not answer in time, or is no Dask.
    pub async fn over<S>(stream: S, limits: Limits, deadline: Duration) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream: Box<dyn Stream> = Box::new(stream);
        let mut stream = BufReader::with_capacity(BUFFER, stream);
        let peer = within(Step::Handshake, deadline, handshake::exchange(&mut stream, &limits)).await?;
        let peer = peer.map_err(|error| match error {
            handshake::Error::Frame(error) => from_frame(Step::Handshake, error),
            other => Error::Garbled { step: Step::Handshake, source: other.into() },
        })?;
        Ok(Self { stream, limits, peer, usable: true })
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

    /// Calls an operation. An unknown one is answered by nil.
    ///
    /// # Errors
    /// When there is no answer in time, or the answer is an exception (after which the connection stays usable).
    pub async fn call(
        &mut self,
        op: &str,
        arguments: Vec<(&str, Value)>,
        deadline: Duration,
    ) -> Result<Value, Error> {
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
        let exchange = async {
            frame::write(&mut self.stream, &request).await?;
            frame::read(&mut self.stream, &self.limits).await
        };
        let frames = within(step(), deadline, exchange).await?.map_err(|error| from_frame(step(), error))?;
        let reply = match frames.first {
            None => Value::Nil,
            Some(first) => message::decode(&first, &self.limits)
                .map_err(|error| Error::Garbled { step: step(), source: error.into() })?,
        };
        self.usable = true;
        match exception(&reply) {
            Some(exception_text) => Err(Error::Remote { op: op.to_owned(), exception_text }),
            None => Ok(reply),
        }
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

/// The text of the exception that an answer may be.
fn exception(reply: &Value) -> Option<String> {
    let status = value::field(reply, "status").and_then(Value::as_str);
    (status == Some("uncaught-error")).then(|| {
        let text = value::field(reply, "exception_text").and_then(value::text);
        text.unwrap_or_else(|| "exception without text".to_owned())
    })
}

pub(crate) fn from_frame(step: Step, error: frame::Error) -> Error {
    match error {
        frame::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            // An alert of TLS, such as that of a refused certificate: it comes with the first read.
            Error::Garbled { step, source: source.into() }
        }
        frame::Error::Io(source) => Error::Closed { step, source },
        other => Error::Garbled { step, source: other.into() },
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
