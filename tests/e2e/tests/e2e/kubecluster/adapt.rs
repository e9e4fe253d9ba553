//! `adapt`: as many workers as the work wants.

use serde::Deserialize;

use super::inside;

const SCRIPT: &str = include_str!("../../../python/kubecluster/adapt.py");

#[derive(Debug, Deserialize)]
struct Adapted {
    adapt: Adapt,
}

#[derive(Debug, Deserialize)]
struct Adapt {
    counts: Vec<usize>,
    right: bool,
}

#[tokio::test]
async fn adapt_follows_the_work_within_its_limits_until_scale_ends_it() {
    inside("adapt", &[SCRIPT, "play(adapt)"], async |scenario, seen: Adapted| {
        assert_eq!(seen.adapt.counts, [3, 2, 1]);
        assert!(seen.adapt.right, "{seen:?}");
        let left = scenario.kubectl("get daskautoscalers --output name").run().await?;
        assert_eq!(left, "", "the autoscaler goes with scale()");
        Ok(())
    })
    .await;
}
