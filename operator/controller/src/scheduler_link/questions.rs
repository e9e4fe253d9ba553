//! One round of questions to a scheduler, by whichever operations it has.

use dask_protocol::{Error, Identity, Idleness as DaskIdleness, QueueState, Workers};
use jiff::Timestamp;

use super::connect::Connection;
use super::view::{Idleness, Source};

/// What to ask beside the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Each worker, and the ranking of those to close.
    pub(super) list: bool,
    pub(super) adaptive_target: bool,
    pub(super) idleness: bool,
}

/// What the scheduler said.
#[derive(Debug, PartialEq)]
pub(super) struct Answers {
    pub(super) id: String,
    pub(super) started: Option<Timestamp>,
    pub(super) source: Source,
    pub(super) workers: usize,
    pub(super) threads: usize,
    pub(super) queued: Option<usize>,
    pub(super) unrunnable: Option<usize>,
    /// Tasks are queued, assigned or cannot run; `None` if this Dask does not tell.
    pub(super) busy: Option<bool>,
    pub(super) adaptive_target: Option<u64>,
    pub(super) idleness: Idleness,
    /// Each worker, and the addresses of those to close. The largest of the answers: asked for last, so that it is not
    /// kept while others are waited for.
    pub(super) list: Option<(Workers, Option<Vec<String>>)>,
}

/// Asks. An error means that nothing is known; one of an optional question leaves out its answer.
pub(super) async fn ask(connection: &mut Connection, wanted: Wanted) -> Result<Answers, Error> {
    let queue = telemetry(connection).await?;
    let client = &mut connection.client;
    let adaptive_target =
        if wanted.adaptive_target { optional(client.adaptive_target().await)? } else { None };
    let idleness = match if wanted.idleness { optional(client.check_idle().await)? } else { None } {
        Some(DaskIdleness::Busy) => Idleness::Busy,
        Some(DaskIdleness::Since(since)) => time(since).map_or(Idleness::Unknown, Idleness::Since),
        Some(DaskIdleness::Unsupported) | None => Idleness::Unknown,
    };
    let mut answers = match queue {
        Some(queue) => {
            let mut answers = by_telemetry(queue);
            if wanted.list {
                answers.list = Some(match optional(client.workers().await)?.flatten() {
                    Some(workers) => (workers, None),
                    None => (client.identity(true).await?.workers, None),
                });
            }
            answers
        }
        None => by_identity(client.identity(wanted.list).await?, wanted.list),
    };
    if let Some((workers, ranking)) = &mut answers.list {
        *ranking = optional(client.workers_to_close(workers.len()).await)?;
    }
    Ok(Answers { adaptive_target, idleness, ..answers })
}

/// The telemetry module's word; `None` if it is not loaded, or another version than is understood here.
async fn telemetry(connection: &mut Connection) -> Result<Option<QueueState>, Error> {
    if connection.telemetry == Some(false) {
        return Ok(None);
    }
    let queue = optional(connection.client.queue().await)?.flatten();
    connection.telemetry = Some(queue.is_some());
    Ok(queue)
}

fn by_telemetry(queue: QueueState) -> Answers {
    Answers {
        started: queue.started.and_then(time),
        source: Source::Telemetry,
        workers: queue.workers,
        threads: queue.threads,
        queued: Some(queue.queued),
        unrunnable: Some(queue.unrunnable),
        busy: Some([queue.queued, queue.unrunnable, queue.processing].iter().any(|tasks| *tasks > 0)),
        adaptive_target: None,
        idleness: Idleness::Unknown,
        list: None,
        id: queue.id,
    }
}

fn by_identity(identity: Identity, list: bool) -> Answers {
    let threads = || identity.workers.iter().map(|worker| worker.nthreads).sum::<u64>();
    Answers {
        started: identity.started.and_then(time),
        source: Source::Standard,
        workers: identity.worker_count.unwrap_or(identity.workers.len()),
        threads: identity.threads.unwrap_or_else(|| usize::try_from(threads()).unwrap_or(usize::MAX)),
        queued: None,
        unrunnable: None,
        busy: None,
        adaptive_target: None,
        idleness: Idleness::Unknown,
        list: list.then_some((identity.workers, None)),
        id: identity.id,
    }
}

/// An exception or an answer of another form, on a connection that goes on, is no answer.
fn optional<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Remote { .. } | Error::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A time of Python's, in seconds since the epoch.
fn time(seconds: f64) -> Option<Timestamp> {
    let duration = jiff::SignedDuration::try_from_secs_f64(seconds).ok()?;
    Timestamp::from_duration(duration).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_time_can_be_is_none() {
        assert_eq!(time(1_800_000_000.5).unwrap().as_millisecond(), 1_800_000_000_500);
        assert!(time(f64::NAN).is_none() && time(1e300).is_none());
    }

    #[test]
    fn only_a_broken_connection_ends_a_round() {
        let remote =
            Error::Remote { op: "adaptive_target".to_owned(), exception_text: "KeyError(1)".to_owned() };
        assert_eq!(optional::<u8>(Err(remote)).unwrap(), None);
        assert_eq!(optional(Ok(1)).unwrap(), Some(1));
        let unusable = Error::Unusable { op: "x".to_owned() };
        assert!(optional::<u8>(Err(unusable)).is_err());
    }

    #[test]
    fn any_task_that_is_not_done_is_work() {
        let queue = |queued, unrunnable, processing| QueueState {
            id: "s".to_owned(),
            started: Some(1.0),
            workers: 2,
            running: 2,
            threads: 4,
            queued,
            unrunnable,
            processing,
            saturated: 0,
            idle: 0,
            idle_since: None,
            prefixes: vec![],
        };
        assert_eq!(by_telemetry(queue(0, 0, 0)).busy, Some(false));
        for (queued, unrunnable, processing) in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            assert_eq!(by_telemetry(queue(queued, unrunnable, processing)).busy, Some(true));
        }
        let answers = by_telemetry(queue(3, 5, 0));
        assert_eq!((answers.queued, answers.unrunnable), (Some(3), Some(5)));
        assert_eq!((answers.workers, answers.threads), (2, 4));
    }
}
