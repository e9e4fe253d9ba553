//! A node dies with everything on it.

use std::collections::BTreeSet;

use e2e_tests::operator;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

use crate::{
    fixtures::{cluster, workers_of},
    harness::{PATIENCE, alone},
};

const SAFE: &str = "node1";
const DOOMED: &str = "node2";

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn lives(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

fn names<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> BTreeSet<String> {
    pods.into_iter().map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn workers_of_a_dead_node_are_replaced_on_another() {
    alone("node-killed", async |scenario| {
        let testbed = scenario.kubernetes.testbed().expect("the tests run on the local cluster");
        let mut manifest = cluster("spread", 4);
        let scheduler = &mut manifest["spec"]["scheduler"]["spec"];
        scheduler["nodeSelector"] = json!({"kubernetes.io/hostname": SAFE});
        // The scheduler finds out sooner that a machine does not answer any more.
        scheduler["containers"][0]["env"] = json!([{"name": "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", "value": "12s"}]);
        manifest["spec"]["worker"]["spec"]["topologySpreadConstraints"] = json!([{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"dask.org/cluster-name": "spread", "dask.org/component": "worker"}},
        }]);
        scenario.apply(&manifest).await?;
        scenario.ready("spread", 4).await?;
        let workers = scenario.workers("spread").await?;
        let doomed = names(workers.iter().filter(|pod| node(pod) == Some(DOOMED)));
        let safe = names(workers.iter().filter(|pod| node(pod) == Some(SAFE)));
        assert!(!doomed.is_empty() && !safe.is_empty(), "{doomed:?} and {safe:?}");

        testbed.kill_node(DOOMED).await?;
        let moved = |pods: &[Pod]| {
            let alive: Vec<_> = pods.iter().filter(|pod| lives(pod)).collect();
            alive.len() == 4 && alive.iter().all(|pod| node(pod) == Some(SAFE))
        };
        let workers = scenario.pods(&workers_of("spread"), "4 workers on the other node", moved).await?;
        let alive = names(workers.iter().filter(|pod| lives(pod)));
        assert!(alive.is_superset(&safe), "{safe:?} were safe, {alive:?} live");
        assert!(alive.is_disjoint(&doomed), "{doomed:?} died, {alive:?} live");
        scenario.ready("spread", 4).await?;
        let client = scenario.client_pod().await?;
        let connected = client.wait_for_workers("spread", 4, PATIENCE).await?;
        assert_eq!(connected.into_iter().collect::<BTreeSet<_>>(), alive);
        client.compute("spread", 1000).await?;

        testbed.restart_node(DOOMED).await?;
        let settled = |pods: &[Pod]| pods.len() == 4;
        let workers = scenario.pods(&workers_of("spread"), "the same 4 workers and no others", settled).await?;
        assert_eq!(names(&workers), alive, "the dead are gone and nobody was moved back");
        scenario.ready("spread", 4).await?;
        // The next test finds what this one found.
        let patience = PATIENCE.as_secs();
        let whole = format!("rollout status deployment/{0} --namespace {0} --timeout {patience}s", operator::RELEASE);
        scenario.kubernetes.kubectl(&whole).deadline(PATIENCE * 2).run().await?;
        Ok(())
    })
    .await;
}
