//! Releases of Debian, and a root file system of each, made by debootstrap and kept under a hash of what it is made of.

use std::{
    fmt, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{Error, dir, make_file_system};
use crate::{cache::made_once, command::Invocation, state, workspace::short_hash};

/// Mirror of Debian; `DEBIAN_MIRROR` names another one.
const MIRROR: &str = "http://deb.debian.org/debian";

/// What the guest's script and the nodes need.
const PACKAGES: &str = "systemd-sysv,udev,linux-image-cloud-amd64,initramfs-tools,containerd,runc,\
                        containernetworking-plugins,conntrack,iproute2,iptables,kmod,nftables,procps,util-linux";

/// Room for images and logs, in bytes; the file is sparse.
const SIZE: u64 = 8 << 30;

/// Starts the script on the second disk.
const UNIT: &str = include_str!("../../vm/testbed-vm.service");

/// A release with control groups of version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Release {
    /// Debian 12, with swap and a containerd of its own
    Bookworm,
    /// Debian 13, with Docker and a firewall that drops
    Trixie,
}

impl Release {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// Its code name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// Packages beside those that nodes need.
    fn neighbours(self) -> &'static str {
        match self {
            Self::Bookworm => "",
            Self::Trixie => ",docker.io,docker-cli",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Bookworm => "Debian 12",
            Self::Trixie => "Debian 13",
        }
    }

    fn packages(self) -> String {
        format!("{PACKAGES}{}", self.neighbours())
    }

    fn version(self) -> String {
        let packages = self.packages();
        short_hash([packages.as_bytes(), UNIT.as_bytes(), include_bytes!("release.rs")], 12)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.title())
    }
}

/// What a machine boots.
#[derive(Debug)]
pub(super) struct Root {
    folder: PathBuf,
}

impl Root {
    pub(super) fn disk(&self) -> PathBuf {
        self.folder.join("root.img")
    }

    pub(super) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub(super) fn initrd(&self) -> PathBuf {
        self.folder.join("initrd.img")
    }
}

/// The root file system of a release, made in two minutes the first time.
pub(super) fn root(release: Release) -> Result<Root, Error> {
    let name = format!("{}-{}", release.name(), release.version());
    let failed = |source| Error::File { verb: "make a folder in", path: dir(), source };
    let lock = format!(".{}.lock", release.name());
    let folder = made_once(&dir(), &name, &lock, failed, |scratch, place| {
        tracing::info!("making a root file system of {release} (2 min)");
        make(release, scratch, place)?;
        remove_older(release, place);
        Ok(())
    })?;
    Ok(Root { folder })
}

fn make(release: Release, scratch: &Path, place: &Path) -> Result<(), Error> {
    let (tree, made) = (scratch.join("tree"), scratch.join("made"));
    let mirror = std::env::var("DEBIAN_MIRROR").unwrap_or_else(|_| MIRROR.to_owned());
    // What it starts and mounts goes with the namespaces, however it ends, and it ends with this process.
    Invocation::words("setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc")
        .args(["debootstrap", "--variant=minbase"])
        .args([format!("--include={}", release.packages()), release.name().to_owned()])
        .args([&tree])
        .args([mirror])
        .run()
        .map_err(|source| Error::Command { verb: format!("install {release} with debootstrap"), source })?;
    let file = |verb, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { verb, path, source }
    };
    let units = tree.join("etc/systemd/system");
    let wants = units.join("multi-user.target.wants");
    state::make_dir(&wants)?;
    state::write_file(&units.join("testbed-vm.service"), UNIT)?;
    symlink("../testbed-vm.service", wants.join("testbed-vm.service"))
        .map_err(file("make a link in", &wants))?;
    state::write_file(&tree.join("etc/hostname"), "vm\n")?;
    for archives in ["var/cache/apt", "var/lib/apt/lists"] {
        let path = tree.join(archives);
        fs::remove_dir_all(&path).map_err(file("remove", &path))?;
    }
    state::make_dir(&made)?;
    for (start, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd.img")] {
        let from = only_file(&tree.join("boot"), start)?;
        fs::copy(&from, made.join(name)).map_err(file("copy", &from))?;
    }
    make_file_system(&tree, &made.join("root.img"), SIZE)?;
    fs::rename(&made, place).map_err(file("move", &made))
}

/// The file in a folder whose name begins so.
fn only_file(folder: &Path, start: &str) -> Result<PathBuf, Error> {
    let failed = |source| Error::File { verb: "find the kernel in", path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(failed)?;
    let found = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start)));
    found.ok_or_else(|| failed(std::io::Error::from(std::io::ErrorKind::NotFound)))
}

/// A root file system takes half a gigabyte: only the last of each release is kept.
fn remove_older(release: Release, newest: &Path) {
    let Ok(entries) = fs::read_dir(dir()) else { return };
    let start = format!("{}-", release.name());
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path != newest && name.starts_with(&start) {
            // Somebody else may have removed it already.
            let _ = fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;
