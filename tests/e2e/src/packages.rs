//! The Python packages of the Dask test image, on this machine.

use std::{fs, path::PathBuf, time::Duration};

use testbed::workspace;

use crate::{Error, command::Invocation, images};

const UNPACK: &str = include_str!("../python/unpack.py");

/// A Python that finds the packages. The image has the Python of this machine, so they fit.
///
/// # Errors
/// When the image cannot be made or unpacked.
pub async fn python() -> Result<Invocation, Error> {
    Ok(Invocation::new("/usr/bin/python3").env("PYTHONPATH", unpacked().await?))
}

/// The folder of the packages, unpacked once: quicker than another installation.
///
/// # Errors
/// When the image cannot be made or unpacked.
pub async fn unpacked() -> Result<PathBuf, Error> {
    let archive = images::dask(&[]).await?;
    let target = workspace::data_dir().join("python").join(archive.file_stem().unwrap_or_default());
    if !target.exists() {
        // Renamed when it is whole; two at once make the same.
        let scratch = target.with_extension(std::process::id().to_string());
        let python = Invocation::new("/usr/bin/python3").words("-").args([&archive, &scratch]).input(UNPACK);
        python.deadline(Duration::from_mins(3)).run().await?;
        if let Err(source) = fs::rename(&scratch, &target)
            && !target.exists()
        {
            return Err(Error::Read { path: target, source });
        }
    }
    // usr/local/lib/python3.N/dist-packages
    let libraries = target.join("usr/local/lib");
    let mut entries =
        fs::read_dir(&libraries).map_err(|source| Error::Read { path: libraries.clone(), source })?;
    let python = entries.find_map(|entry| Some(entry.ok()?.path())).unwrap_or(libraries);
    Ok(python.join("dist-packages"))
}
