//! Asking a worker.

use rmpv::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Deadlines, Error, Limits,
    connection::Connection,
    raw::{Raw, Size},
    scheduler::ask_module,
    tls::{self, TlsConfig},
    value::{count, field},
};

/// What a worker runs at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executing {
    /// Tasks that run, long-running ones included, as in [`crate::WorkerState`].
    pub executing: u64,
    /// Tasks among them that gave their thread back.
    pub long_running: u64,
}

impl Executing {
    fn from_reply(reply: &Value) -> Option<Self> {
        let number_of = |name| field(reply, name).and_then(count);
        Some(Self { executing: number_of("executing")?, long_running: number_of("long_running")? })
    }
}

/// A connection to a worker.
#[derive(Debug)]
pub struct WorkerClient {
    connection: Connection,
    deadlines: Deadlines,
}

impl WorkerClient {
    /// Connects by TCP; a worker's address as the scheduler tells it will do.
    ///
    /// # Errors
    /// When nobody listens there, is no Dask, or takes longer than the deadlines.
    pub async fn connect(host_port: &str, limits: Limits, deadlines: Deadlines) -> Result<Self, Error> {
        let connection = Connection::connect(host_port, limits, deadlines).await?;
        Ok(Self { connection, deadlines })
    }

    /// Connects by TLS.
    ///
    /// # Errors
    /// As [`Self::connect`], and when one side does not trust the other.
    pub async fn connect_tls(
        host_port: &str,
        config: &TlsConfig,
        limits: Limits,
        deadlines: Deadlines,
    ) -> Result<Self, Error> {
        let stream = tls::connect(host_port, config, deadlines.connect).await?;
        Self::over(stream, limits, deadlines).await
    }

    /// Uses a stream that is there already.
    ///
    /// # Errors
    /// When the peer is no Dask, or does not answer in time.
    pub async fn over<S>(stream: S, limits: Limits, deadlines: Deadlines) -> Result<Self, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Connection::over(stream, limits, deadlines).await?;
        Ok(Self { connection, deadlines })
    }

    /// What it runs now, and not at its last heartbeat; `None` if the operator's module is not loaded there.
    ///
    /// # Errors
    /// When it raises an exception, or there is no valid answer in time: then the client is unusable.
    pub async fn executing(&mut self) -> Result<Option<Executing>, Error> {
        let op = "dask_operator_executing";
        let understand = |reply: Raw<'_>| Executing::from_reply(&reply.value(Size::ANSWER)?);
        let limits = self.connection.limits().small;
        let asked = ask_module(&mut self.connection, op, self.deadlines, limits, understand).await?;
        Ok(asked.map(|(executing, _)| executing))
    }

    /// Whether more may be asked.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.connection.is_usable()
    }

    /// Ends the connection.
    pub async fn close(self) {
        self.connection.close(self.deadlines.connect).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::map;

    #[test]
    fn both_numbers_are_needed() {
        let reply = map([("version", 1.into()), ("executing", 2.into()), ("long_running", 1.into())]);
        assert_eq!(Executing::from_reply(&reply), Some(Executing { executing: 2, long_running: 1 }));
        assert_eq!(Executing::from_reply(&map([("executing", 2.into())])), None);
        assert_eq!(
            Executing::from_reply(&map([("executing", (-1).into()), ("long_running", 0.into())])),
            None
        );
    }
}
