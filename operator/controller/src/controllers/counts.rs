//! Counting workers by state.

use dask_operator_api::GroupCounts;
use kube::ResourceExt;

use crate::cluster_cache::records::{PodRecord, PodState};
use crate::cluster_cache::snapshot::GroupMembers;

/// Counts of a group's pods as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerCounts {
    /// Not on a node yet.
    pub pending: i32,
    /// On a node, not ready.
    pub starting: i32,
    /// Ready.
    pub ready: i32,
    /// Marked to go, but working still.
    pub draining: i32,
    /// Ended for good.
    pub failed: i32,
    /// On their way out.
    pub terminating: i32,
}

impl WorkerCounts {
    /// Counts these pods.
    pub fn of<'a>(workers: impl IntoIterator<Item = &'a PodRecord>) -> Self {
        let mut counts = Self::default();
        for worker in workers {
            *match worker.state {
                _ if worker.is_live() && worker.drain.is_some() => &mut counts.draining,
                PodState::Pending => &mut counts.pending,
                PodState::Starting => &mut counts.starting,
                PodState::Ready => &mut counts.ready,
                PodState::Failed => &mut counts.failed,
                PodState::Terminating => &mut counts.terminating,
            } += 1;
        }
        counts
    }

    /// Counts a group's workers; one that the Python operator made counts once, whatever pods it has.
    #[must_use]
    pub fn of_group(members: &GroupMembers) -> Self {
        let mut counts = Self::of(members.workers.iter().map(AsRef::as_ref));
        for worker in &members.legacy {
            let furthest = worker.live_pods().max_by_key(|pod| pod.state);
            *match furthest.map(|pod| pod.state) {
                _ if !worker.is_live() => &mut counts.terminating,
                _ if worker.is_marked() => &mut counts.draining,
                Some(PodState::Ready) => &mut counts.ready,
                Some(PodState::Starting) => &mut counts.starting,
                _ => &mut counts.pending,
            } += 1;
        }
        counts
    }

    /// Workers that work or will work: all but those that ended or are to go.
    #[must_use]
    pub fn live(&self) -> i32 {
        self.pending + self.starting + self.ready
    }
}

/// A group's counts for the status of its cluster. Workers that are wanted but not created yet count as
/// pending, so that the status does not change with every pod that is created.
#[must_use]
pub fn group_counts(members: &GroupMembers) -> GroupCounts {
    let counts = WorkerCounts::of_group(members);
    let desired = members.group.spec.worker.replicas;
    GroupCounts {
        name: members.group.name_any(),
        desired,
        pending: counts.pending.max(desired.saturating_sub(counts.starting.saturating_add(counts.ready))),
        starting: counts.starting,
        ready: counts.ready,
        draining: counts.draining,
        failed: counts.failed,
        terminating: counts.terminating,
    }
}
