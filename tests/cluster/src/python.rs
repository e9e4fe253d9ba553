//! Python environments with chosen releases of Dask, made once and shared.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    cache::made_once,
    command::{self, Invocation},
    images::REQUIREMENTS,
    state,
    workspace::{data_dir, short_hash},
};

/// As for the image: the distribution's own Python.
const PYTHON: &str = "/usr/bin/python3";

/// Why there is no environment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program that makes it.
    #[error("failed to make Python environment with {requirements}")]
    Command {
        /// What it was to hold.
        requirements: String,
        /// What the program answered.
        source: command::Error,
    },
    /// A file of it.
    #[error("failed to make Python environment with {requirements}")]
    File {
        /// What it was to hold.
        requirements: String,
        /// What the system answered.
        source: io::Error,
    },
    /// Its place.
    #[error(transparent)]
    State(#[from] state::Error),
}

/// The folder of a virtual environment with these requirements, such as `distributed==2024.12.0` or `pytest`; its
/// Python is `bin/python`. Made the first time, in some ten seconds, from the package index.
///
/// # Errors
/// When packages cannot be downloaded or files not written.
pub fn environment(requirements: &[&str]) -> Result<PathBuf, Error> {
    let wanted = with_dask(requirements);
    let constraints = constraints(&wanted);
    let parts = wanted.iter().map(String::as_bytes).chain([constraints.as_bytes()]);
    let name = short_hash(parts, 12);
    environment_in(&data_dir().join("python"), &name, &wanted.join(" "), |scratch, place| {
        make(scratch, place, &wanted, &constraints)
    })
}

/// One that is killed leaves nothing that looks finished.
fn environment_in(
    dir: &Path,
    name: &str,
    requirements: &str,
    make: impl FnOnce(&Path, &Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let file = |source| failed(requirements, source);
    made_once(dir, name, &format!(".{name}.lock"), file, |scratch, place| {
        tracing::info!("making a Python environment with {requirements}");
        let unfinished = scratch.join("environment");
        make(&unfinished, place)?;
        fs::rename(&unfinished, place).map_err(file)
    })
}

fn failed(requirements: &str, source: io::Error) -> Error {
    Error::File { requirements: requirements.to_owned(), source }
}

fn make(scratch: &Path, place: &Path, wanted: &[String], constraints: &str) -> Result<(), Error> {
    let requirements = wanted.join(" ");
    let run = |invocation: Invocation| {
        let command = |source| Error::Command { requirements: requirements.clone(), source };
        invocation.run().map_err(command)
    };
    let file = |source| failed(&requirements, source);
    run(Invocation::new(PYTHON).args(["-m", "venv"]).args([scratch]))?;
    let list = scratch.join("constraints.txt");
    fs::write(&list, constraints).map_err(file)?;
    let install = Invocation::new(scratch.join("bin/python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint"])
        .args([&list])
        .args(wanted)
        // Settings of the machine must not choose other files.
        .env("PIP_FIND_LINKS", "");
    run(install)?;
    move_scripts(&scratch.join("bin"), scratch, place).map_err(file)
}

/// Scripts name the Python beside them by its whole path, which is another once the environment is in its place.
fn move_scripts(bin: &Path, from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    for entry in fs::read_dir(bin)? {
        let entry = entry?;
        // Python itself is a link.
        if !entry.file_type()?.is_file() {
            continue;
        }
        if let Ok(text) = fs::read_to_string(entry.path())
            && text.contains(from.as_ref())
        {
            fs::write(entry.path(), text.replace(from.as_ref(), to.as_ref()))?;
        }
    }
    Ok(())
}

/// Every environment has `distributed`, and so `dask`.
fn with_dask(requirements: &[&str]) -> Vec<String> {
    let mut wanted: Vec<String> = requirements.iter().map(|requirement| (*requirement).to_owned()).collect();
    if !wanted.iter().any(|requirement| package(requirement) == "distributed") {
        wanted.push("distributed".to_owned());
    }
    wanted.sort();
    wanted.dedup();
    wanted
}

/// The name of the package that a requirement asks for, as package indexes compare names.
fn package(requirement: &str) -> String {
    let end = requirement.find(|letter: char| !(letter.is_ascii_alphanumeric() || "-_.".contains(letter)));
    requirement[..end.unwrap_or(requirement.len())].to_ascii_lowercase().replace(['_', '.'], "-")
}

/// The pinned versions of all packages but those that are asked for in another. `dask` has the version of
/// `distributed`.
fn constraints(wanted: &[String]) -> String {
    let chosen = |name: &str| wanted.iter().any(|wanted| package(wanted) == name && *wanted != name);
    let lines = REQUIREMENTS.lines().filter(|line| !line.starts_with('#')).filter(|line| {
        match package(line).as_str() {
            "dask" => !chosen("dask") && !chosen("distributed"),
            name => !chosen(name),
        }
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("distributed==2024.12.0", "distributed")]
    #[case("prometheus_client", "prometheus-client")]
    #[case("dask[array]>=2024; python_version > '3'", "dask")]
    #[case("Jinja2", "jinja2")]
    fn package_names(#[case] requirement: &str, #[case] name: &str) {
        assert_eq!(package(requirement), name);
    }

    #[test]
    fn what_is_not_chosen_is_as_in_the_image() {
        let newest = constraints(&with_dask(&["pytest"]));
        assert!(newest.contains("distributed==2026.8.0\n") && newest.contains("dask==2026.8.0\n"));
        let old = with_dask(&["distributed==2024.12.0"]);
        assert_eq!(old, ["distributed==2024.12.0"]);
        let old = constraints(&old);
        assert!(!old.contains("distributed==") && !old.contains("\ndask=="), "{old}");
        assert!(old.contains("msgpack=="));
    }

    fn fill(content: &str) -> impl FnOnce(&Path, &Path) -> Result<(), Error> {
        move |scratch, _| {
            fs::create_dir(scratch).unwrap();
            fs::write(scratch.join("content"), content).unwrap();
            Ok(())
        }
    }

    #[test]
    fn environment_is_made_once_and_never_half() {
        let dir = tempfile::tempdir().unwrap();
        let failing = |scratch: &Path, _: &Path| {
            fs::create_dir(scratch).unwrap();
            Err(failed("x", io::Error::other("disk full")))
        };
        environment_in(dir.path(), "x", "x", failing).unwrap_err();
        assert!(!dir.path().join("x").exists());
        let place = environment_in(dir.path(), "x", "x", fill("first")).unwrap();
        environment_in(dir.path(), "x", "x", fill("second")).unwrap();
        assert_eq!(fs::read_to_string(place.join("content")).unwrap(), "first");
    }

    #[test]
    fn scripts_name_the_python_of_their_place() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dask"), "#!/scratch/bin/python\n").unwrap();
        fs::write(dir.path().join("binary"), [0xff, 0xfe]).unwrap();
        move_scripts(dir.path(), Path::new("/scratch"), Path::new("/place")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("dask")).unwrap(), "#!/place/bin/python\n");
        assert_eq!(fs::read(dir.path().join("binary")).unwrap(), [0xff, 0xfe]);
    }
}
