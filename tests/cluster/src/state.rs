//! What is remembered about a cluster on disk.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    addresses::{self, Addresses},
    config::ClusterConfig,
    ports::{self, Ports},
    workspace,
};

/// Why the state of a cluster could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("failed to {verb} {path}")]
    File {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// No port is left.
    #[error(
        "failed to find three free ports between 20000 and 29999; `dask-testbed down --all` frees those of forgotten clusters"
    )]
    NoPorts,
    /// No address block is left.
    #[error(
        "failed to find a free network among 10.200.0.0/16 to 10.249.0.0/16; `dask-testbed down --all` frees those of forgotten clusters, `ip route` shows who has the rest"
    )]
    NoBlock,
}

/// What is remembered about a cluster: `state.json` in its state folder. Processes have files of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) config: ClusterConfig,
    /// Version of the programs that it runs, see `tools::version`.
    pub(crate) tools: String,
    pub(crate) ports: Ports,
    /// `None` in the API tier.
    pub(crate) addresses: Option<Addresses>,
    /// Set when `up` came to its end.
    pub(crate) complete: bool,
}

impl State {
    /// Names of the nodes, in order.
    pub(crate) fn nodes(&self) -> Vec<String> {
        (1..=self.config.nodes).map(|number| format!("node{number}")).collect()
    }

    /// `https://<address>:<port>` as clients on this machine reach it.
    pub(crate) fn api_server_url(&self) -> String {
        match self.addresses {
            Some(addresses) => format!("https://{}:{}", addresses.gateway(), self.api_server_port()),
            None => format!("https://127.0.0.1:{}", self.api_server_port()),
        }
    }

    /// Port of the API server.
    pub(crate) fn api_server_port(&self) -> u16 {
        if self.addresses.is_some() { 6443 } else { self.ports.api_server }
    }

    /// Reads what is remembered; `None` when there is nothing, or nothing that this version understands.
    pub(crate) fn load(state_dir: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(state_dir.join("state.json")).ok()?).ok()
    }

    /// Writes it whole or not at all.
    pub(crate) fn save(&self, state_dir: &Path) -> Result<(), Error> {
        let path = state_dir.join("state.json");
        let partial = state_dir.join("state.json.partial");
        let text = serde_json::to_string_pretty(self).map_err(io::Error::other);
        text.and_then(|text| fs::write(&partial, text))
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(|source| Error::File { verb: "write", path, source })
    }

    /// Chooses ports and addresses that are free, for a cluster that is about to be made.
    /// The caller holds [`lock_machine`].
    pub(crate) fn plan(
        config: &ClusterConfig,
        tools: &str,
        used_networks: &[(std::net::Ipv4Addr, u8)],
    ) -> Result<Self, Error> {
        let others: Vec<Self> = clusters().iter().filter_map(|dir| Self::load(dir)).collect();
        let recorded: Vec<Ports> = others.iter().map(|other| other.ports).collect();
        let seed = workspace::short_hash([workspace::clusters_dir().as_os_str().as_encoded_bytes()], 3);
        let seed = u16::from_str_radix(&seed, 16).unwrap_or_default();
        let addresses = if config.api_only {
            None
        } else {
            let blocks: Vec<u8> =
                others.iter().filter_map(|other| other.addresses).map(|other| other.block).collect();
            let block = addresses::free_block(used_networks, &blocks).ok_or(Error::NoBlock)?;
            Some(Addresses { block })
        };
        Ok(Self {
            config: config.clone(),
            tools: tools.to_owned(),
            ports: ports::choose(&recorded, seed).ok_or(Error::NoPorts)?,
            addresses,
            complete: false,
        })
    }
}

/// The state folders of all clusters of this data folder.
pub(crate) fn clusters() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(workspace::clusters_dir()) else { return Vec::new() };
    let mut dirs: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

/// Held while a cluster changes; released when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: fs::File,
}

impl Lock {
    /// Releases the lock and removes its file, which nobody needs any more.
    pub(crate) fn discard(self) {
        // A file that stays does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// Waits until no other process changes this cluster.
pub(crate) fn lock_cluster(name: &str) -> Result<Lock, Error> {
    let dir = workspace::clusters_dir();
    make_dir(&dir)?;
    lock(&dir.join(format!(".{name}.lock")))
}

/// Waits until no other process of this user chooses ports and addresses, in any checkout.
pub(crate) fn lock_machine() -> Result<Lock, Error> {
    let user = rustix::process::geteuid().as_raw();
    lock(&std::env::temp_dir().join(format!("dask-testbed-{user}.lock")))
}

/// Waits for the lock on a file, which is made if it is not there.
pub(crate) fn lock(path: &Path) -> Result<Lock, Error> {
    let try_lock = || {
        loop {
            let file = fs::OpenOptions::new().create(true).append(true).open(path)?;
            file.lock()?;
            // Whoever had the lock may have removed the file: then this one is nobody's any more.
            let same = fs::metadata(path).is_ok_and(|now| {
                file.metadata().is_ok_and(|ours| (now.dev(), now.ino()) == (ours.dev(), ours.ino()))
            });
            if same {
                return Ok(Lock { path: path.to_owned(), _file: file });
            }
        }
    };
    try_lock().map_err(|source| Error::File { verb: "lock", path: path.to_owned(), source })
}

/// Makes a folder and those above it.
pub(crate) fn make_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| Error::File { verb: "make", path: path.to_owned(), source })
}

/// Writes a file whole.
pub(crate) fn write_file(path: &Path, text: impl AsRef<[u8]>) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::File { verb: "write", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> State {
        let ports = Ports { etcd_client: 1, etcd_peer: 2, api_server: 3 };
        State {
            config: ClusterConfig::api_only("a"),
            tools: "v".into(),
            ports,
            addresses: None,
            complete: true,
        }
    }

    #[test]
    fn state_survives_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        example().save(dir.path()).unwrap();
        assert_eq!(State::load(dir.path()), Some(example()));
        assert!(!dir.path().join("state.json.partial").exists());
    }

    #[test]
    fn unreadable_state_is_no_state() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(State::load(dir.path()), None);
        fs::write(dir.path().join("state.json"), r#"{"config": "from the future"}"#).unwrap();
        assert_eq!(State::load(dir.path()), None);
    }

    #[test]
    fn api_server_has_its_own_address_only_with_nodes() {
        assert_eq!(example().api_server_url(), "https://127.0.0.1:3");
        let with_nodes = State { addresses: Some(Addresses { block: 201 }), ..example() };
        assert_eq!(with_nodes.api_server_url(), "https://10.201.240.1:6443");
    }

    #[test]
    fn nodes_are_numbered_from_one() {
        let state = State { config: ClusterConfig::with_nodes("a", 2), ..example() };
        assert_eq!(state.nodes(), ["node1", "node2"]);
    }

    #[test]
    fn lock_is_exclusive_until_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).unwrap();
        let second = fs::File::open(&path).unwrap();
        assert!(second.try_lock().is_err());
        drop(held);
        assert!(second.try_lock().is_ok());
    }

    #[test]
    fn waiting_for_a_lock_whose_file_goes_away_ends_with_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lock(&path).unwrap());
            held.discard();
            let _ours = waiting.join().unwrap();
            assert!(
                fs::File::open(&path).unwrap().try_lock().is_err(),
                "the lock is on the file that is there"
            );
        });
    }
}
