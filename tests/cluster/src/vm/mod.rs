//! `make test-vm`: the local Kubernetes on releases of Debian with control groups of version 2, under an emulator.
//!
//! [`release`] makes a root file system and keeps it, [`payload`] packs what is tested, [`guest`] boots both and reads
//! the verdict that `vm/guest.sh` gives.

mod guest;
mod payload;
mod release;

use std::{
    io,
    path::{Path, PathBuf},
    time::Instant,
};

pub use release::Release;

use crate::{
    command::{self, find_program},
    images, state, tools, workspace,
};

/// Why a release could not be tested, or did not pass.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is missing on this machine.
    #[error("virtual machines cannot be made here: {}", problems.join("; "))]
    Missing {
        /// What, with its cure.
        problems: Vec<String>,
    },
    /// A program failed.
    #[error("failed to {verb}")]
    Command {
        /// What was being done.
        verb: String,
        /// What the program answered.
        source: command::Error,
    },
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
    /// An image that goes into the machine.
    #[error(transparent)]
    Image(#[from] images::Error),
    /// A program that goes into the machine.
    #[error(transparent)]
    Tools(#[from] tools::Error),
    /// The cache.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The guest said so, or said nothing.
    #[error("{release}: FAIL, {reason}; see {progress} and {console}")]
    Failed {
        /// Which release.
        release: &'static str,
        /// The step that failed.
        reason: String,
        /// What the guest's script said.
        progress: PathBuf,
        /// What its kernel and its services said.
        console: PathBuf,
    },
}

/// Where everything of the virtual machines is.
fn dir() -> PathBuf {
    workspace::data_dir().join("vm")
}

/// Tests one release; `operator` is the static program whose image is tested. Prints what the guest says as it comes.
///
/// # Errors
/// When the machine cannot be made or does not pass.
pub fn test(release: Release, operator: &Path) -> Result<(), Error> {
    check()?;
    state::make_dir(&dir())?;
    let _lock = state::lock(&dir().join(".lock"))?;
    remove_scratch(&dir());
    let start = Instant::now();
    let root = release::root(release)?;
    let made = start.elapsed();
    let scratch = tempfile::Builder::new().prefix(".scratch-").tempdir_in(dir());
    let scratch = scratch.map_err(|source| Error::File { verb: "make a folder in", path: dir(), source })?;
    let payload = payload::make(scratch.path(), operator)?;
    guest::run(release, &root, &payload, scratch.path())?;
    tracing::info!(
        "{release}: PASS after {} s, {} s of them for its root file system",
        start.elapsed().as_secs(),
        made.as_secs()
    );
    Ok(())
}

/// Removes what an earlier run left that was killed. The caller holds the lock, so that nobody uses it.
fn remove_scratch(dir: &Path) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(".scratch-")) {
        // What stays only takes room.
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

/// Everything that is missing, each with its cure.
fn check() -> Result<(), Error> {
    let mut problems: Vec<String> = [
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("debootstrap", "debootstrap"),
        ("mkfs.ext4", "e2fsprogs"),
        ("setpriv", "util-linux"),
    ]
    .into_iter()
    .filter(|(program, _)| find_program(program).is_none())
    .map(|(program, package)| format!("the program {program} is not installed: apt-get install {package}"))
    .collect();
    if !rustix::process::geteuid().is_root() {
        problems.push("not root, which debootstrap needs: run as root, or with sudo".to_owned());
    }
    if std::env::consts::ARCH != "x86_64" {
        problems.push(format!(
            "the programs that were built are for {}, the guests are x86_64: run it there",
            std::env::consts::ARCH
        ));
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Missing { problems }) }
}

/// A file system with the content of a folder. It is sparse: `size` bytes are what the guest may write.
fn make_file_system(content: &Path, image: &Path, size: u64) -> Result<(), Error> {
    let file = |source| Error::File { verb: "make", path: image.to_owned(), source };
    std::fs::File::create(image).and_then(|new| new.set_len(size)).map_err(file)?;
    // Without a journal: nobody reads it after a crash.
    command::Invocation::words("mkfs.ext4 -q -F -O ^has_journal -m 0 -d")
        .args([content, image])
        .run()
        .map_err(|source| Error::Command {
            verb: format!("make the file system {}", image.display()),
            source,
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".scratch-1/payload", "trixie-1", "log"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        remove_scratch(dir.path());
        assert!(!dir.path().join(".scratch-1").exists());
        assert!(dir.path().join("trixie-1").exists() && dir.path().join("log").exists());
    }

    #[test]
    fn file_system_holds_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        std::fs::write(dir.path().join("tree/file"), "content\n").unwrap();
        let image = dir.path().join("image");
        if find_program("mkfs.ext4").is_none() {
            return;
        }
        make_file_system(&dir.path().join("tree"), &image, 16 << 20).unwrap();
        let shown =
            command::Invocation::words("debugfs -R").args(["cat /file"]).args([&image]).run().unwrap();
        assert_eq!(shown, "content\n");
    }

    #[test]
    fn failure_names_release_step_and_logs() {
        let error = Error::Failed {
            release: "Debian 12",
            reason: "step \"down\"".into(),
            progress: "/log/p".into(),
            console: "/log/c".into(),
        };
        assert_eq!(error.to_string(), "Debian 12: FAIL, step \"down\"; see /log/p and /log/c");
    }
}
