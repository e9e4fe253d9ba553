//! The operator as Helm installed it.

use std::collections::BTreeSet;

use e2e_tests::{
    Error, operator,
    wait::{self, Look},
};
use kube::ResourceExt;

use crate::harness::{PATIENCE, shared};

#[tokio::test]
async fn two_replicas_run_on_two_nodes_and_one_leads() {
    shared("release", async |scenario| {
        let leader = wait::until("one of two ready operator pods to lead", PATIENCE, async || {
            let pods = operator::ready_pods(&scenario.client).await?;
            let holder = operator::leader(&scenario.client).await?.unwrap_or_default();
            let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
            let leads = names.len() == 2 && names.iter().any(|name| holder.contains(name.as_str()));
            Ok(if leads { Look::Done(holder) } else { Look::NotYet(format!("{names:?}, holder {holder:?}")) })
        })
        .await?;
        let pods = operator::ready_pods(&scenario.client).await?;
        let nodes: BTreeSet<_> =
            pods.iter().filter_map(|pod| pod.spec.as_ref()?.node_name.as_deref()).collect();
        assert_eq!(nodes.len(), 2, "{leader} leads, replicas are on {nodes:?}");

        let kubectl = |line: &str| scenario.kubernetes.kubectl(line);
        let level = "get namespace dask-operator --output jsonpath={.metadata.labels.pod-security\\.kubernetes\\.io/enforce}";
        assert_eq!(kubectl(level).run().await?, "restricted");
        let policies = kubectl("get networkpolicies --all-namespaces --output name").run().await?;
        assert_eq!(policies, "");
        let rights = "auth can-i --list --as system:serviceaccount:dask-operator:dask-operator";
        let rights = kubectl(rights).run().await?;
        assert!(!rights.contains("secrets") && !rights.contains("*.*"), "{rights}");
        Ok::<(), Error>(())
    })
    .await;
}
