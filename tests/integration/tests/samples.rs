//! Speaks for one cluster's scheduler: how many workers it wants, and whether it is idle.

use std::sync::Arc;

use dask_operator::cluster_cache::snapshot::ClusterSnapshot;
use dask_operator::scheduler_link::{Idleness, LinkFailure, LinkView};
use dask_operator_api::Reason;
use integration_tests::link::obliging;
use integration_tests::{Link, World};
use jiff::Timestamp;
use kube::ResourceExt;

/// What a scheduler says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Says {
    /// Workers that it wants.
    pub target: Option<u64>,
    /// Whether it is idle.
    pub idleness: Idleness,
    /// It does not answer.
    pub silent: bool,
    /// It has not answered any question that was asked later than this.
    pub last_asked: Option<Timestamp>,
}

impl Says {
    pub(crate) fn wants(target: u64) -> Self {
        Self { target: Some(target), idleness: Idleness::Busy, silent: false, last_asked: None }
    }

    pub(crate) fn idle(idleness: Idleness) -> Self {
        Self { target: None, idleness, silent: false, last_asked: None }
    }
}

/// The voice of one cluster's scheduler; it drains whatever it is asked to.
pub(crate) struct Voice {
    link: Link,
    cluster: String,
}

impl Voice {
    /// Says so from now on, again and again as a link that polls.
    pub(crate) fn start(world: &World, cluster: &str, says: Says) -> Self {
        let voice = Self { link: world.link.clone(), cluster: cluster.to_owned() };
        voice.say(says);
        voice
    }

    pub(crate) fn say(&self, says: Says) {
        let named = self.cluster.clone();
        self.link.say(move |cluster| {
            if cluster.cluster.name_any() == named { view(cluster, says) } else { obliging(cluster) }
        });
    }
}

fn view(cluster: &ClusterSnapshot, says: Says) -> LinkView {
    let mut view = obliging(cluster);
    if let Some(sample) = &mut view.sample {
        let sample = Arc::make_mut(sample);
        (sample.adaptive_target, sample.idleness) = (says.target, says.idleness);
        if let Some(asked) = says.last_asked {
            (sample.asked, sample.taken) = (asked, asked);
        }
    }
    view.failure = says.silent.then(|| LinkFailure {
        reason: Reason::SchedulerUnreachable,
        message: "the scheduler does not answer".to_owned(),
        since: Timestamp::UNIX_EPOCH,
    });
    view
}
