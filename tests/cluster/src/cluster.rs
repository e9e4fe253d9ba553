//! The handle that tests hold.

use std::path::{Path, PathBuf};

use crate::{
    addresses::Names,
    config::ClusterConfig,
    control_plane,
    lifecycle::{self, Error},
    nodes::{self, Change},
    state::State,
    workspace,
};

/// A running cluster. Dropping the handle leaves the cluster running; [`Cluster::down`] ends it.
#[derive(Debug, Clone)]
pub struct Cluster {
    state: State,
    state_dir: PathBuf,
    kubeconfig: PathBuf,
}

impl Cluster {
    fn new(state: State) -> Self {
        let state_dir = workspace::state_dir(&state.config.name);
        Self { kubeconfig: control_plane::admin_kubeconfig(&state_dir), state, state_dir }
    }

    /// Brings a cluster up and returns when it can be used. One that runs under this name already is taken as it
    /// is if its configuration is the same; what a crash or a reboot left of one is removed first.
    ///
    /// # Errors
    /// When the configuration is impossible or differs from the running one, something that is needed is missing,
    /// or a part does not become ready; the message then holds the end of its log.
    pub async fn up(config: ClusterConfig) -> Result<Self, Error> {
        blocking(move || lifecycle::up(&config)).await.map(Self::new)
    }

    /// The cluster that runs under this name.
    ///
    /// # Errors
    /// When there is none.
    pub async fn attach(name: &str) -> Result<Self, Error> {
        let name = name.to_owned();
        blocking(move || lifecycle::healthy(&workspace::state_dir(&name)).ok_or(Error::NotRunning { name }))
            .await
            .map(Self::new)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.config.name
    }

    /// What it was asked to be.
    #[must_use]
    pub fn config(&self) -> &ClusterConfig {
        &self.state.config
    }

    /// The administrator's kubeconfig, with all credentials inside.
    #[must_use]
    pub fn kubeconfig_path(&self) -> &Path {
        &self.kubeconfig
    }

    /// The folder with everything of this cluster; logs are in `log/`.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The API server's audit log, one JSON object a line; written only if the configuration asks for it.
    #[must_use]
    pub fn audit_log_path(&self) -> PathBuf {
        control_plane::audit_log(&self.state_dir)
    }

    /// `https://<address>:<port>`.
    #[must_use]
    pub fn api_server_url(&self) -> String {
        self.state.api_server_url()
    }

    /// What the names of its network link, network namespaces and control groups start with.
    #[must_use]
    pub fn resource_prefix(&self) -> String {
        Names::of(&self.state_dir).prefix()
    }

    /// Names of the nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<String> {
        self.state.nodes()
    }

    /// Imports an OCI archive into the store of every node that runs, in parallel. Returns at once where a node has
    /// the same image under the same names already.
    ///
    /// # Errors
    /// When the archive cannot be read or a node refuses it.
    pub async fn load_image(&self, archive: &Path) -> Result<(), Error> {
        let (state, state_dir, archive) = (self.state.clone(), self.state_dir.clone(), archive.to_owned());
        blocking(move || Ok(nodes::load(&state_dir, &state, &archive)?)).await
    }

    /// Ends a node as a power cut does: every container on it dies at once. Its disk stays.
    ///
    /// # Errors
    /// When there is no such node, or the kernel does not let go of it.
    pub async fn kill_node(&self, node: &str) -> Result<(), Error> {
        self.change_node(node, Change::Kill).await
    }

    /// Starts a node again, after a kill or as a hard reset, with the images it had. Returns when it runs; its
    /// kubelet reports Ready a second later.
    ///
    /// # Errors
    /// When there is no such node, or it does not start.
    pub async fn restart_node(&self, node: &str) -> Result<(), Error> {
        self.change_node(node, Change::Restart).await
    }

    /// Cuts a node off from host and other nodes. Everything on it goes on running.
    ///
    /// # Errors
    /// When there is no such node, or it is dead.
    pub async fn partition_node(&self, node: &str) -> Result<(), Error> {
        self.change_node(node, Change::Partition).await
    }

    /// Ends a partition.
    ///
    /// # Errors
    /// When there is no such node, or it is dead.
    pub async fn heal_node(&self, node: &str) -> Result<(), Error> {
        self.change_node(node, Change::Heal).await
    }

    async fn change_node(&self, node: &str, change: Change) -> Result<(), Error> {
        let (state, state_dir, node) = (self.state.clone(), self.state_dir.clone(), node.to_owned());
        blocking(move || lifecycle::change_node(&state_dir, &state, &node, change)).await
    }

    /// Ends the cluster and removes everything it had on this machine.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub async fn down(self) -> Result<(), Error> {
        down(self.name()).await
    }
}

/// Ends the cluster of this name, or cleans up what a crash left of it; nothing to do is no error.
///
/// # Errors
/// When something cannot be removed.
pub async fn down(name: &str) -> Result<(), Error> {
    let name = name.to_owned();
    blocking(move || lifecycle::down(&name)).await
}

/// Everything here waits for processes and files. It runs to its end even if the caller stops waiting, so that a
/// cancelled test leaves a whole cluster or none.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_cancelled) => Err(Error::Cancelled),
    }
}
