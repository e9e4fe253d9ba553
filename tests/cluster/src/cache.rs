//! What is made once and kept: images and Python environments.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::state;

/// The file or folder `name` in `dir`, made by `make` in a scratch folder if it is not there yet. It must appear in its
/// place whole: whoever finds it takes it for finished. Processes that want the same `lock` wait for each other.
///
/// `failed` turns the error of a scratch folder into the caller's.
pub(crate) fn made_once<E: From<state::Error>>(
    dir: &Path,
    name: &str,
    lock: &str,
    failed: impl FnOnce(io::Error) -> E,
    make: impl FnOnce(&Path, &Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let place = dir.join(name);
    if place.exists() {
        return Ok(place);
    }
    state::make_dir(dir)?;
    let _lock = state::lock(&dir.join(lock))?;
    if place.exists() {
        return Ok(place);
    }
    let scratch = tempfile::Builder::new().prefix(".scratch-").tempdir_in(dir).map_err(failed)?;
    make(scratch.path(), &place)?;
    Ok(place)
}
