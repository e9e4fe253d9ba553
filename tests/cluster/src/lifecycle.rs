//! Bringing a cluster up and taking it down, whatever state it is in.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    addresses::Names,
    cgroups::{self, Hierarchy},
    command,
    config::{self, ClusterConfig},
    control_plane, firewall, network,
    nodes::{self, Change},
    process, requirements,
    state::{self, State},
    tools, wait, workspace,
};

/// SIGKILL takes effect at once, but a process in a system call, or a container's, may take a moment.
const KILL_PATIENCE: Duration = Duration::from_secs(20);

/// A busy machine answers late; a cluster whose processes all run is given this long before it is called broken.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Why a cluster could not be brought up, used or taken down.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is impossible.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// State on disk.
    #[error(transparent)]
    State(#[from] state::Error),
    /// A program is missing.
    #[error(transparent)]
    Tools(#[from] tools::Error),
    /// The control plane.
    #[error(transparent)]
    ControlPlane(#[from] control_plane::Error),
    /// A process.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The nodes.
    #[error(transparent)]
    Nodes(#[from] nodes::Error),
    /// Something that nodes need is missing.
    #[error(transparent)]
    Requirements(#[from] requirements::Missing),
    /// The network.
    #[error("failed to change the network of cluster {name}")]
    Network {
        /// Which cluster.
        name: String,
        /// What `ip` answered.
        source: command::Error,
    },
    /// The host's firewall.
    #[error(transparent)]
    Firewall(#[from] firewall::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroups(#[from] cgroups::Error),
    /// The running cluster of this name is another one.
    #[error(
        "cluster {name:?} runs with another configuration ({running}; wanted: {wanted}): \
         run `dask-testbed down --name {name}` first, or choose another name"
    )]
    Different {
        /// Which cluster.
        name: String,
        /// Its configuration.
        running: String,
        /// What was asked for.
        wanted: String,
    },
    /// There is no such cluster.
    #[error("cluster {name:?} does not run: start it with `dask-testbed up --name {name}`")]
    NotRunning {
        /// Which cluster.
        name: String,
    },
    /// The runtime ended before the work began.
    #[error("failed to finish: the async runtime is shutting down")]
    Cancelled,
    /// The state folder could not be removed.
    #[error("failed to remove {path}")]
    Remove {
        /// Which folder.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// Makes the cluster run, unless it does already.
pub(crate) fn up(config: &ClusterConfig) -> Result<State, Error> {
    config.validate()?;
    let _lock = state::lock_cluster(&config.name)?;
    let state_dir = workspace::state_dir(&config.name);
    if let Some(state) = healthy(&state_dir) {
        if state.config != *config {
            return Err(Error::Different {
                name: config.name.clone(),
                running: describe(&state.config),
                wanted: describe(config),
            });
        }
        nodes::revive(&state_dir, &state)?;
        tracing::info!("cluster {} runs already", config.name);
        return Ok(state);
    }
    clean(&state_dir)?;
    let start = Instant::now();
    let result = create(config, &state_dir);
    if result.is_err() {
        // The logs stay. A second failure here would hide the first, and the next `up` tries again.
        let _ = stop(&state_dir);
    }
    if let Ok(state) = &result {
        tracing::info!(
            "cluster {} ready after {:.1} s: {}",
            config.name,
            start.elapsed().as_secs_f32(),
            state.api_server_url()
        );
    }
    result
}

fn create(config: &ClusterConfig, state_dir: &Path) -> Result<State, Error> {
    if !config.api_only {
        requirements::check_nodes()?;
        nodes::make_images()?;
    }
    for dir in ["log", "run"] {
        state::make_dir(&state_dir.join(dir))?;
    }
    let mut state = reserve(config, state_dir)?;
    let authority = control_plane::write_pki(state_dir, &state)?;
    control_plane::start_api(state_dir, &state)?;
    // Nodes start beside the control plane; kubelets ask for the API server until it answers.
    std::thread::scope(|scope| {
        let nodes = scope.spawn(|| nodes::start(state_dir, &state, &authority));
        let control_plane = start_control_plane(state_dir, &state);
        nodes.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        control_plane
    })?;
    nodes::deploy_dns(state_dir, &state)?;
    nodes::wait_ready(state_dir, &state)?;
    state.complete = true;
    state.save(state_dir)?;
    Ok(state)
}

/// Chooses ports and addresses and takes them, before anybody else on this machine can.
fn reserve(config: &ClusterConfig, state_dir: &Path) -> Result<State, Error> {
    let network_error = |source| Error::Network { name: config.name.clone(), source };
    let _machine = state::lock_machine()?;
    let used = if config.api_only { Vec::new() } else { network::used_networks().map_err(network_error)? };
    let state = State::plan(config, &tools::version(), &used)?;
    state.save(state_dir)?;
    if let Some(network) = nodes::network(state_dir, &state) {
        network.create_fabric().map_err(network_error)?;
        network.open_firewall(state.api_server_port())?;
    }
    Ok(state)
}

fn start_control_plane(state_dir: &Path, state: &State) -> Result<(), Error> {
    control_plane::wait_ready(state_dir, state)?;
    control_plane::start_controllers(state_dir, state)?;
    control_plane::wait_controllers(state_dir, state)?;
    Ok(())
}

/// The cluster in this folder if it can be used: complete, of our version, with its control plane alive and ready.
pub(crate) fn healthy(state_dir: &Path) -> Option<State> {
    let state = State::load(state_dir)?;
    let usable = state.complete
        && state.tools == tools::version()
        && wait::until(ANSWER_PATIENCE, || {
            !runs(state_dir, &state) || control_plane::is_ready(state_dir, &state)
        })
        && runs(state_dir, &state);
    usable.then_some(state)
}

/// Whether every process of the control plane is there.
fn runs(state_dir: &Path, state: &State) -> bool {
    control_plane::missing(state_dir, state).is_empty()
}

/// Takes a cluster down, and cleans what a crash left of it. Nothing to do is no error.
pub(crate) fn down(name: &str) -> Result<(), Error> {
    config::validate_name(name)?;
    let lock = state::lock_cluster(name)?;
    clean(&workspace::state_dir(name))?;
    lock.discard();
    Ok(())
}

/// Kills, restarts or disconnects a node.
pub(crate) fn change_node(state_dir: &Path, state: &State, node: &str, change: Change) -> Result<(), Error> {
    let _lock = state::lock_cluster(&state.config.name)?;
    Ok(nodes::change(state_dir, state, node, change)?)
}

/// Removes everything on this machine that belongs to the cluster with this state folder.
fn clean(state_dir: &Path) -> Result<(), Error> {
    stop(state_dir)?;
    match fs::remove_dir_all(state_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Remove { path: state_dir.to_owned(), source: error })
        }
        _gone => Ok(()),
    }
}

/// Ends all processes of a cluster and removes everything it has outside its folder.
fn stop(state_dir: &Path) -> Result<(), Error> {
    process::kill_all(&process::all(state_dir), KILL_PATIENCE)?;
    let names = Names::of(state_dir);
    let hierarchy = Hierarchy::of_machine();
    hierarchy.remove_all(&names.prefix(), KILL_PATIENCE)?;
    hierarchy.restore()?;
    remove_network(state_dir, &names)
}

fn remove_network(state_dir: &Path, names: &Names) -> Result<(), Error> {
    if !network::has_remains(names) {
        return Ok(());
    }
    let _machine = state::lock_machine()?;
    network::remove(names).map_err(|source| Error::Network { name: name_of(state_dir), source })
}

fn name_of(state_dir: &Path) -> String {
    state_dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A configuration in the words of the command line.
fn describe(config: &ClusterConfig) -> String {
    let mut words = if config.api_only { "API tier".to_owned() } else { format!("{} nodes", config.nodes) };
    for (set, word) in [
        (config.api_only && config.controller_manager, "controller manager"),
        (config.audit_log, "audit log"),
        (config.fast_node_failure, "fast node failure"),
    ] {
        if set {
            words.push_str(", ");
            words.push_str(word);
        }
    }
    if let Some(qps) = config.controller_qps {
        let _ = write!(words, ", {qps} controller requests/s");
    }
    words
}

/// Names of all clusters of this data folder: those with a state folder, and those of which only processes are left.
#[must_use]
pub fn names() -> Vec<String> {
    let clusters = workspace::clusters_dir();
    let dirs = state::clusters().into_iter().chain(process::all_marked().into_iter().map(|(_, dir)| dir));
    let mut names: Vec<String> = dirs
        .filter(|dir| dir.parent() == Some(&clusters))
        .filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case(ClusterConfig::api_only("a"), "API tier")]
    #[case(ClusterConfig::api_only("a").with_controller_manager(), "API tier, controller manager")]
    #[case(ClusterConfig::with_nodes("a", 3), "3 nodes")]
    #[case(
        ClusterConfig::with_nodes("a", 1).with_audit_log().with_fast_node_failure().with_controller_qps(90),
        "1 nodes, audit log, fast node failure, 90 controller requests/s"
    )]
    fn configuration_is_told_in_words(#[case] config: ClusterConfig, #[case] words: &str) {
        assert_eq!(describe(&config), words);
    }

    #[test]
    fn folder_without_state_is_no_healthy_cluster() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(healthy(dir.path()), None);
    }

    #[test]
    fn cleaning_what_is_not_there_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        clean(&dir.path().join("never-was")).unwrap();
    }
}
