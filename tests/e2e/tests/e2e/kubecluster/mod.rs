//! Unmodified `dask_kubernetes.operator.KubeCluster`, from a pod and from outside.

mod adapt;
mod custom;
mod groups;
mod life;
mod outside;
mod today;

use e2e_tests::{
    Error,
    notebook::{Names, Notebook, SCALING, Shrinking},
};
use serde::de::DeserializeOwned;
use testbed::images::DASK;

use crate::harness::{Scenario, shared};

/// Runs scripts in a pod with a notebook's rights, in a namespace of its own.
async fn inside<T: DeserializeOwned>(
    name: &str,
    scripts: &[&str],
    check: impl AsyncFnOnce(&Scenario, T) -> Result<(), Error>,
) {
    inside_of(DASK, name, scripts, check).await;
}

/// The same with another image for the pods of the cluster.
async fn inside_of<T: DeserializeOwned>(
    image: &str,
    name: &str,
    scripts: &[&str],
    check: impl AsyncFnOnce(&Scenario, T) -> Result<(), Error>,
) {
    shared(name, async |scenario| {
        let namespace = scenario.namespace.as_str();
        let notebook = Notebook::start(scenario.kubernetes, namespace, "notebook", DASK).await?;
        let answer = notebook.run(scripts, Names { namespace, cluster: name, image }).await?;
        check(scenario, answer).await
    })
    .await;
}

/// What a cluster was played with, one scene after the other; each has its own check.
#[derive(Debug, serde::Deserialize)]
struct Everything {
    life: life::Life,
    scaling: Shrinking,
    groups: groups::Groups,
    left: bool,
}

#[tokio::test]
async fn a_notebook_in_a_pod_needs_no_more_rights_than_documented() {
    let scripts = [life::SCRIPT, SCALING, groups::SCRIPT, "play(life, scaling, groups)"];
    inside("inside", &scripts, async |scenario, seen: Everything| {
        seen.life.check("inside");
        // It may not list the clusters of all namespaces, which discover() hides.
        assert!(seen.life.discovered.is_empty(), "{seen:?}");
        assert_eq!(seen.scaling.clone().checked()?.workers, [4, 2]);
        seen.groups.check("inside");
        assert!(!seen.left, "close() returned before the cluster was gone");
        let left = scenario.kubectl("get daskclusters,daskautoscalers --output name").run().await?;
        assert_eq!(left, "");
        Ok(())
    })
    .await;
}
