//! What is known from a scheduler: plain values, for pure decisions to read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use dask_operator_api::Reason;
use jiff::Timestamp;

/// What is known from one scheduler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkView {
    /// Whether the scheduler was asked at all since the operator started.
    pub asked: bool,
    /// What it said last, however long ago.
    pub sample: Option<Arc<Sample>>,
    /// Why nothing newer than `sample` is known.
    pub failure: Option<LinkFailure>,
}

/// Why a scheduler is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFailure {
    /// [`Reason::SchedulerUnreachable`], [`Reason::SchedulerGarbled`], [`Reason::SchedulerNotRunning`] or
    /// [`Reason::SeveralSchedulers`].
    pub reason: Reason,
    /// One sentence with the address and the cause.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// What a scheduler said in one round of questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When the questions began, by this operator's clock: what happened in the scheduler later may not be in it.
    pub asked: Timestamp,
    /// When the round ended, by this operator's clock.
    pub taken: Timestamp,
    /// Identity that the scheduler process gave itself; another one means that it restarted and lost all results.
    pub scheduler_id: Arc<str>,
    /// When that process started, by its own clock.
    pub started: Option<Timestamp>,
    /// How it was asked.
    pub source: Source,
    /// Workers that are registered.
    pub workers: usize,
    /// Threads of all workers.
    pub threads: usize,
    /// Tasks that wait in the scheduler's queue; `None` if this Dask does not tell.
    pub queued: Option<usize>,
    /// Tasks that no worker can run; `None` if this Dask does not tell.
    pub unrunnable: Option<usize>,
    /// Workers that Dask's own adaptive scaling would want; `None` if not asked, which it is for clusters with a
    /// DaskAutoscaler.
    pub adaptive_target: Option<u64>,
    /// Whether the scheduler has anything to do; asked only where a policy needs it.
    pub idleness: Idleness,
    /// Each worker; asked only while one has to go or something is to be found out.
    pub members: Option<Arc<Members>>,
    /// How the drains of pods come on, by UID of the pod.
    pub drains: BTreeMap<Box<str>, DrainProgress>,
    /// UIDs of pods that nobody drains, though workers of them have been fenced for long: they get no tasks any more.
    pub fenced: BTreeSet<Box<str>>,
    /// UIDs of pods that have been ready for long, though the scheduler knows no worker of them; `None` while that is
    /// being found out.
    pub absent: Option<BTreeSet<Box<str>>>,
}

/// How a scheduler is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// By the operations of the telemetry module.
    Telemetry,
    /// By those that every Dask has.
    Standard,
}

/// Whether a scheduler has anything to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idleness {
    /// Not asked, or this Dask cannot tell.
    #[default]
    Unknown,
    /// It has.
    Busy,
    /// It has had nothing to do since then, by its own clock.
    Since(Timestamp),
}

/// The registered workers, told apart by their pods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// When they were asked for, by this operator's clock.
    pub taken: Option<Timestamp>,
    /// Workers that are registered, whoever's they are.
    pub registered: usize,
    /// Those that match no pod.
    pub unmatched: Unmatched,
    /// Workers by UID of their pod, of all pods that were considered; `None` if they cannot be told.
    pods: HashMap<Box<str>, Option<Vec<Member>>>,
}

/// Which registered workers are a pod's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PodWorkers<'a> {
    /// These; never empty.
    Known(&'a [Member]),
    /// None: the scheduler knows of nothing on it.
    Nobody,
    /// It cannot be told: workers that match no pod may be its own, or the pod is newer than the list.
    Unknown,
}

impl Members {
    /// A list in which nobody is yet.
    #[must_use]
    pub fn new(taken: Timestamp) -> Self {
        Self { taken: Some(taken), ..Self::default() }
    }

    /// Notes the workers of a pod: none, if there are none.
    pub fn insert(&mut self, pod: &str, workers: Vec<Member>) {
        self.registered += workers.len();
        self.pods.insert(pod.into(), Some(workers));
    }

    /// Notes that the workers of a pod cannot be told.
    pub fn insert_unknown(&mut self, pod: &str) {
        self.pods.insert(pod.into(), None);
    }

    /// The workers of the pod with this UID.
    #[must_use]
    pub fn of_pod(&self, uid: &str) -> PodWorkers<'_> {
        match self.pods.get(uid) {
            Some(Some(workers)) if workers.is_empty() => PodWorkers::Nobody,
            Some(Some(workers)) => PodWorkers::Known(workers),
            Some(None) | None => PodWorkers::Unknown,
        }
    }

    /// Whether the scheduler knows no worker of the pod. While a worker fits no pod, it may be any pod's.
    #[must_use]
    pub fn knows_nobody_of(&self, uid: &str) -> bool {
        self.unmatched.count == 0 && self.of_pod(uid) == PodWorkers::Nobody
    }

    /// Whether the pod was there when the workers were asked for. Of a newer one nothing is known yet.
    #[must_use]
    pub fn considered(&self, uid: &str) -> bool {
        self.pods.contains_key(uid)
    }

    /// Whether two lists tell the same of every pod: the same workers, and the same of them protected.
    #[must_use]
    pub fn tells_the_same(&self, other: &Self) -> bool {
        let same = |one: &Member, two: &Member| {
            one.address == two.address && one.rank.is_some() == two.rank.is_some()
        };
        self.pods.len() == other.pods.len()
            && self.unmatched == other.unmatched
            && self.pods.iter().all(|(pod, workers)| match (workers, other.pods.get(pod)) {
                (Some(workers), Some(Some(others))) => {
                    workers.len() == others.len()
                        && workers.iter().zip(others).all(|(one, two)| same(one, two))
                }
                (None, Some(None)) => true,
                _ => false,
            })
    }
}

/// Registered workers that match no pod by name or address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmatched {
    /// How many.
    pub count: usize,
    /// The first by address, for people: name and address, cut to [`Self::LONGEST`] characters each.
    pub first: Option<(Box<str>, Box<str>)>,
}

impl Unmatched {
    /// Most characters of a name or an address that a message shows.
    pub const LONGEST: usize = 100;

    /// Counts one more.
    pub fn add(&mut self, name: &str, address: &str) {
        self.count += 1;
        if self.first.as_ref().is_none_or(|(_, first)| address < &**first) {
            let cut = |text: &str| text.chars().take(Self::LONGEST).collect::<String>().into();
            self.first = Some((cut(name), cut(address)));
        }
    }

    /// In words, such as `worker "x" at tcp://10.0.0.9:4040 and 2 more`.
    #[must_use]
    pub fn words(&self) -> String {
        let Some((name, address)) = &self.first else { return "no worker".to_owned() };
        // As Rust writes strings, so that no line break of a name gets into a message.
        let one = format!("worker {name:?} at {}", address.escape_debug());
        if self.count > 1 { format!("{one} and {} more", self.count - 1) } else { one }
    }
}

/// A registered worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    /// Address, such as `tcp://10.0.0.7:40123`.
    pub address: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Place in the scheduler's ranking of workers to close, 0 for the cheapest; `None` if the scheduler leaves it
    /// out, which protects it.
    pub rank: Option<u32>,
    /// Whether it has stopped taking tasks because its memory is full.
    pub paused: bool,
    /// Tasks that run on it, as of its last heartbeat.
    pub executing: u64,
    /// Bytes of results that it holds.
    pub bytes: u64,
}

/// How the drain of a pod comes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainProgress {
    /// The scheduler was asked to fence its workers and move their data, and has not answered yet.
    Fencing,
    /// It takes no new tasks; this many still run on it.
    Finishing {
        /// Running tasks, long-running ones included.
        executing: u64,
    },
    /// Its tasks are done; the last results are moved and its processes closed.
    Closing,
    /// The scheduler refuses to retire it.
    Refused {
        /// Why, as far as it is known.
        message: String,
        /// Whether a worker of it is fenced, so that there is no way back: it gets no tasks any more. Otherwise it goes
        /// on working.
        fenced: bool,
    },
    /// The scheduler confirmed that nothing is left on it, or does not know it: the pod can be deleted.
    Drained,
}

impl DrainProgress {
    /// Whether the pod can be deleted without loss.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        matches!(self, Self::Drained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(port: u16) -> Member {
        Member { address: format!("tcp://10.0.0.7:{port}").into(), ..Member::default() }
    }

    #[test]
    fn a_pod_has_workers_none_or_it_is_not_known() {
        let mut members = Members::default();
        members.insert("several", vec![member(1), member(2)]);
        members.insert("none", vec![]);
        members.insert_unknown("unclear");
        assert!(matches!(members.of_pod("several"), PodWorkers::Known([_, _])));
        assert_eq!(members.of_pod("none"), PodWorkers::Nobody);
        assert_eq!(members.of_pod("unclear"), PodWorkers::Unknown);
        assert_eq!(members.of_pod("newer"), PodWorkers::Unknown);
        assert!(members.considered("unclear") && !members.considered("newer"));
        assert_eq!(members.registered, 2);
    }

    #[test]
    fn counts_and_bytes_are_no_difference_but_workers_are() {
        let of = |workers: &[Option<u16>]| {
            let mut members = Members::default();
            for (pod, port) in ["a", "b", "c"].iter().zip(workers) {
                members.insert(pod, port.map(member).into_iter().collect());
            }
            members
        };
        let before = of(&[Some(1), None]);
        let mut later = of(&[Some(1), None]);
        later.taken = Some(Timestamp::UNIX_EPOCH);
        assert!(before.tells_the_same(&later));
        for other in [of(&[Some(2), None]), of(&[Some(1), Some(2)]), of(&[Some(1)]), of(&[None, None])] {
            assert!(!before.tells_the_same(&other));
        }
        later.insert_unknown("b");
        assert!(!before.tells_the_same(&later));
        let mut strange = of(&[Some(1), None]);
        strange.unmatched.add("x", "tcp://10.0.0.9:1");
        assert!(!before.tells_the_same(&strange));
    }

    #[test]
    fn unmatched_workers_are_named_in_few_words() {
        let mut unmatched = Unmatched::default();
        unmatched.add("b", "tcp://10.0.0.9:2");
        unmatched.add("a\nlevel=ERROR", "tcp://10.0.0.9:1");
        assert_eq!(unmatched.words(), "worker \"a\\nlevel=ERROR\" at tcp://10.0.0.9:1 and 1 more");
        unmatched.add(&"x".repeat(10_000), "a");
        assert!(unmatched.words().len() < 200);
    }

    #[test]
    fn only_a_confirmed_drain_allows_deletion() {
        let refused = DrainProgress::Refused { message: "it holds an actor".to_owned(), fenced: false };
        let others =
            [DrainProgress::Fencing, DrainProgress::Finishing { executing: 0 }, DrainProgress::Closing];
        assert!(DrainProgress::Drained.is_drained());
        assert!(!refused.is_drained() && !others.iter().any(DrainProgress::is_drained));
    }
}
