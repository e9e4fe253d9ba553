//! A worker as scale-down sees it: a pod of ours, or a Deployment of the Python operator with its pods.

use std::cmp::Reverse;
use std::sync::Arc;

use dask_operator_api::Reason;
use jiff::Timestamp;

use super::removal::{Cause, Object, Removal};
use crate::cluster_cache::records::{DeploymentRecord, PodRecord, PodState};
use crate::cluster_cache::snapshot::GroupMembers;
use crate::scheduler_link::{DrainProgress, Member, Members, PodWorkers, Sample};

/// A worker that works or will work.
#[derive(Clone, Debug)]
pub(super) struct Unit<'a> {
    deployment: Option<&'a DeploymentRecord>,
    /// Its live pods.
    pub(super) pods: Vec<&'a Arc<PodRecord>>,
}

/// Where a running worker stands in the scheduler's ranking; less is cheaper to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// The scheduler does not know it, so it holds nothing.
    Unregistered,
    /// The worst rank of its Dask workers.
    Ranked(u32),
    /// Which Dask workers are its own cannot be told.
    Unknown,
    /// The scheduler leaves one of its Dask workers out of the ranking.
    Protected,
}

/// All live workers of a group.
pub(super) fn units(members: &GroupMembers) -> impl Iterator<Item = Unit<'_>> {
    let own = members.workers.iter().filter(|pod| pod.is_live());
    let own = own.map(|pod| Unit { deployment: None, pods: vec![pod] });
    let legacy = members.legacy.iter().filter(|worker| worker.is_live());
    let legacy = legacy
        .map(|worker| Unit { deployment: Some(&worker.deployment), pods: worker.live_pods().collect() });
    own.chain(legacy)
}

/// The Dask workers of a pod, as far as they are known.
fn workers_of<'m>(pod: &PodRecord, members: &'m Members) -> &'m [Member] {
    match members.of_pod(&pod.uid) {
        PodWorkers::Known(workers) => workers,
        PodWorkers::Nobody | PodWorkers::Unknown => &[],
    }
}

/// Where a running pod stands: as the dearest of its Dask workers.
pub(super) fn standing(pod: &PodRecord, members: &Members) -> Standing {
    if members.of_pod(&pod.uid) == PodWorkers::Unknown {
        return Standing::Unknown;
    }
    let ranks = workers_of(pod, members).iter().map(|worker| worker.rank);
    let standings = ranks.map(|rank| rank.map_or(Standing::Protected, Standing::Ranked));
    standings.max().unwrap_or(Standing::Unregistered)
}

impl Unit<'_> {
    pub(super) fn name(&self) -> &str {
        match (self.deployment, self.pods.first()) {
            (Some(deployment), _) => &deployment.name,
            (None, Some(pod)) => &pod.name,
            (None, None) => "",
        }
    }

    pub(super) fn is_marked(&self) -> bool {
        !self.pods.is_empty() && self.pods.iter().all(|pod| pod.drain.is_some())
    }

    pub(super) fn is_partly_marked(&self) -> bool {
        self.pods.iter().any(|pod| pod.drain.is_some())
    }

    /// Whether it goes only because there were too many, so that it may stay if it is wanted again.
    pub(super) fn is_one_too_many(&self) -> bool {
        let mut intents = self.pods.iter().filter_map(|pod| pod.drain.as_ref());
        intents.all(|intent| intent.reason == Reason::ScaledDown)
    }

    /// Since when it is to go.
    pub(super) fn marked_since(&self) -> Option<Timestamp> {
        self.pods.iter().filter_map(|pod| pod.drain.as_ref()).map(|intent| intent.since).min()
    }

    /// Whether it can be deleted without asking: nothing of it runs, and the deletion fails if that changes.
    ///
    /// The version of a Deployment does not change when its pod begins to run, so there only one without a node counts.
    pub(super) fn is_idle(&self) -> bool {
        match self.deployment {
            None => self.pods.iter().all(|pod| !pod.running),
            Some(_) => !self.is_opaque() && self.pods.iter().all(|pod| pod.state == PodState::Pending),
        }
    }

    /// Whether it has pods that cannot be told from those of others.
    pub(super) fn is_opaque(&self) -> bool {
        self.pods.is_empty() && self.deployment.is_some_and(|deployment| deployment.replicas > 0)
    }

    /// The order in which idle workers go, and workers of one standing: those without a node, then the newest.
    pub(super) fn order(&self) -> impl Ord + use<> {
        let newest = self.pods.iter().max_by_key(|pod| pod.state);
        let state = newest.map_or(PodState::Pending, |pod| pod.state);
        (state, Reverse(newest.and_then(|pod| pod.ordinal)), Reverse(newest.map(|pod| pod.created)))
    }

    pub(super) fn standing(&self, members: &Members) -> Standing {
        self.pods.iter().map(|pod| standing(pod, members)).max().unwrap_or(Standing::Unregistered)
    }

    /// Whether a pod of it is newer than the list of workers, so that the next one has to be waited for.
    pub(super) fn is_newer_than(&self, members: &Members) -> bool {
        self.pods.iter().any(|pod| !members.considered(&pod.uid))
    }

    /// Whether the list of workers leaves open which of them are its own.
    pub(super) fn is_unknown(&self, members: &Members) -> bool {
        let unknown = |pod: &&Arc<PodRecord>| standing(pod, members) == Standing::Unknown;
        self.pods.iter().any(unknown) && !self.is_newer_than(members)
    }

    /// Whether every pod is drained or has no node yet.
    pub(super) fn is_drained(&self, sample: &Sample) -> bool {
        self.pods.iter().all(|pod| {
            let drained = sample.drains.get(&pod.uid).is_some_and(DrainProgress::is_drained);
            drained || pod.state == PodState::Pending
        })
    }

    /// How the drain of the pod that is furthest from its end comes on.
    pub(super) fn progress<'s>(&self, sample: Option<&'s Sample>) -> Option<&'s DrainProgress> {
        let progress = self.pods.iter().map(|pod| sample.and_then(|sample| sample.drains.get(&pod.uid)));
        progress.max_by_key(|progress| progress.is_none_or(|progress| !progress.is_drained())).flatten()
    }

    /// What is lost with it if it is deleted now, as far as the scheduler told.
    pub(super) fn loss(&self, members: Option<&Members>) -> String {
        let Some(members) = members else { return "what it held is not known".to_owned() };
        if self.is_unknown(members) {
            let name = self.name();
            return format!(
                "what it held is not known, because it is not known which of the scheduler's workers was \"{name}\" ({} \
                 fits no pod)",
                members.unmatched.words()
            );
        }
        let workers: Vec<_> = self.pods.iter().flat_map(|pod| workers_of(pod, members)).collect();
        let tasks: u64 = workers.iter().map(|worker| worker.executing).sum();
        let bytes: u64 = workers.iter().map(|worker| worker.bytes).sum();
        let mebibytes = bytes.div_ceil(1 << 20);
        format!(
            "{tasks} running tasks start again elsewhere, up to {mebibytes} MiB of results are computed again"
        )
    }

    /// Its deletion. `versioned` makes it fail if the object has changed since.
    pub(super) fn removal(&self, cause: Cause, versioned: bool) -> Removal {
        let (object, uid, version) = match (self.deployment, self.pods.first()) {
            (Some(deployment), _) => (Object::Deployment, &*deployment.uid, deployment.resource_version),
            (None, Some(pod)) => (Object::Pod, &*pod.uid, pod.resource_version),
            (None, None) => (Object::Pod, "", 0),
        };
        Removal {
            object,
            name: self.name().to_owned(),
            uid: uid.to_owned(),
            version: versioned.then_some(version),
            cause,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster_cache::snapshot::LegacyWorker;
    use crate::controllers::group::testing::{legacy, member, members, running, sample, without_workers};

    #[test]
    fn a_pod_with_several_workers_has_the_worst_rank() {
        let pod = Arc::new(running(1));
        let unit = Unit { deployment: None, pods: vec![&pod] };
        let standing =
            |ranks: &[Option<u32>]| unit.standing(&members(ranks.iter().map(|rank| (1, member(1, *rank)))));
        let nobody = without_workers(&[1]);
        assert_eq!(unit.standing(&nobody), Standing::Unregistered);
        assert_eq!(standing(&[]), Standing::Unknown, "no list tells of it");
        assert_eq!(standing(&[Some(3), Some(8)]), Standing::Ranked(8));
        assert_eq!(standing(&[Some(3), None]), Standing::Protected);
    }

    #[test]
    fn a_pod_that_cannot_be_told_is_not_the_cheapest() {
        let pod = Arc::new(running(1));
        let unit = Unit { deployment: None, pods: vec![&pod] };
        let mut strange = Members::default();
        strange.insert_unknown(&pod.uid);
        strange.unmatched.add("mine", "tcp://10.96.0.1:1");
        assert_eq!(unit.standing(&strange), Standing::Unknown);
        assert!(unit.is_unknown(&strange) && !unit.is_newer_than(&strange));
        assert!(Standing::Ranked(u32::MAX) < Standing::Unknown && Standing::Unknown < Standing::Protected);
        let words = unit.loss(Some(&strange));
        assert!(words.contains("not known") && words.contains("10.96.0.1"), "{words}");

        let older = Members::default();
        assert!(!unit.is_unknown(&older) && unit.is_newer_than(&older));
    }

    #[test]
    fn a_deployment_is_idle_only_without_a_node() {
        let idle = |worker: LegacyWorker| unit_of(&worker).is_idle();
        assert!(idle(legacy(&[])));
        assert!(idle(legacy(&[PodState::Pending])));
        assert!(!idle(legacy(&[PodState::Starting])));
        let mut opaque = legacy(&[]);
        Arc::make_mut(&mut opaque.deployment).replicas = 1;
        assert!(!unit_of(&opaque).is_idle() && unit_of(&opaque).is_opaque());
    }

    fn unit_of(worker: &LegacyWorker) -> Unit<'_> {
        Unit { deployment: Some(&worker.deployment), pods: worker.live_pods().collect() }
    }

    #[test]
    fn the_slowest_pod_tells_the_progress() {
        let worker = legacy(&[PodState::Ready, PodState::Ready]);
        let uid = |index: usize| worker.pods[index].uid.clone();
        let mut sample = sample(0);
        sample.drains = BTreeMap::from([(uid(0), DrainProgress::Drained), (uid(1), DrainProgress::Closing)]);
        let unit = unit_of(&worker);
        assert_eq!(unit.progress(Some(&sample)), Some(&DrainProgress::Closing));
        assert!(!unit.is_drained(&sample));
        sample.drains.insert(uid(1), DrainProgress::Drained);
        assert!(unit.is_drained(&sample));
        sample.drains.clear();
        assert_eq!(unit.progress(Some(&sample)), None);
        assert!(!unit.is_drained(&sample));
    }

    #[test]
    fn what_a_forced_deletion_loses_is_named() {
        let pod = Arc::new(running(1));
        let unit = Unit { deployment: None, pods: vec![&pod] };
        let mut held = member(1, Some(0));
        (held.executing, held.bytes) = (2, 3 << 20);
        let words = unit.loss(Some(&members([(1, held)])));
        assert!(words.contains("2 running tasks") && words.contains("3 MiB"), "{words}");
        assert!(unit.loss(None).contains("not known"));
    }
}
