//! dask-kubernetes' own operator, from its own Helm chart, to move from and to.
//!
//! Chart and program are those of the Python package `dask-kubernetes`. The chart relies on an image whose entry point
//! is `kopf run`; the Dask test image has none, so the chart's Deployment gets the command.

use std::{fs, path::PathBuf};

use testbed::{images::DASK, workspace};

use crate::{Error, Kubernetes, command::Invocation, packages};

/// Name of the release, of its Deployment and of its namespace.
pub const RELEASE: &str = "dask-kubernetes-operator";

const COMMAND: &str = "command: [tini, --, python, -m, kopf, run, -m, dask_kubernetes.operator.controller]";

/// A copy of its chart, with the command.
///
/// # Errors
/// When the package cannot be unpacked or copied.
pub async fn chart() -> Result<PathBuf, Error> {
    let original = packages::unpacked().await?.join("dask_kubernetes/operator/deployment/helm").join(RELEASE);
    let copy = workspace::data_dir().join("helm").join(RELEASE);
    let read = |source| Error::Read { path: copy.clone(), source };
    if copy.exists() {
        fs::remove_dir_all(&copy).map_err(read)?;
    }
    fs::create_dir_all(copy.parent().unwrap_or(&copy)).map_err(read)?;
    Invocation::new("cp").args(["--recursive"]).args([&original, &copy]).run().await?;
    let template = copy.join("templates/deployment.yaml");
    let text = fs::read_to_string(&template).map_err(read)?;
    fs::write(&template, with_command(&text)).map_err(read)?;
    Ok(copy)
}

/// Replaces the resource definitions by upstream's, as its chart installs them. Objects stay.
///
/// # Errors
/// When the API server refuses.
pub async fn install_definitions(kubernetes: &Kubernetes) -> Result<(), Error> {
    kubernetes.kubectl("replace -f").args([chart().await?.join("crds")]).run().await?;
    Ok(())
}

/// Installs it for all namespaces and waits until it runs. Helm leaves definitions that are there alone.
///
/// # Errors
/// When it does not start.
pub async fn install(kubernetes: &Kubernetes) -> Result<(), Error> {
    let (image, tag) = DASK.rsplit_once(':').unwrap_or((DASK, "latest"));
    let install = kubernetes
        .helm(&format!("upgrade --install {RELEASE}"))
        .args([chart().await?])
        .words(&format!("--namespace {RELEASE} --create-namespace --wait --timeout 50s"))
        .words(&format!("--set image.name={image} --set-string image.tag={tag}"));
    install.run().await?;
    Ok(())
}

/// Removes it; what it manages stays.
///
/// # Errors
/// When helm fails.
pub async fn uninstall(kubernetes: &Kubernetes) -> Result<(), Error> {
    let uninstall = format!("uninstall {RELEASE} --namespace {RELEASE} --wait --ignore-not-found");
    kubernetes.helm(&uninstall).run().await?;
    let namespace = format!("delete namespace {RELEASE} --ignore-not-found --wait=false");
    kubernetes.kubectl(&namespace).run().await?;
    Ok(())
}

/// The Deployment of the chart with the command that its image would have as entry point.
fn with_command(template: &str) -> String {
    template.replacen("          args:\n", &format!("          {COMMAND}\n          args:\n"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_gets_its_command_and_keeps_its_arguments() {
        let template = "        - name: a\n          args:\n            - --liveness\n";
        let expected =
            format!("        - name: a\n          {COMMAND}\n          args:\n            - --liveness\n");
        assert_eq!(with_command(template), expected);
    }
}
