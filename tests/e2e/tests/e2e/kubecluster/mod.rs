//! Unmodified `dask_kubernetes.operator.KubeCluster`, from a pod and from outside.

mod custom;
mod groups;
mod life;
mod outside;
mod scaling;

use e2e_tests::{Error, notebook::Notebook};
use serde::de::DeserializeOwned;

use crate::harness::{Scenario, shared};

/// Runs a script in a pod with a notebook's rights, in a namespace of its own.
async fn inside<T: DeserializeOwned>(name: &str, script: &str, check: impl AsyncFnOnce(&Scenario, T)) {
    shared(name, async |scenario| {
        let notebook = Notebook::inside(scenario.kubernetes, &scenario.namespace).await?;
        let answer = notebook.run(script, &scenario.namespace, name).await?;
        check(scenario, answer).await;
        Ok::<(), Error>(())
    })
    .await;
}
