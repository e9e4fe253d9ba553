//! `scale` and `adapt`: more workers, fewer workers, no lost work.

use serde::Deserialize;

use super::inside;

pub(super) const SCRIPT: &str = include_str!("../../../python/kubecluster/scaling.py");

/// What came of results that were held while the cluster shrank.
#[derive(Debug, Deserialize)]
pub(super) struct Scaling {
    counts: Vec<usize>,
    holders: usize,
    right: bool,
    tasks: u32,
    executions: [u32; 2],
    lost: u32,
}

impl Scaling {
    pub(super) fn check(&self) {
        assert_eq!(self.counts, [2, 4, 2]);
        assert!(self.holders > 2, "workers that went held nothing, so nothing was tested: {self:?}");
        assert!(self.right, "{self:?}");
        assert_eq!(self.executions, [self.tasks; 2], "results were computed again");
        assert_eq!(self.lost, 0, "{self:?}");
    }
}

#[tokio::test]
async fn results_survive_scaling_down_and_nothing_is_computed_twice() {
    inside("scaling", SCRIPT, async |_, scaling: Scaling| scaling.check()).await;
}

#[derive(Debug, Deserialize)]
struct Busy {
    right: bool,
    connected: usize,
    tasks: u32,
    executions: u32,
    lost: u32,
}

#[tokio::test]
async fn a_cluster_that_shrinks_while_it_computes_computes_everything_once() {
    let script = include_str!("../../../python/kubecluster/busy.py");
    inside("busy", script, async |_, busy: Busy| {
        assert!(busy.right, "{busy:?}");
        assert_eq!((busy.connected, busy.executions, busy.lost), (1, busy.tasks, 0), "{busy:?}");
    })
    .await;
}

#[derive(Debug, Deserialize)]
struct Adapt {
    counts: Vec<usize>,
    right: bool,
    lost: u32,
}

#[tokio::test]
async fn adapt_follows_the_work_within_its_limits_until_scale_ends_it() {
    let script = include_str!("../../../python/kubecluster/adapt.py");
    inside("adapt", script, async |scenario, adapt: Adapt| {
        assert_eq!(adapt.counts, [1, 3, 1, 2, 1]);
        assert!(adapt.right && adapt.lost == 0, "{adapt:?}");
        let left = scenario.kubectl("get daskautoscalers --output name").run().await.unwrap();
        assert_eq!(left, "", "the autoscaler goes with scale()");
    })
    .await;
}
