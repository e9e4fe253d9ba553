//! Asking a scheduler.

use rmpv::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Deadlines, Error, Identity, Limits, QueueState, WorkerState,
    connection::Connection,
    tls::{self, TlsConfig},
    value::{self, at, count, field, list, text},
    workers,
};

/// How far to retire workers. Dask does not wait for tasks that run: fence, wait until nothing runs, then close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retirement {
    /// No more tasks for them, and their data is copied to others; they stay.
    Fence,
    /// The same, and then they are told to end.
    Close,
}

/// Whether a scheduler has work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Idleness {
    /// It has, or had just before.
    Busy,
    /// It has had none since then, in seconds since the epoch.
    Since(f64),
    /// It cannot tell: older than 2023.3.2.
    Unsupported,
}

/// The last release without a working `check_idle`.
const NO_CHECK_IDLE: [u64; 3] = [2023, 3, 1];

/// The version of the answers of the operator's module.
const MODULE_VERSION: u64 = 1;

/// A connection to a scheduler.
#[derive(Debug)]
pub struct SchedulerClient {
    connection: Connection,
    deadlines: Deadlines,
    /// Whether `identity` takes `n_workers`, unless it has said that it does not.
    counts_in_identity: bool,
    /// Whether `check_idle` works, once it had to be found out.
    tells_idleness: Option<bool>,
}

impl SchedulerClient {
    /// Connects by TCP.
    ///
    /// # Errors
    /// When nobody listens there, is no Dask, or takes longer than the deadlines.
    pub async fn connect(host_port: &str, limits: Limits, deadlines: Deadlines) -> Result<Self, Error> {
        Ok(Self::new(Connection::connect(host_port, limits, deadlines).await?, deadlines))
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
        Ok(Self::new(Connection::over(stream, limits, deadlines.handshake).await?, deadlines))
    }

    fn new(connection: Connection, deadlines: Deadlines) -> Self {
        Self { connection, deadlines, counts_in_identity: true, tells_idleness: None }
    }

    /// Who it is. With workers it costs the scheduler 8 ms for 1,000 of them.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn identity(&mut self, with_workers: bool) -> Result<Identity, Error> {
        const OP: &str = "identity";
        let reply = if with_workers || !self.counts_in_identity {
            self.call(OP, Vec::new()).await?
        } else {
            match self.call(OP, vec![("n_workers", Value::from(0))]).await {
                Err(error) if error.is_exception("TypeError") => {
                    self.counts_in_identity = false;
                    self.call(OP, Vec::new()).await?
                }
                reply => reply?,
            }
        };
        Identity::from_reply(&reply, with_workers).ok_or_else(|| unsupported(OP, "an identity"))
    }

    /// How much work there is; `None` if the operator's module is not loaded there.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn queue(&mut self) -> Result<Option<QueueState>, Error> {
        ask_module(&mut self.connection, "dask_operator_queue", self.deadlines, QueueState::from_reply).await
    }

    /// What each worker does; `None` if the operator's module is not loaded there. 1.5 ms for 1,000 workers.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn workers(&mut self) -> Result<Option<Vec<WorkerState>>, Error> {
        ask_module(&mut self.connection, "dask_operator_workers", self.deadlines, workers::from_module).await
    }

    /// How many workers Dask's own rule would have.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn adaptive_target(&mut self) -> Result<u64, Error> {
        const OP: &str = "adaptive_target";
        count(&self.call(OP, Vec::new()).await?).ok_or_else(|| unsupported(OP, "a number"))
    }

    /// Since when it has had no work. The first call after any work says busy.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn check_idle(&mut self) -> Result<Idleness, Error> {
        const OP: &str = "check_idle";
        if self.tells_idleness == Some(false) {
            return Ok(Idleness::Unsupported);
        }
        match self.call(OP, Vec::new()).await? {
            Value::Nil => {
                let tells = match self.tells_idleness {
                    Some(tells) => tells,
                    None => self.version().await?.is_none_or(|version| version > NO_CHECK_IDLE),
                };
                self.tells_idleness = Some(tells);
                Ok(if tells { Idleness::Busy } else { Idleness::Unsupported })
            }
            reply => {
                self.tells_idleness = Some(true);
                let since = value::number(&reply).ok_or_else(|| unsupported(OP, "a time or nil"))?;
                Ok(Idleness::Since(since))
            }
        }
    }

    /// The release of `distributed` it runs, as far as it says one.
    async fn version(&mut self) -> Result<Option<[u64; 3]>, Error> {
        let versions = self.call("versions", Vec::new()).await?;
        let version = at(&versions, &["packages", "distributed"]).and_then(text);
        Ok(version.as_deref().and_then(parse_version))
    }

    /// The addresses of up to `n` workers that can go, those first that cost the least. Workers that hold a long-running
    /// task, or take part in a shuffle, are left out.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn workers_to_close(&mut self, n: usize) -> Result<Vec<String>, Error> {
        const OP: &str = "workers_to_close";
        if n == 0 {
            return Ok(Vec::new());
        }
        let arguments = vec![("n", Value::from(n)), ("attribute", "address".into())];
        let reply = self.call(OP, arguments).await?;
        let addresses = list(&reply).map(|addresses| addresses.iter().map(text).collect::<Option<Vec<_>>>());
        addresses.flatten().ok_or_else(|| unsupported(OP, "a list of addresses"))
    }

    /// Retires workers and returns those of them that it confirms. A worker is missing that is unknown, holds an actor,
    /// or has data for which there is no other place; such a one goes on running, once it has heard of it itself. Do not
    /// ask again before its status says so: Dask would take the fence for its usual status and leave it there.
    ///
    /// # Errors
    /// As [`Self::call`]; and if no address is given, as Dask would then choose workers itself.
    pub async fn retire(&mut self, addresses: &[String], how: Retirement) -> Result<Vec<String>, Error> {
        const OP: &str = "retire_workers";
        if addresses.is_empty() {
            return Err(Error::NoWorkers { op: OP.to_owned() });
        }
        let close = how == Retirement::Close;
        let workers = addresses.iter().map(|address| Value::from(address.as_str())).collect();
        let arguments = vec![
            ("workers", Value::Array(workers)),
            ("close_workers", close.into()),
            ("remove", close.into()),
        ];
        let reply = self.connection.call(OP, arguments, self.deadlines.retire).await?;
        match &reply {
            Value::Map(retired) if !value::is_opaque(&reply) => {
                Ok(retired.iter().filter_map(|(address, _)| text(address)).collect())
            }
            _ => Err(unsupported(OP, "a map of workers")),
        }
    }

    /// Writes a line into the scheduler's log of events, which users see in `Client.get_events`.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn log_event(&mut self, topic: &str, message: &str) -> Result<(), Error> {
        let arguments = vec![("topic", topic.into()), ("msg", message.into())];
        self.call("log_event", arguments).await.map(drop)
    }

    /// Calls any operation. One that it does not have is answered by nil.
    ///
    /// # Errors
    /// When it raises an exception, or there is no valid answer in time: then the client is unusable.
    pub async fn call(&mut self, op: &str, arguments: Vec<(&str, Value)>) -> Result<Value, Error> {
        let reply = self.connection.call(op, arguments, self.deadlines.call).await?;
        if value::is_opaque(&reply) { Err(unsupported(op, "something without pickle")) } else { Ok(reply) }
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

/// Asks an operation that only the operator's module has.
pub(crate) async fn ask_module<T>(
    connection: &mut Connection,
    op: &str,
    deadlines: Deadlines,
    understand: impl FnOnce(&Value) -> Option<T>,
) -> Result<Option<T>, Error> {
    let reply = connection.call(op, Vec::new(), deadlines.call).await?;
    if reply.is_nil() {
        return Ok(None);
    }
    if field(&reply, "version").and_then(count) != Some(MODULE_VERSION) {
        return Err(unsupported(op, "version 1 of the telemetry"));
    }
    understand(&reply).map(Some).ok_or_else(|| unsupported(op, "complete telemetry"))
}

fn unsupported(op: &str, expected: &'static str) -> Error {
    Error::Unsupported { op: op.to_owned(), expected }
}

/// The first three numbers of a version; what is not a number ends it.
fn parse_version(version: &str) -> Option<[u64; 3]> {
    let mut numbers = version.split(['.', '+']).map_while(|part| part.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next().unwrap_or_default()])
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
