//! The second disk of a guest: what is tested and what tests it, read-only.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{Error, make_file_system};
use crate::{command::Invocation, images, state, tools, workspace::root};

/// What a cluster with nodes runs; helm and kwok stay at home.
const PROGRAMS: [&str; 8] = [
    "etcd",
    "kubectl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
];

const FILES: [(&str, &str); 2] = [
    ("guest.sh", include_str!("../../vm/guest.sh")),
    ("cluster.yaml", include_str!("../../vm/cluster.yaml")),
];

/// What a file system needs beside the files, in bytes: tables of blocks and files.
const OVERHEAD: u64 = 128 << 20;

/// Makes the disk in a scratch folder.
pub(super) fn make(scratch: &Path, operator: &Path) -> Result<PathBuf, Error> {
    let tree = scratch.join("payload");
    let programs = Path::new("bin").join(tools::version());
    let (bin, archives, commands) = (tree.join(&programs), tree.join("images"), tree.join("commands"));
    for folder in [&bin, &archives, &commands] {
        state::make_dir(folder)?;
    }
    for program in PROGRAMS {
        put(&tools::path(program)?, &bin.join(program))?;
    }
    for archive in [images::pause()?, images::coredns()?, images::dask()?, images::operator(operator)?] {
        put(&archive, &archives.join(archive.file_name().unwrap_or_default()))?;
    }
    let own = env::current_exe().map_err(|source| Error::File {
        verb: "find",
        path: PathBuf::from("dask-testbed"),
        source,
    })?;
    put(&own, &commands.join("dask-testbed"))?;
    let kubectl = commands.join("kubectl");
    symlink(Path::new("..").join(&programs).join("kubectl"), &kubectl).map_err(|source| Error::File {
        verb: "make the link",
        path: kubectl,
        source,
    })?;
    for (name, text) in FILES {
        state::write_file(&tree.join(name), text)?;
    }
    state::write_file(&tree.join("operator.yaml"), operator_manifest()?)?;
    let size = size_of(&tree).map_err(|source| Error::File { verb: "read", path: tree.clone(), source })?;
    let disk = scratch.join("payload.img");
    make_file_system(&tree, &disk, size + OVERHEAD)?;
    Ok(disk)
}

/// What helm would install: it is done here, where it takes no time.
fn operator_manifest() -> Result<String, Error> {
    Invocation::new(tools::path("helm")?)
        .args(["template", "dask-operator", "--namespace", "dask-operator", "--values", "-"])
        .args([root().join("charts/dask-operator")])
        .input(include_str!("../../vm/values.yaml"))
        .run()
        .map_err(|source| Error::Command { verb: "render the chart of the operator".to_owned(), source })
}

/// A second name for a file, or a copy where that cannot be.
fn put(from: &Path, to: &Path) -> Result<(), Error> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    let copied = fs::copy(from, to);
    copied.map(drop).map_err(|source| Error::File { verb: "copy", path: from.to_owned(), source })
}

/// Bytes of all files below a folder.
fn size_of(folder: &Path) -> std::io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        size += if about.is_dir() { size_of(&entry.path())? } else { about.len() };
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_counts_every_file_below() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("a"), "123").unwrap();
        fs::write(dir.path().join("sub/b"), "4567").unwrap();
        assert_eq!(size_of(dir.path()).unwrap(), 7);
    }

    #[test]
    fn file_is_put_under_a_second_name() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&from, "x").unwrap();
        put(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to).unwrap(), "x");
        let error = put(&dir.path().join("none"), &dir.path().join("c")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }

    #[test]
    fn images_of_the_manifests_are_those_on_the_disk() {
        let values = include_str!("../../vm/values.yaml");
        let (name, tag) = images::OPERATOR.rsplit_once(':').unwrap();
        assert!(values.contains(&format!("name: {name}, tag: {tag}")), "{values}");
        let cluster = include_str!("../../vm/cluster.yaml");
        let named: Vec<_> = cluster.lines().filter_map(|line| line.trim().strip_prefix("image: ")).collect();
        assert_eq!(named, [images::DASK; 2]);
    }
}
