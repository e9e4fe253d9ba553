//! What the cache says that a link has to do. Pure.

use dask_operator_api::DaskCluster;
use std::sync::Arc;

use super::drain::PodFacts;
use super::interest::{Interest, pods};
use super::target::Target;
use crate::cluster_cache::records::PodState;
use crate::cluster_cache::snapshot::ClusterSnapshot;

/// What the cache says that a link has to do. A round follows at once when it changes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Situation {
    /// The scheduler to ask.
    pub(super) target: Option<Target>,
    /// Its pod is ready, so that it ought to answer.
    pub(super) ready: bool,
    pub(super) interest: Interest,
    /// Pods that may be in a drain; empty while nobody is to go.
    pub(super) pods: Vec<PodFacts>,
    /// The id of the scheduler that the status names.
    pub(super) known_id: Option<String>,
}

impl Situation {
    /// From the cache. `draining` says whether drains are under way.
    pub(super) fn of(snapshot: &ClusterSnapshot, draining: bool) -> Self {
        let target = Target::of(snapshot);
        let ready = target.as_ref().is_some_and(|target| {
            let pod = snapshot.scheduler_pods.iter().find(|pod| pod.uid == target.uid);
            pod.is_some_and(|pod| pod.state == PodState::Ready)
        });
        let interest = Interest::of(snapshot);
        let pods = if interest.shrinking || draining { pods(snapshot) } else { Vec::new() };
        Self { target, ready, interest, pods, known_id: known_id(&snapshot.cluster) }
    }
}

fn known_id(cluster: &Arc<DaskCluster>) -> Option<String> {
    cluster.status.as_ref()?.scheduler.as_ref()?.id.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::cluster::testing::{made, workers};

    #[test]
    fn workers_that_come_up_are_no_reason_to_ask() {
        let mut snapshot = made(PodState::Ready);
        workers(&mut snapshot, &[PodState::Pending]);
        let before = Situation::of(&snapshot, false);
        workers(&mut snapshot, &[PodState::Ready, PodState::Ready]);
        assert_eq!(Situation::of(&snapshot, false), before);
        assert_eq!(Situation::of(&snapshot, true).pods.len(), 2);
        workers(&mut snapshot, &[PodState::Ready; 3]);
        assert_eq!(Situation::of(&snapshot, false).pods.len(), 3, "one has to go");
    }

    #[test]
    fn a_scheduler_that_becomes_ready_is_asked_at_once() {
        let starting = Situation::of(&made(PodState::Pending), false);
        assert!(starting.target.is_none() && !starting.ready);
        let ready = Situation::of(&made(PodState::Ready), false);
        assert!(ready.target.is_some() && ready.ready);
    }
}
