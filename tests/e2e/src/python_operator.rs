//! dask-kubernetes' own operator, from its own Helm chart, to move from and to.
//!
//! Chart and program are those of the Python package in the Dask test image. The chart relies on an image whose entry
//! point is `kopf run`; ours has none, so the rendered Deployment gets the command.

use std::path::PathBuf;

use testbed::images::DASK;

use crate::{Error, Kubernetes, notebook};

/// Name of the release, of its Deployment and of its namespace.
pub const RELEASE: &str = "dask-python-operator";

/// Selects its pods.
pub const SELECTOR: &str = "app.kubernetes.io/name=dask-kubernetes-operator";

const COMMAND: &str =
    "command: [python, -m, kopf, run, --standalone, -m, dask_kubernetes.operator.controller]";

/// Its chart.
///
/// # Errors
/// When the packages cannot be unpacked.
pub async fn chart() -> Result<PathBuf, Error> {
    let packages = notebook::packages().await?;
    Ok(packages.join("dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator"))
}

/// Replaces the resource definitions by upstream's, as its chart installs them. Objects stay.
///
/// # Errors
/// When the API server refuses.
pub async fn install_definitions(kubernetes: &Kubernetes) -> Result<(), Error> {
    let definitions = chart().await?.join("crds");
    kubernetes.kubectl("replace -f").args([definitions]).run().await?;
    Ok(())
}

/// Installs it for all namespaces, without its definitions, and waits until it runs.
///
/// # Errors
/// When it does not start.
pub async fn install(kubernetes: &Kubernetes) -> Result<(), Error> {
    let (image, tag) = DASK.rsplit_once(':').unwrap_or((DASK, "latest"));
    let render = kubernetes
        .helm(&format!("template {RELEASE}"))
        .args([chart().await?])
        .words(&format!("--namespace {RELEASE} --set fullnameOverride={RELEASE}"))
        .words(&format!("--set image.name={image} --set-string image.tag={tag}"));
    let manifests = with_command(&render.run().await?);
    let create = format!("create namespace {RELEASE} --dry-run=client --output yaml");
    let namespace = kubernetes.kubectl(&create).run().await?;
    for manifest in [namespace, manifests] {
        let apply = kubernetes.kubectl(&format!("apply --namespace {RELEASE} -f -"));
        apply.input(manifest).run().await?;
    }
    // After `stop`: the chart says nothing about replicas.
    let start = format!("scale deployment/{RELEASE} --namespace {RELEASE} --replicas=1");
    kubernetes.kubectl(&start).run().await?;
    let wait = format!("rollout status deployment/{RELEASE} --namespace {RELEASE} --timeout=50s");
    kubernetes.kubectl(&wait).run().await?;
    Ok(())
}

/// Ends its pods; what it manages stays.
///
/// # Errors
/// When they do not end.
pub async fn stop(kubernetes: &Kubernetes) -> Result<(), Error> {
    let namespaced = |line: &str| kubernetes.kubectl(&format!("{line} --namespace {RELEASE}"));
    namespaced(&format!("scale deployment/{RELEASE} --replicas=0")).run().await?;
    namespaced(&format!("wait pod --selector {SELECTOR} --for=delete --timeout=50s")).run().await?;
    Ok(())
}

/// Removes it.
///
/// # Errors
/// When the API server refuses.
pub async fn uninstall(kubernetes: &Kubernetes) -> Result<(), Error> {
    for object in [
        format!("clusterrolebinding {RELEASE}-rolebinding-cluster"),
        format!("clusterrole {RELEASE}-role-cluster"),
        format!("namespace {RELEASE} --wait=false"),
    ] {
        kubernetes.kubectl(&format!("delete --ignore-not-found {object}")).run().await?;
    }
    Ok(())
}

/// The Deployment of the chart with the command that its image would have as entry point.
fn with_command(manifests: &str) -> String {
    manifests.replacen("          args:\n", &format!("          {COMMAND}\n          args:\n"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_gets_its_command_and_keeps_its_arguments() {
        let rendered = "        - name: a\n          args:\n            - --all-namespaces\n";
        let expected = format!(
            "        - name: a\n          {COMMAND}\n          args:\n            - --all-namespaces\n"
        );
        assert_eq!(with_command(rendered), expected);
    }
}
