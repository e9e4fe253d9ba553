//! The container images of the local cluster, as OCI archives made without Docker and without a registry.
//!
//! Archives are kept in the data folder under a name that holds a hash of everything they are made from: a second
//! call returns at once, a change makes a new one.

mod dask;
mod dask_today;
mod oci;
mod operator;
mod system;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) use dask::REQUIREMENTS;
pub use dask::{DASK, dask, dask_as};
pub use dask_today::{DASK_TODAY, dask_today};
pub(crate) use oci::names;
pub use operator::{OPERATOR, operator};
pub(crate) use system::{COREDNS, PAUSE, coredns, pause};

use crate::{cache::made_once, command, state, tools, workspace};

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the image.
    #[error("failed to make image {image}")]
    Write {
        /// Which image.
        image: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The program that goes into it.
    #[error("failed to read {program} for image {image}: has it been built?")]
    Program {
        /// Which image.
        image: String,
        /// Which program.
        program: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A program that makes a part of it.
    #[error("failed to make image {image}")]
    Command {
        /// Which image.
        image: String,
        /// What it answered.
        source: command::Error,
    },
    /// A program of the cluster that goes into it.
    #[error(transparent)]
    Tools(#[from] tools::Error),
    /// The cache.
    #[error(transparent)]
    State(#[from] state::Error),
}

/// Where the archives are.
fn dir() -> PathBuf {
    workspace::data_dir().join("images")
}

/// Returns the archive `<image>-<version>.tar`, made by `make` in a scratch folder if it is not there yet.
fn cached(
    image: &str,
    version: &str,
    make: impl FnOnce(&Path, &Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    cached_in(&dir(), image, version, make)
}

/// Only one process makes an image at a time.
fn cached_in(
    dir: &Path,
    image: &str,
    version: &str,
    make: impl FnOnce(&Path, &Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let (name, lock) = (format!("{image}-{version}.tar"), format!(".{image}.lock"));
    let failed = |source| Error::Write { image: image.to_owned(), source };
    made_once(dir, &name, &lock, failed, |scratch, archive| {
        tracing::info!("making image {image}");
        make(scratch, archive)?;
        remove_older(dir, image, archive);
        Ok(())
    })
}

/// Versions pile up while an image is worked on; only the last is of use.
fn remove_older(dir: &Path, image: &str, newest: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path != newest && is_version_of(image, &path) {
            // Somebody else may have removed it already.
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether a file is `<image>-<hexadecimal digits>.tar`, and not of an image whose name begins alike.
fn is_version_of(image: &str, path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let version = name.strip_prefix(image).and_then(|rest| rest.strip_prefix('-'));
    version
        .and_then(|rest| rest.strip_suffix(".tar"))
        .is_some_and(|version| version.chars().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make_with(content: &str) -> impl FnOnce(&Path, &Path) -> Result<(), Error> {
        move |_scratch, archive| state::write_file(archive, content).map_err(Error::from)
    }

    #[test]
    fn image_is_made_once_for_each_version() {
        let dir = tempfile::tempdir().unwrap();
        let first = cached_in(dir.path(), "dask", "1", make_with("first")).unwrap();
        let again = cached_in(dir.path(), "dask", "1", make_with("must not be made")).unwrap();
        assert_eq!(first, again);
        assert_eq!(fs::read_to_string(again).unwrap(), "first");
    }

    #[test]
    fn new_version_replaces_the_old_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let old = cached_in(dir.path(), "dask", "1", make_with("old")).unwrap();
        let other = cached_in(dir.path(), "dask-big", "1", make_with("other")).unwrap();
        let new = cached_in(dir.path(), "dask", "2", make_with("new")).unwrap();
        assert!(!old.exists() && other.exists() && new.exists());
        let scratch = fs::read_dir(dir.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".scratch"));
        assert_eq!(scratch.count(), 0, "scratch folders are removed");
    }

    #[test]
    fn failed_image_is_tried_again_and_keeps_the_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let old = cached_in(dir.path(), "dask", "1", make_with("old")).unwrap();
        let failing = |_: &Path, _: &Path| {
            Err(Error::Write { image: "dask".into(), source: std::io::Error::other("disk full") })
        };
        cached_in(dir.path(), "dask", "2", failing).unwrap_err();
        assert!(old.exists());
        cached_in(dir.path(), "dask", "2", make_with("second attempt")).unwrap();
    }
}
