//! The drain of one pod, step by step. Pure: what was seen and answered goes in, what is to be asked comes out.
//!
//! Fence (no new tasks, data is copied away) → wait until nothing runs → close (the rest is copied, the processes
//! end). Each step can be repeated, and where a drain stands is derived from the scheduler's own list of workers, so
//! nothing is lost with the operator, with a connection or with an answer.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::retry::{Circumstances, Refusals};
use super::roster::{OfPod, Seen, Standing};
use super::view::DrainProgress;

/// A worker whose fence is refused goes back to work by itself. If it were asked before that, Dask would take the fence
/// for the state to go back to. After this time it is asked in any case.
const UNFENCED: Duration = Duration::from_secs(90);
/// A worker that is still being told of its fence may start a task; its counts are believed only after this time and
/// a heartbeat (measured with real workers).
const SETTLE: Duration = Duration::from_millis(1500);
/// Workers of Dask releases that tell no time of their heartbeats: longer than the longest usual interval.
const SETTLE_UNTOLD: Duration = Duration::from_secs(10);
/// A pod that runs, but whose worker is unknown to the scheduler, may be about to register it.
const BOOT: Duration = Duration::from_secs(10);
/// Heartbeats come every 0.5 s, and every 6 s in a cluster of a thousand workers.
const SILENCE: Duration = Duration::from_secs(30);

/// A pod that is to be drained, as the cache shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PodFacts {
    /// UID.
    pub(super) uid: Box<str>,
    /// Name, for people.
    pub(super) name: Box<str>,
    /// A container runs.
    pub(super) running: bool,
    /// It ended and will not start again.
    pub(super) ended: bool,
    /// It is marked; a pod whose mark was taken back may be fenced already.
    pub(super) marked: bool,
}

/// What one round of questions showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round<'a> {
    /// When it began: what was answered later is not in it.
    pub(super) asked: Timestamp,
    /// What it showed of the pod.
    pub(super) of: OfPod<'a>,
    /// Since when this scheduler process is known to answer.
    pub(super) scheduler_since: Timestamp,
}

/// How workers are retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    /// They take no new tasks, and their data is copied to others.
    Fence,
    /// They are closed after what is left was copied.
    Close,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The scheduler named these addresses.
    Confirmed(Vec<String>),
    /// It did not answer, or with an error.
    Failed,
}

/// The scheduler is to retire these workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Retire {
    pub(super) how: How,
    /// Never empty: without a selector Dask retires whatever it likes.
    pub(super) addresses: Vec<Box<str>>,
    /// Not together with other pods: a call of it did not come back before.
    pub(super) alone: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// To be derived from the next round.
    Open,
    /// The scheduler knows no worker of it for sure.
    Absent { since: Timestamp, rounds: u32 },
    /// The call is under way.
    Fencing,
    /// Fenced; last heartbeat of each worker as of the first round after that.
    Finishing { since: Timestamp, baseline: BTreeMap<Box<str>, Option<f64>>, heard: Timestamp },
    /// The call is under way.
    Closing,
    /// Nothing is left.
    Drained { since: Timestamp, by: Proof },
}

/// Why nothing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// The scheduler confirmed that its workers are closed, or the pod ended.
    Closed,
    /// The scheduler knows no worker of it, while it ran.
    Absent,
    /// The same, while nothing of it ran.
    NeverRan,
}

/// The drain of one pod.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not one state")]
pub(super) struct Drain {
    step: Step,
    /// No call before that.
    not_before: Timestamp,
    /// What refusals and failures of calls depend on, and how many there were.
    under: Circumstances,
    refusals: Refusals,
    /// Why the scheduler refused, until it agrees.
    refusal: Option<String>,
    /// The worker it refused to fence, and until when its return to work is waited for.
    returning: Option<(Box<str>, Timestamp)>,
    /// A fence was asked for, so the workers may be fenced, and there is no way back.
    committed: bool,
    /// Some of them were fenced before it was asked for: those stay so if it is refused.
    partly_fenced: bool,
    /// A close was asked for: if the workers are gone then, they are closed.
    close_asked: bool,
    alone: bool,
    executing: u64,
    /// What explains a refusal: an actor was seen, and nobody else runs.
    actors: bool,
    lonely: bool,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            step: Step::Open,
            not_before: Timestamp::UNIX_EPOCH,
            under: Circumstances::default(),
            refusals: Refusals::default(),
            refusal: None,
            returning: None,
            committed: false,
            partly_fenced: false,
            close_asked: false,
            alone: false,
            executing: 0,
            actors: false,
            lonely: false,
        }
    }
}

impl Drain {
    /// Takes a round; says what to ask now.
    pub(super) fn look(&mut self, pod: &PodFacts, round: Round<'_>, now: Timestamp) -> Option<Retire> {
        if self.is_calling() {
            return None;
        }
        if pod.ended {
            self.drained(Proof::Closed, now);
            return None;
        }
        if let Step::Drained { since, .. } | Step::Finishing { since, .. } = self.step
            && round.asked < since
        {
            return None;
        }
        if round.of.workers.is_empty() {
            // Those that it had when their end was asked for are gone.
            if round.of.unknown && !self.close_asked {
                self.unknown();
            } else {
                self.absent(pod, round, now);
            }
            return None;
        }
        let present: Vec<&Seen> =
            round.of.workers.iter().filter(|worker| worker.standing != Standing::Closing).collect();
        self.under = Circumstances {
            others: round.of.others,
            workers: present.len(),
            keys: present.iter().map(|worker| worker.keys).sum(),
            actors: present.iter().map(|worker| worker.actors).sum(),
        };
        let not_before = self.refusals.look(self.under).map_or(self.not_before, |at| at.min(self.not_before));
        if present.is_empty() || now < not_before {
            return None;
        }
        if self.is_returning(&present, now) {
            return None;
        }
        self.actors = present.iter().any(|worker| worker.actors > 0);
        self.lonely = round.of.others == 0;
        if !present.iter().all(|worker| self.is_fenced(worker)) {
            self.partly_fenced = present.iter().any(|worker| worker.standing == Standing::Fenced);
            return Some(self.retire(How::Fence, &present));
        }
        // Found fenced without having asked: by the operator before a restart, or the answer was lost.
        self.committed = true;
        if !self.is_quiet(&present, now) {
            return None;
        }
        Some(self.retire(How::Close, &present))
    }

    /// The call that [`Self::look`] wanted is under way.
    pub(super) fn asked(&mut self, how: How) {
        self.step = match how {
            How::Fence => Step::Fencing,
            How::Close => Step::Closing,
        };
        self.committed = true;
        self.close_asked = how == How::Close;
    }

    /// Takes the answer to a call; `asked` are the pod's addresses in it.
    pub(super) fn answered(&mut self, how: How, asked: &[Box<str>], answer: &Answer, now: Timestamp) {
        let Answer::Confirmed(confirmed) = answer else {
            self.step = Step::Open;
            self.alone = true;
            self.not_before = self.refusals.failed(now);
            return;
        };
        let missing = asked.iter().find(|address| !confirmed.iter().any(|c| **c == ***address));
        if let Some(address) = missing {
            self.refusal = Some(self.why(address));
            // One that was fenced when it was to be closed stays so: there is nothing to wait for.
            self.returning = (how == How::Fence).then(|| (address.clone(), now + UNFENCED));
            self.step = Step::Open;
            self.close_asked = false;
            // Dask takes back the fence of those that it does not retire. The answer names those of other pods as well.
            let some_agreed = asked.iter().any(|address| confirmed.iter().any(|c| **c == **address));
            self.committed = how == How::Close || some_agreed || self.partly_fenced;
            self.not_before = self.refusals.refused(self.under, now);
            return;
        }
        self.refusal = None;
        self.refusals.agreed();
        match how {
            How::Fence => {
                // Only those asked; the first round from now on tells their heartbeats.
                self.step = Step::Finishing { since: now, baseline: BTreeMap::new(), heard: now };
            }
            How::Close => self.drained(Proof::Closed, now),
        }
    }

    /// How it comes on; `None` as long as nothing was asked, so that the mark can still be taken back.
    pub(super) fn progress(&self) -> Option<DrainProgress> {
        match (&self.step, &self.refusal) {
            (Step::Drained { .. }, _) => Some(DrainProgress::Drained),
            (_, Some(message)) => {
                Some(DrainProgress::Refused { message: message.clone(), fenced: self.committed })
            }
            (Step::Closing, _) => Some(DrainProgress::Closing),
            (Step::Finishing { .. }, _) => Some(DrainProgress::Finishing { executing: self.executing }),
            (Step::Fencing, _) => Some(DrainProgress::Fencing),
            (Step::Open | Step::Absent { .. }, _) if self.close_asked => Some(DrainProgress::Closing),
            (Step::Open | Step::Absent { .. }, _) => self.committed.then_some(DrainProgress::Fencing),
        }
    }

    /// Whether a drain whose mark was taken back has to go on, because its workers may be fenced.
    pub(super) fn has_no_way_back(&self) -> bool {
        self.committed
    }

    /// Whether nothing is left.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.step, Step::Drained { .. })
    }

    /// Whether a call is under way.
    pub(super) fn is_calling(&self) -> bool {
        matches!(self.step, Step::Fencing | Step::Closing)
    }

    fn drained(&mut self, by: Proof, now: Timestamp) {
        if !matches!(self.step, Step::Drained { .. }) {
            self.step = Step::Drained { since: now, by };
        }
        self.refusal = None;
    }

    /// It cannot be told whether the scheduler knows workers of it: nothing can be concluded from their absence.
    fn unknown(&mut self) {
        if !matches!(self.step, Step::Drained { by: Proof::Closed, .. }) {
            self.step = Step::Open;
        }
    }

    /// The scheduler does not know a worker of the pod.
    fn absent(&mut self, pod: &PodFacts, round: Round<'_>, now: Timestamp) {
        let (since, rounds) = match self.step {
            // It has begun to run since, so it may be about to register a worker.
            Step::Drained { by: Proof::NeverRan, .. } if pod.running => (now, 1),
            Step::Drained { .. } => return,
            Step::Absent { since, rounds } => (since, rounds + 1),
            _ => (now, 1),
        };
        let settled = |from: Timestamp| now >= from + BOOT;
        let enough = match () {
            () if self.close_asked => Some(Proof::Closed),
            () if pod.running => {
                (rounds >= 2 && settled(since) && settled(round.scheduler_since)).then_some(Proof::Absent)
            }
            () => (rounds >= 2).then_some(Proof::NeverRan),
        };
        self.step = Step::Absent { since, rounds };
        if let Some(by) = enough {
            self.drained(by, now);
        }
    }

    /// Whether a worker that the scheduler refused to retire has not gone back to work yet.
    fn is_returning(&mut self, present: &[&Seen], now: Timestamp) -> bool {
        let Some((refused, until)) = &self.returning else { return false };
        let fenced =
            present.iter().any(|worker| worker.address == *refused && worker.standing == Standing::Fenced);
        if !fenced || now >= *until {
            self.returning = None;
        }
        self.returning.is_some()
    }

    fn is_fenced(&self, worker: &Seen) -> bool {
        match worker.standing {
            Standing::Fenced | Standing::Closing => true,
            // Old Dask tells no status; then the confirmation counts.
            Standing::Untold => matches!(self.step, Step::Finishing { .. }),
            Standing::Running | Standing::Paused => false,
        }
    }

    /// Whether nothing runs on any of the workers for sure.
    fn is_quiet(&mut self, present: &[&Seen], now: Timestamp) -> bool {
        if !matches!(self.step, Step::Finishing { .. }) {
            self.step = Step::Finishing { since: now, baseline: BTreeMap::new(), heard: now };
        }
        self.executing = present.iter().map(|worker| worker.executing).sum();
        let Step::Finishing { since, baseline, heard } = &mut self.step else { return false };
        let since = *since;
        let mut quiet = true;
        let mut silent = None;
        for worker in present {
            if worker.processing == Some(0) {
                // The scheduler gave it nothing that is not done, and gives it nothing more.
                continue;
            }
            let first = *baseline.entry(worker.address.clone()).or_insert(worker.heartbeat);
            let fresh = match (first, worker.heartbeat) {
                (Some(first), Some(last)) => last > first,
                _ => now >= since + SETTLE_UNTOLD,
            };
            if fresh && worker.executing > 0 {
                // From now on only a newer heartbeat tells something new, and shows that the worker lives.
                baseline.insert(worker.address.clone(), worker.heartbeat);
                *heard = now;
            }
            if !fresh {
                silent = Some(&worker.address);
            }
            quiet &= fresh && worker.executing == 0 && now >= since + SETTLE;
        }
        let frozen = silent.filter(|_| now >= *heard + SILENCE);
        self.refusal = frozen.map(|address| {
            format!("worker {address} sends no heartbeats any more, so it is not known what runs on it")
        });
        quiet
    }

    fn retire(&self, how: How, present: &[&Seen]) -> Retire {
        Retire {
            how,
            addresses: present.iter().map(|worker| worker.address.clone()).collect(),
            alone: self.alone,
        }
    }

    fn why(&self, address: &str) -> String {
        if self.actors {
            format!("worker {address} holds an actor, which cannot be moved")
        } else if self.lonely {
            format!("no other running worker can take the data of worker {address}")
        } else {
            format!(
                "the scheduler keeps worker {address}: it holds an actor, or no running worker can take its data"
            )
        }
    }
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;
