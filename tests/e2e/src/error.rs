//! Why something could not be shown or tested.

use std::{io, path::PathBuf};

use crate::{command, dashboard, dask, images, manifest};

/// Any of it: callers only ever print it, together with a diagnosis of the cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// The local Kubernetes.
    #[error(transparent)]
    Testbed(#[from] testbed::Error),
    /// A program of the local Kubernetes.
    #[error(transparent)]
    Tools(#[from] testbed::tools::Error),
    /// A container image.
    #[error(transparent)]
    Image(#[from] images::Error),
    /// A manifest.
    #[error(transparent)]
    Manifest(#[from] manifest::Error),
    /// A script on a Dask cluster.
    #[error(transparent)]
    Dask(#[from] dask::Error),
    /// The dashboard.
    #[error(transparent)]
    Dashboard(#[from] dashboard::Error),
    /// The kubeconfig.
    #[error("failed to use the kubeconfig {path}")]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The API server.
    #[error("failed to {action}")]
    Api {
        /// What was asked of it.
        action: String,
        /// What it answered.
        source: Box<kube::Error>,
    },
    /// A file.
    #[error("failed to read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Something that had to happen did not.
    #[error("failed to see {what} within {seconds} s; seen instead: {seen}")]
    Timeout {
        /// What was awaited.
        what: String,
        /// How long.
        seconds: u64,
        /// What was seen last.
        seen: String,
    },
}

impl Error {
    /// Wraps an answer of the API server.
    pub fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        |source| Self::Api { action, source: Box::new(source) }
    }
}
