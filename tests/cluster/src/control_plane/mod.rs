//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler, as processes on the host.

mod arguments;
mod credentials;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    addresses::Addresses,
    command::Invocation,
    pki,
    process::{self, Daemon, ProcessId},
    state::{self, State},
    tools, wait,
};

/// A cold page cache and two busy cores make the API server slow to start; it is never this slow.
const READY_PATIENCE: Duration = Duration::from_secs(90);

pub(crate) use credentials::write_pki;

/// Why the control plane does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// A folder or file.
    #[error(transparent)]
    State(#[from] state::Error),
    /// A program is missing.
    #[error(transparent)]
    Tools(#[from] tools::Error),
    /// A process.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// A process ended instead of becoming ready.
    #[error("{component} ended instead of becoming ready; the end of {log}:\n{tail}")]
    Ended {
        /// Which one.
        component: &'static str,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A process runs but does not do its work.
    #[error("{component} was not ready after {seconds} s; the end of {log}:\n{tail}")]
    NotReady {
        /// Which one.
        component: &'static str,
        /// How long was waited.
        seconds: u64,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
}

/// The administrator's kubeconfig.
pub(crate) fn admin_kubeconfig(state_dir: &Path) -> PathBuf {
    state_dir.join("kubeconfig")
}

/// The audit log, whether it is written or not.
pub(crate) fn audit_log(state_dir: &Path) -> PathBuf {
    state_dir.join("log/audit.log")
}

/// Runs kubectl as administrator.
pub(crate) fn kubectl(state_dir: &Path) -> Result<Invocation, tools::Error> {
    let mut kubeconfig = std::ffi::OsString::from("--kubeconfig=");
    kubeconfig.push(admin_kubeconfig(state_dir));
    Ok(Invocation::new(tools::path("kubectl")?).args([kubeconfig]))
}

/// Starts etcd and the API server.
pub(crate) fn start_api(state_dir: &Path, state: &State) -> Result<(), Error> {
    start_etcd(state_dir, state)?;
    if state.config.audit_log {
        state::write_file(&state_dir.join("audit-policy.json"), arguments::audit_policy())?;
    }
    start(state_dir, "kube-apiserver", arguments::api_server_args(state_dir, state))?;
    Ok(())
}

/// Starts the controllers that the configuration asks for; they wait for the API server themselves.
pub(crate) fn start_controllers(state_dir: &Path, state: &State) -> Result<(), Error> {
    for component in controllers(state) {
        start(state_dir, component, arguments::controller_args(state_dir, state, component))?;
    }
    Ok(())
}

fn controllers(state: &State) -> impl Iterator<Item = &'static str> {
    let config = &state.config;
    let manager = config.controller_manager || !config.api_only;
    let scheduler = !config.api_only;
    [("kube-controller-manager", manager), ("kube-scheduler", scheduler)]
        .into_iter()
        .filter_map(|(component, wanted)| wanted.then_some(component))
}

/// Every process of the control plane that should run and does not.
pub(crate) fn missing(state_dir: &Path, state: &State) -> Vec<&'static str> {
    let expected = ["etcd", "kube-apiserver"].into_iter().chain(controllers(state));
    expected.filter(|component| process::running(state_dir, component).is_none()).collect()
}

fn start(state_dir: &Path, component: &str, args: Vec<String>) -> Result<ProcessId, Error> {
    let program = tools::path(component)?;
    Ok(Daemon { state_dir, name: component, program: &program, args }.start()?)
}

/// etcd keeps its data in a tmpfs that only it sees, if we may mount one: nothing to clean up, and no disk to wait
/// for. Else in a plain folder, without waiting for the disk either.
fn start_etcd(state_dir: &Path, state: &State) -> Result<(), Error> {
    let data_dir = state_dir.join("etcd");
    state::make_dir(&data_dir)?;
    let args = arguments::etcd_args(&data_dir, state);
    if !can_mount() {
        start(state_dir, "etcd", args)?;
        return Ok(());
    }
    let script = r#"mount -t tmpfs -o mode=700 etcd "$1" && shift && exec "$@""#;
    let etcd = tools::path("etcd")?;
    let mut wrapped: Vec<String> = ["--mount", "sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    wrapped.extend([data_dir.display().to_string(), etcd.display().to_string()]);
    wrapped.extend(args);
    Daemon { state_dir, name: "etcd", program: Path::new("unshare"), args: wrapped }.start()?;
    Ok(())
}

/// Being root is not enough in a container: ask the kernel.
fn can_mount() -> bool {
    Invocation::words("unshare --mount true").run().is_ok()
}

/// Whether the API server says that it is ready, and has made its first namespaces.
pub(crate) fn is_ready(state_dir: &Path, state: &State) -> bool {
    let ip = state.addresses.map_or(Ipv4Addr::LOCALHOST, Addresses::gateway);
    let address = SocketAddr::from((ip, state.api_server_port()));
    // Cheap first: kubectl takes 60 ms of a core.
    if TcpStream::connect_timeout(&address, wait::patience(Duration::from_secs(1))).is_err() {
        return false;
    }
    can_get(state_dir, "/readyz") && can_get(state_dir, "/api/v1/namespaces/default")
}

fn can_get(state_dir: &Path, path: &str) -> bool {
    let get = kubectl(state_dir).map(|kubectl| kubectl.args(["get", "--raw", path]).run());
    matches!(get, Ok(Ok(_)))
}

/// Waits until the API server is ready.
pub(crate) fn wait_ready(state_dir: &Path, state: &State) -> Result<(), Error> {
    let mut ended = None;
    let settled = wait::until(READY_PATIENCE, || {
        let api = ["etcd", "kube-apiserver"];
        ended = api.into_iter().find(|name| process::running(state_dir, name).is_none());
        ended.is_some() || is_ready(state_dir, state)
    });
    let component = ended.unwrap_or("kube-apiserver");
    let log = process::log_file(state_dir, component);
    match (ended, settled) {
        (Some(component), _) => Err(Error::Ended { component, tail: process::log_tail(&log), log }),
        (None, false) => Err(Error::NotReady {
            component,
            seconds: wait::patience(READY_PATIENCE).as_secs(),
            tail: process::log_tail(&log),
            log,
        }),
        (None, true) => Ok(()),
    }
}

/// Waits until the controllers have made what the first pod needs: the default service account.
pub(crate) fn wait_controllers(state_dir: &Path, state: &State) -> Result<(), Error> {
    if controllers(state).next().is_none() {
        return Ok(());
    }
    let account = "/api/v1/namespaces/default/serviceaccounts/default";
    if wait::until(READY_PATIENCE, || can_get(state_dir, account)) {
        return Ok(());
    }
    let log = process::log_file(state_dir, "kube-controller-manager");
    let component = "kube-controller-manager";
    Err(Error::NotReady {
        component,
        seconds: wait::patience(READY_PATIENCE).as_secs(),
        tail: process::log_tail(&log),
        log,
    })
}
