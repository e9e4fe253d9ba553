//! `custom_cluster_spec`, environment and resources.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::inside;

const SCRIPT: &str = include_str!("../../../python/kubecluster/custom.py");

#[derive(Debug, Deserialize)]
struct Custom {
    seen: BTreeMap<String, Option<String>>,
    mounted: bool,
    scheduler: Option<String>,
    name: String,
}

#[tokio::test]
async fn a_specification_of_ones_own_reaches_the_pods() {
    inside("custom", &[SCRIPT], async |_, custom: Custom| {
        let seen = |variable: &str| custom.seen[variable].as_deref().unwrap_or_default();
        assert_eq!((seen("GREETING"), seen("OWN")), ("hello world", "a=b"));
        assert!(seen("DASK_WORKER_NAME").starts_with("custom-default-worker-"), "{custom:?}");
        assert_eq!(custom.scheduler.as_deref(), Some("hello world"));
        assert!(custom.mounted, "{custom:?}");
        assert_eq!(custom.name, "custom");
        Ok(())
    })
    .await;
}
