//! Where the local cluster keeps its files.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// Environment variable that moves everything (programs, images, clusters) out of `target/testbed`.
pub const DATA_DIR_VARIABLE: &str = "DASK_TESTBED_DIR";

/// The root of the source tree this crate was compiled from.
#[must_use]
pub fn root() -> PathBuf {
    // CARGO_MANIFEST_DIR is <root>/tests/cluster.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_path_buf()
}

/// Cargo, to build a package of this workspace as from a shell.
///
/// Programs that cargo runs, such as tests, are told their package in variables. Build scripts watch some of these, so
/// that with them everything would be built anew.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Folder of programs, images and clusters: `target/testbed`, or `DASK_TESTBED_DIR`.
#[must_use]
pub fn data_dir() -> PathBuf {
    std::env::var_os(DATA_DIR_VARIABLE)
        .filter(|value| !value.is_empty())
        // Programs of a cluster run in another folder: a relative path would mean another place to them.
        .and_then(|value| std::path::absolute(value).ok())
        .unwrap_or_else(|| root().join("target/testbed"))
}

/// Folder with one folder per cluster.
#[must_use]
pub fn clusters_dir() -> PathBuf {
    data_dir().join("clusters")
}

/// The state folder of one cluster, whether it exists or not.
#[must_use]
pub fn state_dir(cluster: &str) -> PathBuf {
    clusters_dir().join(cluster)
}

/// The first `digits` hexadecimal digits of the SHA-256 of all `parts`, each ended by a zero byte.
pub(crate) fn short_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>, digits: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update([0]);
    }
    let mut hex = format!("{:x}", hash.finalize());
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_not_told_of_the_package_that_runs_it() {
        let cargo = cargo();
        // Under cargo, a test has this variable.
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
        assert!(cargo.get_envs().any(|(name, value)| name == "CARGO_PKG_NAME" && value.is_none()));
        assert_eq!(cargo.get_current_dir(), Some(root().as_path()));
    }

    #[test]
    fn root_holds_the_workspace_manifest() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"), "{manifest}");
    }

    #[test]
    fn hash_separates_its_parts() {
        let joined = short_hash([b"ab".as_slice(), b"c"], 12);
        let split_elsewhere = short_hash([b"a".as_slice(), b"bc"], 12);
        assert_eq!(joined.len(), 12);
        assert_ne!(joined, split_elsewhere);
    }
}
