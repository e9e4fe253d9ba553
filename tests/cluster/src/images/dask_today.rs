//! The Dask test image as today's Dask is: without the commands `dask-scheduler` and `dask-worker`, which distributed
//! dropped in 2026.6. It has the layers of the test image and one on top that takes the commands away.

use std::path::{Path, PathBuf};

use super::{
    Error, cached, dask,
    oci::{self, LayerBuilder},
};
use crate::workspace::short_hash;

/// Name of the image without the two commands.
pub const DASK_TODAY: &str = "localhost/dask-today:2026.8.0";

const IMAGE: &str = "dask-today";
/// What an image format calls a whiteout: the file of this name below the layer is gone.
const GONE: [&str; 2] = ["usr/local/bin/.wh.dask-scheduler", "usr/local/bin/.wh.dask-worker"];

/// The archive of the image without the two commands, named [`DASK_TODAY`]. Made in a second from the test image.
///
/// # Errors
/// As [`dask()`].
pub fn dask_today() -> Result<PathBuf, Error> {
    let original = dask()?;
    let version = short_hash([original.as_os_str().as_encoded_bytes(), include_bytes!("dask_today.rs")], 12);
    cached(IMAGE, &version, |scratch, archive| {
        make(&original, scratch, archive).map_err(|source| Error::Write { image: IMAGE.to_owned(), source })
    })
}

fn make(original: &Path, scratch: &Path, archive: &Path) -> std::io::Result<()> {
    let mut layer = LayerBuilder::new(scratch)?;
    for path in GONE {
        layer.file(path, 0o644, b"")?;
    }
    oci::extend(original, archive, &[DASK_TODAY], layer.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::oci::{RunConfig, names, write};

    #[test]
    fn one_layer_more_and_everything_else_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (original, archive) = (dir.path().join("original.tar"), dir.path().join("today.tar"));
        let mut layer = LayerBuilder::new(dir.path()).unwrap();
        layer.file("usr/local/bin/dask-worker", 0o755, b"#!/bin/sh").unwrap();
        let run = RunConfig {
            entrypoint: vec!["tini".to_owned()],
            command: vec![],
            environment: vec![],
            user: "1000".to_owned(),
            working_dir: "/".to_owned(),
        };
        write(&original, &["localhost/original:1"], &run, vec![layer.finish().unwrap()]).unwrap();
        make(&original, dir.path(), &archive).unwrap();
        let found = names(&archive).unwrap();
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [DASK_TODAY]);
        let mut tar = tar::Archive::new(std::fs::File::open(&archive).unwrap());
        let mut blobs = std::collections::BTreeMap::new();
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            blobs.insert(path, bytes);
        }
        let blob = |digest: &str| &blobs[&format!("blobs/{}", digest.replace(':', "/"))];
        let manifest: serde_json::Value = serde_json::from_slice(blob(&found[0].1)).unwrap();
        let config: serde_json::Value =
            serde_json::from_slice(blob(manifest["config"]["digest"].as_str().unwrap())).unwrap();
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["tini"]));
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2);
        let top = blob(layers[1]["digest"].as_str().unwrap());
        assert!(String::from_utf8_lossy(top).contains(".wh.dask-worker"));
    }
}
