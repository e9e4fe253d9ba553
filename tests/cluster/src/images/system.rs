//! Images that the cluster itself needs: the sandbox of every pod, and DNS.

use std::{fs, path::PathBuf};

use super::{
    Error, cached,
    oci::{self, LayerBuilder, RunConfig},
};
use crate::{
    command::Invocation,
    tools,
    workspace::{root, short_hash},
};

/// Name of the sandbox image.
pub(crate) const PAUSE: &str = "localhost/pause:1";
/// Name of the DNS image.
pub(crate) const COREDNS: &str = "localhost/coredns:1";

const PAUSE_SOURCE: &str = include_str!("../../../../runtime/images/pause/pause.c");

/// The archive of the sandbox image: one static program that waits.
pub(crate) fn pause() -> Result<PathBuf, Error> {
    let version = short_hash([PAUSE_SOURCE.as_bytes(), std::env::consts::ARCH.as_bytes()], 12);
    cached("pause", &version, |scratch, archive| {
        let program = scratch.join("pause");
        Invocation::words("gcc -O2 -static -s -o")
            .args([&program, &root().join("runtime/images/pause/pause.c")])
            .run()
            .map_err(|source| Error::Command { image: "pause".to_owned(), source })?;
        single_program("pause", &program, PAUSE, RunConfig::default(), archive)
    })
}

/// The archive of the DNS image.
pub(crate) fn coredns() -> Result<PathBuf, Error> {
    let program = tools::path("coredns")?;
    cached("coredns", &tools::version(), |_, archive| {
        single_program("coredns", &program, COREDNS, RunConfig::default(), archive)
    })
}

/// An image with nothing but `/<name>`, which it runs.
pub(super) fn single_program(
    name: &str,
    program: &std::path::Path,
    image: &str,
    run: RunConfig,
    archive: &std::path::Path,
) -> Result<(), Error> {
    let write = || {
        let scratch = archive.parent().unwrap_or(archive);
        let mut layer = LayerBuilder::new(scratch)?;
        layer.file(name, 0o755, &fs::read(program)?)?;
        let run = RunConfig { entrypoint: vec![format!("/{name}")], working_dir: "/".to_owned(), ..run };
        oci::write(archive, &[image], &run, vec![layer.finish()?])
    };
    write().map_err(|source| Error::Write { image: image.to_owned(), source })
}
