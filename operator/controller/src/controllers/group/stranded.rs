//! Workers of a scheduler that is gone, which never joined its successor. Pure: no client, no clock.
//!
//! Dask's workers do not connect again: they end, and their container or pod is started anew. One that hangs instead
//! is ready in Kubernetes' eyes and known to nobody. Nothing on it can be used, so it is replaced.

use std::time::Duration;

use dask_operator_api::{ConditionType, DaskCluster};
use jiff::Timestamp;

use super::removal::{Cause, Object, Removal};
use crate::cluster_cache::records::{PodRecord, PodState};
use crate::cluster_cache::snapshot::GroupMembers;
use crate::scheduler_link::{LinkView, Members, Sample};

/// How long workers have to join a new scheduler.
const JOINING: Duration = Duration::from_secs(30);
/// How old a list of workers may be.
const FRESH: Duration = Duration::from_secs(15);
/// How long after the start of a new scheduler anybody can still be stranded by it.
const AFTERMATH: Duration = Duration::from_mins(10);
/// How soon to look again for workers that may be stranded.
const POLL: Duration = Duration::from_secs(5);

/// The stranded workers, in the order of their ordinals, and when to look again.
#[must_use]
pub(super) fn stranded(
    members: &GroupMembers,
    cluster: &DaskCluster,
    link: &LinkView,
    now: Timestamp,
) -> (Vec<Removal>, Option<Duration>) {
    let nobody = (Vec::new(), None);
    let Some(sample) = link.sample.as_deref().filter(|sample| restarted(cluster, sample)) else {
        return nobody;
    };
    let Some(started) = sample.started else { return nobody };
    if since(started, now) > AFTERMATH {
        return nobody;
    }
    let known = sample.members.as_deref().filter(|known| {
        let taken = known.taken.unwrap_or(sample.taken);
        link.failure.is_none() && since(taken, now) <= FRESH && since(started, taken) >= JOINING
    });
    let Some(known) = known else { return (Vec::new(), Some(POLL)) };
    let mut lost: Vec<&PodRecord> = members
        .workers
        .iter()
        .map(AsRef::as_ref)
        .filter(|pod| is_stranded(pod, known, started, sample))
        .collect();
    lost.sort_by_key(|pod| pod.ordinal);
    (lost.into_iter().map(removal).collect(), Some(POLL))
}

/// Whether this scheduler took the place of another one.
fn restarted(cluster: &DaskCluster, sample: &Sample) -> bool {
    let Some(status) = &cluster.status else { return false };
    let lost: &str = ConditionType::SchedulerLostState.into();
    let told =
        status.conditions.iter().any(|condition| condition.type_ == lost && condition.status == "True");
    let id = status.scheduler.as_ref().and_then(|scheduler| scheduler.id.as_deref());
    told || id.is_some_and(|id| *id != *sample.scheduler_id)
}

fn is_stranded(pod: &PodRecord, known: &Members, started: Timestamp, sample: &Sample) -> bool {
    let Some(ip) = pod.ip.as_deref() else { return false };
    let taken = known.taken.unwrap_or(sample.taken);
    // A container that was started anew a moment ago is still joining.
    let settled = pod.ready_since.is_some_and(|ready| since(ready, taken) >= JOINING);
    pod.state == PodState::Ready
        && pod.drain.is_none()
        && pod.created < started
        && settled
        && known.of_host(ip).is_empty()
}

fn removal(pod: &PodRecord) -> Removal {
    Removal {
        object: Object::Pod,
        name: pod.name.to_string(),
        uid: pod.uid.to_string(),
        // A restart of its container would show in its version.
        version: Some(pod.resource_version),
        cause: Cause::Stranded,
    }
}

/// The time from one moment to a later one; none if it is not later.
fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later - earlier).unwrap_or_default()
}

#[cfg(test)]
#[path = "stranded_tests.rs"]
mod tests;
