//! The operator image: one program and nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Error, cached, oci::RunConfig, system::single_program};
use crate::workspace::short_hash;

/// Name of the operator image.
pub const OPERATOR: &str = "localhost/dask-operator:dev";

/// The archive of the operator image, named [`OPERATOR`], around this program: `/dask-operator`, run by uid 65532.
/// The program must be static; nothing else is in the image, not even a C library.
///
/// # Errors
/// When the program cannot be read or the archive not written.
pub fn operator(program: &Path) -> Result<PathBuf, Error> {
    let content = fs::read(program).map_err(|source| Error::Program {
        image: OPERATOR.to_owned(),
        program: program.to_owned(),
        source,
    })?;
    cached("operator", &short_hash([content.as_slice()], 12), |_, archive| {
        let run = RunConfig { user: "65532:65532".to_owned(), ..RunConfig::default() };
        single_program("dask-operator", program, OPERATOR, run, archive)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_program_is_named() {
        let error = operator(Path::new("/no/such/dask-operator")).unwrap_err().to_string();
        assert!(error.contains("/no/such/dask-operator") && error.contains("built"), "{error}");
    }
}
