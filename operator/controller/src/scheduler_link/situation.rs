//! What the cache says that a link has to do. Pure.

use dask_operator_api::DaskCluster;
use std::sync::Arc;

use super::drain::PodFacts;
use super::interest::{Interest, pods};
use super::target::Target;
use crate::cluster_cache::records::{PodRecord, PodState};
use crate::cluster_cache::snapshot::ClusterSnapshot;

/// What the cache says that a link has to do. A round follows at once when it changes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Situation {
    /// UID of the cluster: another one of the same name has another scheduler.
    pub(super) cluster: Option<String>,
    /// The scheduler to ask.
    pub(super) target: Option<Target>,
    /// Why there is none although pods of it run: it cannot be told which one is the scheduler.
    pub(super) several: Option<String>,
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
        let several = several(snapshot);
        let target = Target::of(snapshot).filter(|_| several.is_none());
        let ready = target.as_ref().is_some_and(|target| {
            let pod = snapshot.scheduler_pods.iter().find(|pod| pod.uid == target.uid);
            pod.is_some_and(|pod| pod.state == PodState::Ready)
        });
        let interest = Interest::of(snapshot);
        let pods = if interest.shrinking || draining { pods(snapshot) } else { Vec::new() };
        let cluster = snapshot.cluster.metadata.uid.clone();
        Self { cluster, target, several, ready, interest, pods, known_id: known_id(&snapshot.cluster) }
    }
}

/// Names the pods if several run of which each may be the scheduler. Their answers would contradict each other, and to
/// act on those of the wrong one loses work.
fn several(snapshot: &ClusterSnapshot) -> Option<String> {
    let runs = |pod: &&Arc<PodRecord>| pod.running && pod.is_live();
    let mut running = snapshot.scheduler_pods.iter().filter(runs);
    let (one, two) = (running.next()?, running.next()?);
    let more = match running.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "pods \"{}\" and \"{}\"{more} run as scheduler, and it cannot be told which of them the workers have joined; \
         nothing is decided on their answers until only one is left: delete the other",
        one.name, two.name
    ))
}

fn known_id(cluster: &Arc<DaskCluster>) -> Option<String> {
    cluster.status.as_ref()?.scheduler.as_ref()?.id.clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::cluster::testing::{made, pod, workers};

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
    fn of_two_that_run_neither_is_asked() {
        let mut snapshot = made(PodState::Ready);
        for (name, state, running) in [
            ("old", PodState::Terminating, true),
            ("broken", PodState::Starting, false),
            ("ended", PodState::Failed, false),
        ] {
            snapshot.scheduler_pods.push(Arc::new(PodRecord { running, ..pod(name, state) }));
            let one = Situation::of(&snapshot, false);
            assert!(one.target.is_some() && one.several.is_none(), "{name}");
        }
        snapshot.scheduler_pods.push(Arc::new(pod("copy", PodState::Ready)));
        let two = Situation::of(&snapshot, false);
        assert!(two.target.is_none() && !two.ready);
        let words = two.several.unwrap();
        assert!(words.contains("\"simple-scheduler-abc\" and \"copy\" run"), "{words}");
    }

    #[test]
    fn a_scheduler_that_becomes_ready_is_asked_at_once() {
        let starting = Situation::of(&made(PodState::Pending), false);
        assert!(starting.target.is_none() && !starting.ready);
        let ready = Situation::of(&made(PodState::Ready), false);
        assert!(ready.target.is_some() && ready.ready);
    }
}
