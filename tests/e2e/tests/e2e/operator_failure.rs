//! The operator dies at a bad moment.

use std::collections::BTreeSet;

use dask_operator_api::labels::ORDINAL;
use e2e_tests::operator;
use kube::ResourceExt;

use crate::{
    fixtures::{cluster, workers_of},
    harness::{PATIENCE, alone},
};

#[tokio::test]
async fn all_replicas_killed_while_scaling_leave_no_duplicate() {
    alone("operator-killed", async |scenario| {
        scenario.apply(cluster("steady", 2)).await?;
        scenario.ready("steady", 2).await?;
        let client = scenario.client_pod().await?;
        let before: BTreeSet<_> =
            operator::ready_pods(&scenario.client).await?.iter().map(ResourceExt::name_any).collect();
        assert_eq!(before.len(), 2, "{before:?}");

        let kill = format!(
            "delete pods --namespace {} --selector {} --force --grace-period=0",
            operator::RELEASE,
            operator::SELECTOR
        );
        let (scaled, killed) =
            tokio::join!(scenario.scale("steady", 8), scenario.kubernetes.kubectl(&kill).run());
        scaled?;
        killed?;

        scenario.ready("steady", 8).await?;
        let after: BTreeSet<_> =
            operator::ready_pods(&scenario.client).await?.iter().map(ResourceExt::name_any).collect();
        assert!(before.is_disjoint(&after), "{before:?} were to be killed, {after:?} run");
        let workers = scenario.pods(&workers_of("steady"), "8 workers", |pods| pods.len() == 8).await?;
        // Every worker that ever was has an ordinal of its own, so there never was a ninth.
        let mut ordinals: Vec<i64> =
            workers.iter().map(|pod| pod.annotations()[ORDINAL].parse().unwrap()).collect();
        ordinals.sort_unstable();
        assert_eq!(ordinals, (1..=8).collect::<Vec<_>>());
        let status = scenario.group("steady-default").await?.status.unwrap_or_default();
        assert_eq!(status.highest_ordinal, 8);
        client.wait_for_workers("steady", 8, PATIENCE).await?;
        Ok(())
    })
    .await;
}
