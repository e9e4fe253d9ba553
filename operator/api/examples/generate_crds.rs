//! Writes `crds/*.yaml` and the chart's copies of them. Called by `make generate`.

use std::path::Path;
use std::{env, fs};

use dask_operator_api::crd;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    for (path, text) in crd::files(&crd::all())? {
        let path = Path::new(&root).join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}
