//! The container images of the local cluster, as OCI archives made without Docker and without a registry.
//!
//! Archives are kept in the data folder under a name that holds a hash of everything they are made from: a second
//! call returns at once, a change makes a new one.

mod dask;
mod oci;
mod operator;
mod system;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use dask::{DASK, dask, dask_as};
pub(crate) use oci::names;
pub use operator::{OPERATOR, operator};
pub(crate) use system::{COREDNS, PAUSE, coredns, pause};

use crate::{command, state, tools, workspace};

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
/// Only one process makes an image at a time.
fn cached(
    image: &str,
    version: &str,
    make: impl FnOnce(&Path, &Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    state::make_dir(&dir())?;
    let archive = dir().join(format!("{image}-{version}.tar"));
    if archive.is_file() {
        return Ok(archive);
    }
    let _lock = state::lock(&dir().join(format!("{image}.lock")))?;
    if archive.is_file() {
        return Ok(archive);
    }
    tracing::info!("making image {image}");
    let scratch = tempfile::Builder::new().prefix(".scratch-").tempdir_in(dir());
    let scratch = scratch.map_err(|source| Error::Write { image: image.to_owned(), source })?;
    make(scratch.path(), &archive)?;
    remove_older(image, &archive);
    Ok(archive)
}

/// Versions pile up while an image is worked on; only the last is of use.
fn remove_older(image: &str, newest: &Path) {
    let Ok(entries) = fs::read_dir(dir()) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let version = name.strip_prefix(image).and_then(|rest| rest.strip_prefix('-'));
        let older =
            version.and_then(|rest| rest.strip_suffix(".tar")).is_some_and(|hash| !hash.contains('-'));
        if older && path != newest {
            // Somebody else may have removed it already.
            let _ = fs::remove_file(path);
        }
    }
}
