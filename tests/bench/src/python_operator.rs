//! The operator of dask-kubernetes, as its users run it, for comparison.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::background::Background;
use crate::wait::wait_for;

const REQUIREMENT: &str = "dask-kubernetes==2026.3.0";
/// What it asks for besides what the Dask test image has, pinned: pip would try a hundred releases.
const REQUIREMENTS: [&str; 17] = [
    REQUIREMENT,
    "aiohttp-retry==2.9.1",
    "annotated-types==0.8.0",
    "charset-normalizer==3.5.3",
    "durationpy==0.11",
    "kubernetes-asyncio==36.1.0",
    "kubernetes==37.0.2",
    "oauthlib==4.0.1",
    "pydantic-core==2.50.5",
    "pydantic==2.14.4",
    "pykube-ng==23.6.0",
    "requests-oauthlib==2.0.0",
    "requests==2.34.2",
    "six==1.17.0",
    "typing-inspection==0.4.5",
    "urllib3==2.8.0",
    "websocket-client==1.9.2",
];
/// In its chart.
const DEFINITIONS: &str = "dask_kubernetes/operator/deployment/helm/dask-kubernetes-operator/crds";

/// The Python environment that it runs in; made the first time, from the package index.
#[derive(Clone, Debug)]
pub struct Installation {
    folder: PathBuf,
}

impl Installation {
    /// Makes it, or finds it.
    ///
    /// # Errors
    /// When the packages cannot be had.
    pub async fn find() -> Result<Self> {
        let made = tokio::task::spawn_blocking(|| testbed::python::environment(&REQUIREMENTS)).await?;
        Ok(Self { folder: made.with_context(|| format!("failed to install {REQUIREMENT}"))? })
    }

    /// The folder with its custom resource definitions.
    ///
    /// # Errors
    /// When the package has none.
    pub fn definitions(&self) -> Result<PathBuf> {
        let versions = fs::read_dir(self.folder.join("lib")).context("failed to read the environment")?;
        let mut places = versions.filter_map(|entry| {
            let place = entry.ok()?.path().join("site-packages").join(DEFINITIONS);
            place.is_dir().then_some(place)
        });
        places.next().with_context(|| format!("{REQUIREMENT} has no definitions"))
    }

    /// Its Python, which has the client too.
    #[must_use]
    pub fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// Starts it and waits until it watches.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(&self, kubeconfig: &Path, log: &Path) -> Result<PythonOperator> {
        let port = crate::operator::free_port().await?;
        let file = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(self.python());
        command
            .args(["-m", "kopf", "run", "-m", "dask_kubernetes.operator.controller", "--all-namespaces"])
            .arg(format!("--liveness=http://127.0.0.1:{port}/healthz"))
            .env("KUBECONFIG", kubeconfig);
        let operator = PythonOperator { _process: Background::start(&mut command, file)? };
        wait_for("kopf to be alive", async || {
            crate::operator::answers(port, "/healthz").await.unwrap_or(false)
        })
        .await
        .with_context(|| format!("see {}", log.display()))?;
        Ok(operator)
    }
}

/// The running operator; it ends when this is dropped.
#[derive(Debug)]
pub struct PythonOperator {
    _process: Background,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_found_whatever_the_version_of_python() {
        let folder = std::env::temp_dir().join(format!("dask-operator-bench-env-{}", std::process::id()));
        let place = folder.join("lib/python3.99/site-packages").join(DEFINITIONS);
        fs::create_dir_all(&place).unwrap();
        let found = Installation { folder: folder.clone() }.definitions().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, place);
        let error = Installation { folder }.definitions().unwrap_err().to_string();
        assert!(error.contains("environment"), "{error}");
    }
}
