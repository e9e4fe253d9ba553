//! Today's Dask, whose images lack the commands that `KubeCluster` calls.

use serde::Deserialize;
use testbed::images::DASK_TODAY;

use super::inside_of;

const SCRIPT: &str = include_str!("../../../python/kubecluster/today.py");

#[derive(Debug, Deserialize)]
struct Today {
    totals: Vec<u64>,
    modules: bool,
}

#[tokio::test]
async fn a_kube_cluster_whose_image_lacks_the_old_commands() {
    inside_of(DASK_TODAY, "today", &[SCRIPT], async |scenario, seen: Today| {
        assert_eq!(seen.totals, [4950, 4950], "{seen:?}");
        assert!(seen.modules, "the scheduler loads the operator's module: {seen:?}");
        let events = "get events --field-selector reason=CommandReplaced --output jsonpath={.items[*].type}";
        let told = scenario.kubectl(events).run().await?;
        // Of the first cluster alone: of the second it was known.
        assert!(told.split_whitespace().all(|type_| type_ == "Normal"), "{told}");
        assert!((1..=2).contains(&told.split_whitespace().count()), "{told}");
        Ok(())
    })
    .await;
}
