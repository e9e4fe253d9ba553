//! What has to be asked of a scheduler, and which pods are to be drained. Pure.

use dask_operator_api::{ConditionType, Reason, SchedulerUpdate};

use super::drain::PodFacts;
use crate::cluster_cache::records::{PodRecord, PodState};
use crate::cluster_cache::snapshot::{ClusterSnapshot, GroupMembers};

/// What has to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent questions, not one state")]
pub(super) struct Interest {
    /// A group has more workers than are wanted, or pods are marked: each worker matters, and the ranking.
    pub(super) shrinking: bool,
    /// A group says that it replaces workers, as an edited template or a lost scheduler asks for, or only the scheduler
    /// can say whether a worker has ended: the same matters, but that can take hours in which nothing changes.
    pub(super) replacing: bool,
    /// A DaskAutoscaler names the cluster.
    pub(super) adaptive_target: bool,
    /// A policy acts on it.
    pub(super) idleness: bool,
}

impl Interest {
    /// What has to be asked about this cluster.
    pub(super) fn of(snapshot: &ClusterSnapshot) -> Self {
        let spec = &snapshot.cluster.spec;
        let when_idle = spec.update_policy().scheduler() == SchedulerUpdate::WhenIdle;
        let shrinking = snapshot.groups.iter().any(|members| {
            let waits = |pod: &PodRecord| pod.drain.is_some() && pod.state != PodState::Terminating;
            members.pods().any(|pod| waits(pod)) || members.is_too_large()
        });
        Self {
            shrinking,
            replacing: snapshot.groups.iter().any(is_replacing),
            adaptive_target: snapshot.has_autoscaler,
            idleness: spec.idle_timeout > 0 || when_idle,
        }
    }
}

/// Whether the group's status says that workers are being replaced, or some have to be if the scheduler knows nobody there.
fn is_replacing(members: &GroupMembers) -> bool {
    let (updating, scaling): (&str, &str) = (ConditionType::Updating.into(), ConditionType::Scaling.into());
    let stranded: &str = Reason::WorkerStranded.into();
    if members.pods().any(|pod| pod.is_live() && pod.worker_ended.is_some()) {
        return true;
    }
    members.group.status.iter().flat_map(|status| &status.conditions).any(|condition| {
        (condition.type_ == updating && condition.status == "True")
            || (condition.type_ == scaling && condition.reason == stranded)
    })
}

/// All pods that may be in a drain: the marked ones, and others in case that their mark was taken back. A pod on its
/// way out is in nobody's hands any more.
pub(super) fn pods(snapshot: &ClusterSnapshot) -> Vec<PodFacts> {
    let pods = snapshot.groups.iter().flat_map(GroupMembers::pods);
    pods.filter(|pod| pod.state != PodState::Terminating)
        .map(|pod| PodFacts {
            uid: pod.uid.clone(),
            name: pod.name.clone(),
            running: pod.running,
            ended: pod.state == PodState::Failed,
            marked: pod.drain.is_some(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use dask_operator_api::{DrainIntent, UpdatePolicy};
    use rstest::rstest;

    use super::*;
    use crate::controllers::cluster::testing::{at, made, workers};

    /// A cluster with workers in these states, of which two are wanted.
    fn cluster(states: &[PodState]) -> ClusterSnapshot {
        let mut snapshot = made(PodState::Ready);
        Arc::make_mut(&mut snapshot.groups[0].group).spec.worker.replicas = 2;
        workers(&mut snapshot, states);
        snapshot
    }

    fn mark(snapshot: &mut ClusterSnapshot, number: usize) {
        let pod = Arc::make_mut(&mut snapshot.groups[0].workers[number]);
        pod.drain = Some(Box::new(DrainIntent { reason: Reason::ScaledDown, since: at(0) }));
    }

    #[rstest]
    #[case(&[PodState::Ready; 2], false)]
    #[case(&[PodState::Ready; 3], true)]
    #[case(&[PodState::Ready, PodState::Ready, PodState::Terminating], false)]
    #[case(&[PodState::Ready, PodState::Ready, PodState::Failed], false)]
    fn workers_matter_while_there_are_too_many(#[case] states: &[PodState], #[case] shrinking: bool) {
        assert_eq!(Interest::of(&cluster(states)).shrinking, shrinking);
    }

    #[test]
    fn workers_matter_while_one_is_marked() {
        let mut snapshot = cluster(&[PodState::Ready, PodState::Terminating]);
        mark(&mut snapshot, 1);
        assert!(!Interest::of(&snapshot).shrinking, "it goes already");
        mark(&mut snapshot, 0);
        assert!(Interest::of(&snapshot).shrinking);
        let marked: Vec<_> = pods(&snapshot).iter().map(|pod| (pod.name.to_string(), pod.marked)).collect();
        assert_eq!(marked, [("w-1".to_owned(), true)]);
    }

    #[rstest]
    #[case("Updating", "True", "TemplateChanged", true)]
    #[case("Updating", "False", "UpdatedOnDelete", false)]
    #[case("Scaling", "True", "WorkerStranded", true)]
    #[case("Scaling", "True", "Scaling", false)]
    fn workers_matter_while_some_are_replaced(
        #[case] type_: &str,
        #[case] status: &str,
        #[case] reason: &str,
        #[case] replacing: bool,
    ) {
        let mut snapshot = cluster(&[PodState::Ready]);
        let condition = serde_json::json!({
            "type": type_, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let status = serde_json::json!({"conditions": [condition]});
        Arc::make_mut(&mut snapshot.groups[0].group).status = Some(serde_json::from_value(status).unwrap());
        let interest = Interest::of(&snapshot);
        assert_eq!((interest.replacing, interest.shrinking), (replacing, false));
    }

    #[test]
    fn workers_matter_while_only_the_scheduler_knows_whether_one_has_ended() {
        let mut snapshot = cluster(&[PodState::Starting]);
        Arc::make_mut(&mut snapshot.groups[0].workers[0]).worker_ended = Some(at(0));
        assert!(Interest::of(&snapshot).replacing);
        Arc::make_mut(&mut snapshot.groups[0].workers[0]).state = PodState::Terminating;
        assert!(!Interest::of(&snapshot).replacing);
    }

    #[test]
    fn the_target_matters_where_an_autoscaler_acts_on_it() {
        let mut snapshot = cluster(&[]);
        assert!(!Interest::of(&snapshot).adaptive_target);
        snapshot.has_autoscaler = true;
        assert!(Interest::of(&snapshot).adaptive_target);
    }

    #[test]
    fn idleness_matters_where_a_policy_acts_on_it() {
        let mut snapshot = cluster(&[]);
        assert_eq!(Interest::of(&snapshot), Interest::default());
        Arc::make_mut(&mut snapshot.cluster).spec.idle_timeout = 60;
        assert!(Interest::of(&snapshot).idleness);
        let spec = &mut Arc::make_mut(&mut snapshot.cluster).spec;
        spec.idle_timeout = 0;
        let scheduler = Some(SchedulerUpdate::WhenIdle);
        spec.update = Some(UpdatePolicy { scheduler, ..UpdatePolicy::default() });
        assert!(Interest::of(&snapshot).idleness);
    }
}
