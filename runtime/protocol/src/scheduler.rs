//! Asking a scheduler.

use std::{collections::HashSet, time::Duration};

use rmpv::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Deadlines, Error, Identity, Limits, MessageLimits, QueueState, Step, Workers,
    budget::Room,
    connection::{Connection, Question},
    raw::{Raw, Size},
    tls::{self, TlsConfig},
    value::{self, at, count, text},
    workers::Misread,
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
        Ok(Self::new(Connection::over(stream, limits, deadlines).await?, deadlines))
    }

    fn new(connection: Connection, deadlines: Deadlines) -> Self {
        Self { connection, deadlines, counts_in_identity: true, tells_idleness: None }
    }

    /// Who it is. With workers it costs the scheduler 8 ms for 1,000 of them.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn identity(&mut self, with_workers: bool) -> Result<Identity, Error> {
        if with_workers {
            return self.whole_identity(true).await;
        }
        if self.counts_in_identity {
            let arguments = vec![("n_workers", Value::from(0))];
            match self.read_identity(arguments, self.connection.limits().small, false).await {
                Err(error) if error.is_exception("TypeError") => self.counts_in_identity = false,
                identity => return identity,
            }
        }
        // Dask before 2025.4 lists all workers in any case.
        self.whole_identity(false).await
    }

    async fn whole_identity(&mut self, with_workers: bool) -> Result<Identity, Error> {
        self.read_identity(Vec::new(), self.connection.limits().list(), with_workers).await
    }

    async fn read_identity(
        &mut self,
        arguments: Vec<(&str, Value)>,
        limits: MessageLimits,
        with_workers: bool,
    ) -> Result<Identity, Error> {
        const OP: &str = "identity";
        let most = self.connection.limits().workers();
        let workers = if with_workers { most } else { 0 };
        let question = Question { op: OP, arguments, deadline: self.deadlines.call, limits, workers };
        let understand = move |reply: Raw<'_>| Identity::from_reply(reply, with_workers, most);
        let (identity, room) = self.connection.ask(question, understand).await?;
        let mut identity = identity.map_err(|misread| misread_as(OP, misread, most, "an identity"))?;
        if with_workers {
            identity.workers = identity.workers.within(room);
        }
        Ok(identity)
    }

    /// How much work there is; `None` if the operator's module is not loaded there.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn queue(&mut self) -> Result<Option<QueueState>, Error> {
        let understand = |reply: Raw<'_>| QueueState::from_reply(&reply.value(Size::ANSWER)?);
        let limits = self.connection.limits().small;
        let asked =
            ask_module(&mut self.connection, "dask_operator_queue", self.deadlines, limits, understand);
        Ok(asked.await?.map(|(queue, _)| queue))
    }

    /// What each worker does; `None` if the operator's module is not loaded there. 1.5 ms for 1,000 workers.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn workers(&mut self) -> Result<Option<Workers>, Error> {
        const OP: &str = "dask_operator_workers";
        let (limits, most) = (self.connection.limits().list(), self.connection.limits().workers());
        let understand = move |reply: Raw<'_>| Some(Workers::from_module(reply, most));
        let asked = ask_module(&mut self.connection, OP, self.deadlines, limits, understand);
        let Some((workers, room)) = asked.await? else { return Ok(None) };
        let workers = workers.map_err(|misread| misread_as(OP, misread, most, COMPLETE))?;
        Ok(Some(workers.within(room)))
    }

    /// How many workers Dask's own rule would have.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn adaptive_target(&mut self) -> Result<u64, Error> {
        const OP: &str = "adaptive_target";
        count(&self.word(OP).await?).ok_or_else(|| unsupported(OP, "a number"))
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
        match self.word(OP).await? {
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

    /// Asks for a number or nothing. Whatever is larger stands for itself, as text does.
    async fn word(&mut self, op: &str) -> Result<Value, Error> {
        let (deadline, limits) = (self.deadlines.call, self.connection.limits().small);
        let question = Question { op, arguments: Vec::new(), deadline, limits, workers: 0 };
        let other = || Value::from("something else");
        let (word, _) =
            self.connection.ask(question, move |reply| reply.word().unwrap_or_else(other)).await?;
        Ok(word)
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
        let limits = self.connection.limits().names(n);
        let question = Question { op: OP, arguments, deadline: self.deadlines.call, limits, workers: n };
        let understand = move |reply: Raw<'_>| {
            // A name that no worker can have ranks nobody.
            reply.is_array().then(|| reply.elements().take(n).filter_map(Raw::address).collect::<Vec<_>>())
        };
        let (addresses, _) = self.connection.ask(question, understand).await?;
        addresses.ok_or_else(|| unsupported(OP, "a list of addresses"))
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
        let limits = self.connection.limits().described(addresses.len());
        let question = Question { op: OP, arguments, deadline: self.deadlines.retire, limits, workers: 0 };
        let asked = addresses.to_vec();
        let understand = move |reply: Raw<'_>| {
            (reply.is_map() && !reply.is_opaque()).then(|| {
                let named: HashSet<String> = reply.entries().filter_map(|(key, _)| key.address()).collect();
                // Nobody is retired who was not to be.
                asked.into_iter().filter(|address| named.contains(address)).collect::<Vec<_>>()
            })
        };
        let (retired, _) = self.connection.ask(question, understand).await?;
        retired.ok_or_else(|| unsupported(OP, "a map of workers"))
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

    /// Says how many pods the cluster has now, which bounds lists of its workers.
    pub fn expect_pods(&mut self, pods: usize) {
        self.connection.expect_pods(pods);
    }

    /// How long the decoding of answers has taken since this was asked last.
    pub fn take_decoding_time(&mut self) -> Duration {
        self.connection.take_decoding_time()
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

/// What an answer of the operator's module should have been.
const COMPLETE: &str = "complete telemetry";

/// Asks an operation that only the operator's module has.
pub(crate) async fn ask_module<T: Send + 'static>(
    connection: &mut Connection,
    op: &str,
    deadlines: Deadlines,
    limits: MessageLimits,
    understand: impl FnOnce(Raw<'_>) -> Option<T> + Send + 'static,
) -> Result<Option<(T, Room)>, Error> {
    let workers = connection.limits().workers();
    let question = Question { op, arguments: Vec::new(), deadline: deadlines.call, limits, workers };
    let read = move |reply: Raw<'_>| {
        if reply.is_nil() {
            return Telemetry::None;
        }
        let version = reply.field("version").and_then(Raw::word).as_ref().and_then(count);
        if version == Some(MODULE_VERSION) { Telemetry::Some(understand(reply)) } else { Telemetry::Other }
    };
    let (telemetry, room) = connection.ask(question, read).await?;
    match telemetry {
        Telemetry::None => Ok(None),
        Telemetry::Other => Err(unsupported(op, "version 1 of the telemetry")),
        Telemetry::Some(answer) => {
            answer.map(|answer| Some((answer, room))).ok_or_else(|| unsupported(op, COMPLETE))
        }
    }
}

/// What an operation of the module answers.
enum Telemetry<T> {
    /// Nothing: it is not loaded.
    None,
    /// Something of another version.
    Other,
    Some(Option<T>),
}

fn misread_as(op: &str, misread: Misread, most: usize, expected: &'static str) -> Error {
    match misread {
        Misread::TooMany => {
            Error::TooLarge { step: Step::Call(op.to_owned()), what: "workers", limit: most as u64 }
        }
        Misread::Senseless => unsupported(op, expected),
    }
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
