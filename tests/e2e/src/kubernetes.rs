//! The Kubernetes to work on, and the programs to work on it with.

use std::{
    fs,
    path::{Path, PathBuf},
};

use kube::config::{KubeConfigOptions, Kubeconfig};
use testbed::{Cluster, ClusterConfig, tools};

use crate::{Error, command::Invocation};

/// A Kubernetes: the local one, or one that was there already.
#[derive(Debug)]
pub struct Kubernetes {
    kubeconfig: PathBuf,
    namespace: String,
    kubectl: PathBuf,
    helm: PathBuf,
    local: Option<Cluster>,
}

impl Kubernetes {
    /// Brings the local one up, or finds it running.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn local(config: ClusterConfig) -> Result<Self, Error> {
        let cluster = Cluster::up(config).await?;
        let kubeconfig = cluster.kubeconfig_path().to_owned();
        Ok(Self { local: Some(cluster), ..Self::existing(kubeconfig).await? })
    }

    /// Takes the one that the current context of a kubeconfig names.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used, or kubectl and helm are not built.
    pub async fn existing(kubeconfig: PathBuf) -> Result<Self, Error> {
        let namespace = config(&kubeconfig).await?.default_namespace;
        Ok(Self {
            kubeconfig,
            namespace,
            kubectl: tools::path("kubectl")?,
            helm: tools::path("helm")?,
            local: None,
        })
    }

    /// The namespace of the kubeconfig's current context.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The kubectl that belongs to this checkout.
    #[must_use]
    pub fn kubectl_path(&self) -> &Path {
        &self.kubectl
    }

    /// The local cluster, if it is that.
    #[must_use]
    pub fn testbed(&self) -> Option<&Cluster> {
        self.local.as_ref()
    }

    /// kubectl with the words of a line as arguments.
    #[must_use]
    pub fn kubectl(&self, line: &str) -> Invocation {
        Invocation::new(&self.kubectl).env("KUBECONFIG", &self.kubeconfig).words(line)
    }

    /// helm with the words of a line as arguments. Nothing of the user's own helm is read or changed.
    #[must_use]
    pub fn helm(&self, line: &str) -> Invocation {
        let home = testbed::workspace::data_dir().join("helm");
        let mut helm = Invocation::new(&self.helm).env("KUBECONFIG", &self.kubeconfig);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm = helm.env(variable, &home);
        }
        helm.words(line)
    }

    /// A client of the API server. Each async runtime needs its own.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<kube::Client, Error> {
        let config = config(&self.kubeconfig).await?;
        kube::Client::try_from(config).map_err(|error| kubeconfig_error(&self.kubeconfig, error))
    }

    /// Imports an image archive on every node of the local cluster, unless it was imported before. Returns whether
    /// there was something to do.
    ///
    /// # Errors
    /// When a node refuses it.
    pub async fn load(&self, archive: &Path) -> Result<bool, Error> {
        let Some(cluster) = &self.local else { return Ok(false) };
        // Archives are named by their content, and the nodes' disks live and die with the state folder.
        let dir = cluster.state_dir().join("loaded");
        let mark = dir.join(archive.file_name().unwrap_or_default());
        if mark.exists() {
            return Ok(false);
        }
        cluster.load_image(archive).await?;
        let written = fs::create_dir_all(&dir).and_then(|()| fs::write(&mark, ""));
        written.map_err(|source| Error::Read { path: mark, source })?;
        Ok(true)
    }
}

async fn config(kubeconfig: &Path) -> Result<kube::Config, Error> {
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| kubeconfig_error(kubeconfig, error))?;
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    config.map_err(|error| kubeconfig_error(kubeconfig, error))
}

fn kubeconfig_error(path: &Path, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Kubeconfig { path: path.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_kubeconfig_is_named() {
        let error = Kubernetes::existing("/no/such/kubeconfig".into()).await.unwrap_err().to_string();
        assert!(error.contains("/no/such/kubeconfig"), "{error}");
    }
}
