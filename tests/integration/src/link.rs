//! Plays the schedulers: publishes what the operator's link would have heard from them.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dask_operator::cluster_cache::ObjectKey;
use dask_operator::cluster_cache::snapshot::{ClusterSnapshot, GroupMembers};
use dask_operator::context::Context;
use dask_operator::scheduler_link::{
    DrainProgress, Idleness, LinkFailure, LinkView, Member, Members, Sample, Source,
};
use dask_operator_api::Reason;
use jiff::Timestamp;
use tokio::time::sleep;

const INTERVAL: Duration = Duration::from_millis(30);

type Script = dyn Fn(&ClusterSnapshot) -> LinkView + Send + Sync;

/// What the schedulers of an operator say. Clones share it.
#[derive(Clone)]
pub struct Link {
    script: Arc<Mutex<Arc<Script>>>,
}

impl Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    /// Schedulers that rank all workers by name and drain whatever is marked at once.
    #[must_use]
    pub fn obliging() -> Self {
        Self::scripted(obliging)
    }

    /// Schedulers that say this of a cluster.
    pub fn scripted(script: impl Fn(&ClusterSnapshot) -> LinkView + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(Mutex::new(Arc::new(script))) }
    }

    /// Lets the schedulers say this from now on.
    pub fn say(&self, script: impl Fn(&ClusterSnapshot) -> LinkView + Send + Sync + 'static) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(script);
    }

    /// Lets the drain of every marked pod stand like this from now on.
    pub fn drains(&self, progress: DrainProgress) {
        self.say(move |cluster| with_drains(cluster, &progress));
    }

    /// Speaks for ever, to the operator with this context.
    pub(crate) async fn play(self, context: Arc<Context>) {
        let mut said: HashMap<ObjectKey, LinkView> = HashMap::new();
        loop {
            for cluster in context.cache.cluster_store().state() {
                let key = ObjectKey::of(&*cluster);
                let Some(snapshot) = context.cache.cluster_snapshot(&key) else { continue };
                let script = self.script.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let view = script(&snapshot);
                let uid = cluster.metadata.uid.as_deref().unwrap_or_default();
                context.links.begin(&key, uid);
                context.links.publish(&key, uid, view.clone());
                let news = said.get(&key).is_none_or(|last| timeless(last) != timeless(&view));
                said.insert(key.clone(), view);
                if news {
                    context.cache.wake_groups_of(&key);
                    context.cache.wake_cluster(&key);
                    context.cache.wake_autoscalers_of(&key);
                }
            }
            sleep(INTERVAL).await;
        }
    }
}

/// What of a view wakes the controllers.
fn timeless(view: &LinkView) -> impl PartialEq + use<'_> {
    let sample = view.sample.as_ref();
    let members = sample.and_then(|sample| sample.members.as_deref()).map(|members| {
        let mut members = members.clone();
        members.taken = None;
        members
    });
    (
        sample.map(|sample| (&sample.scheduler_id, sample.adaptive_target, sample.idleness, &sample.drains)),
        members,
        sample.map(|sample| (&sample.fenced, &sample.absent)),
        &view.failure,
    )
}

/// A scheduler that ranks all workers by name and drains whatever is marked at once.
#[must_use]
pub fn obliging(cluster: &ClusterSnapshot) -> LinkView {
    with_drains(cluster, &DrainProgress::Drained)
}

/// A scheduler that ranks all workers by name, with the drain of every marked pod at this point.
#[must_use]
pub fn with_drains(cluster: &ClusterSnapshot, progress: &DrainProgress) -> LinkView {
    let pods = cluster.groups.iter().flat_map(GroupMembers::pods);
    let marked = pods.filter(|pod| pod.drain.is_some());
    let drains = marked.map(|pod| (pod.uid.clone(), progress.clone())).collect();
    let now = Timestamp::now();
    let sample = Sample {
        asked: now,
        taken: now,
        scheduler_id: "Scheduler-1".into(),
        started: None,
        source: Source::Standard,
        workers: 0,
        threads: 0,
        queued: None,
        unrunnable: None,
        adaptive_target: None,
        idleness: Idleness::Unknown,
        members: Some(Arc::new(members(cluster, |_, rank| Some(rank)))),
        drains,
        fenced: BTreeSet::new(),
        absent: Some(BTreeSet::new()),
    };
    LinkView { asked: true, sample: Some(Arc::new(sample)), failure: None }
}

/// The registered workers: one of each pod with an address. `rank` gives each its place, from its pod and its number
/// by name.
#[must_use]
pub fn members(cluster: &ClusterSnapshot, rank: impl Fn(&str, u32) -> Option<u32>) -> Members {
    let mut members = Members::new(Timestamp::now());
    let mut number = 0;
    for pod in cluster.groups.iter().flat_map(GroupMembers::pods) {
        let Some(host) = pod.ip.as_deref() else {
            members.insert(&pod.uid, vec![]);
            continue;
        };
        let member = Member {
            address: format!("tcp://{host}:40000").into(),
            name: pod.name.clone(),
            rank: rank(&pod.name, number),
            ..Member::default()
        };
        members.insert(&pod.uid, vec![member]);
        number += 1;
    }
    members
}

/// A scheduler whose ranking is this.
#[must_use]
pub fn ranking(cluster: &ClusterSnapshot, rank: impl Fn(&str, u32) -> Option<u32>) -> LinkView {
    let mut view = obliging(cluster);
    if let Some(sample) = &mut view.sample {
        Arc::make_mut(sample).members = Some(Arc::new(members(cluster, rank)));
    }
    view
}

/// A scheduler that does not answer.
#[must_use]
pub fn unreachable() -> LinkView {
    let failure = LinkFailure {
        reason: Reason::SchedulerUnreachable,
        message: "the scheduler at 10.0.0.1:8786 does not answer".to_owned(),
        since: Timestamp::UNIX_EPOCH,
    };
    LinkView { asked: true, sample: None, failure: Some(failure) }
}
