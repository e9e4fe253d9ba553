//! Pods that have been ready for long, though the scheduler knows no worker of them. Pure.
//!
//! Without a readiness probe Kubernetes takes a worker for ready that looks for its scheduler for ever: at a wrong
//! address, behind a network policy, or with TLS on one side only. Each round tells how many workers are registered; if
//! that is fewer than pods that ought to have joined, the list shows which are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::drains::Drains;
use super::matching::Candidates;
use super::view::Members;
use crate::cluster_cache::records::{PodRecord, PodState};
use crate::cluster_cache::snapshot::{ClusterSnapshot, GroupMembers};

/// How long a pod that is ready has to join.
const JOINING: SignedDuration = SignedDuration::from_secs(60);
/// How long workers that were there before their scheduler have to find it.
const STARTING: Duration = Duration::from_secs(30);
/// For how long lists have to show a pod without workers: `Client.restart()`, or the end of a worker's lifetime, takes
/// them away for some seconds.
const LASTING: Duration = Duration::from_secs(30);
/// The time between two lists that are asked for because of this.
const PAUSE: Duration = Duration::from_secs(30);

/// The pods without workers, by UID, and since when lists show them so.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// When the scheduler was heard first.
    begun: Option<Timestamp>,
    /// That is long ago, so that those who waited for it have joined.
    up: bool,
    seen: BTreeMap<Box<str>, Timestamp>,
    /// When the last list came, and how many workers were registered then.
    listed: Option<(Timestamp, usize)>,
    /// How many are registered now.
    registered: usize,
    /// Fewer workers are registered than pods ought to have joined.
    fewer: bool,
}

impl Absent {
    /// Takes the number of registered workers, and of the pods that ought to have joined.
    pub(super) fn count(&mut self, registered: usize, expected: usize, now: Timestamp) {
        self.up = now >= *self.begun.get_or_insert(now) + STARTING;
        self.fewer = self.up && registered < expected;
        self.registered = registered;
    }

    /// Takes a list of workers, after their number.
    pub(super) fn look(
        &mut self,
        candidates: &Candidates,
        members: &Members,
        drains: &Drains,
        now: Timestamp,
    ) {
        if !self.up {
            return;
        }
        let pods = candidates.pods.iter().map(|candidate| &candidate.pod);
        let absent = pods.filter(|pod| {
            is_expected(pod, now) && !drains.has(&pod.uid) && members.knows_nobody_of(&pod.uid)
        });
        let mut seen = BTreeMap::new();
        for pod in absent {
            seen.insert(pod.uid.clone(), self.seen.get(&pod.uid).copied().unwrap_or(now));
        }
        (self.seen, self.listed) = (seen, Some((now, self.registered)));
    }

    /// UIDs of the pods that have been without workers for long, as of the last list; `None` while that is being found
    /// out.
    pub(super) fn pods(&self) -> Option<BTreeSet<Box<str>>> {
        if !self.up {
            return None;
        }
        let Some((listed, _)) = self.listed else { return (!self.fewer).then(BTreeSet::new) };
        let long = self.seen.iter().filter(|(_, since)| listed >= **since + LASTING);
        let long: BTreeSet<_> = long.map(|(pod, _)| pod.clone()).collect();
        (!long.is_empty() || self.seen.is_empty()).then_some(long)
    }

    /// Whether a list has to be asked for, to see who is missing and whether they still are.
    pub(super) fn wants_list(&self, now: Timestamp) -> bool {
        let Some((listed, registered)) = self.listed else { return self.fewer };
        let pause = (listed..listed + PAUSE).contains(&now);
        // Enough are there by now, perhaps because those who were missing came.
        let came = !self.fewer && registered != self.registered;
        (self.fewer || !self.seen.is_empty()) && (came || !pause)
    }
}

/// Whether a worker of the pod ought to have joined by now.
#[must_use]
pub fn is_expected(pod: &PodRecord, now: Timestamp) -> bool {
    let settled = pod.ready_since.is_some_and(|ready| now.duration_since(ready) >= JOINING);
    pod.state == PodState::Ready && pod.running && pod.drain.is_none() && settled
}

/// The number of pods of which a worker ought to have joined by now.
pub(super) fn expected(snapshot: &ClusterSnapshot, now: Timestamp) -> usize {
    snapshot.groups.iter().flat_map(GroupMembers::pods).filter(|pod| is_expected(pod, now)).count()
}

#[cfg(test)]
#[path = "absent_tests.rs"]
mod tests;
