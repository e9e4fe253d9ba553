//! The Dask test image: Python and a few tools from Debian (or Ubuntu) packages, Dask from the Python package index, uid 1000.
//!
//! Packages are unpacked, not installed, so that neither root nor a container is needed; `runtime/images/dask` has
//! the versions and a Dockerfile that gives the same.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{
    Error, cached,
    oci::{self, Layer, LayerBuilder, Owner, RunConfig},
};
use crate::{
    command::{self, Invocation},
    workspace::{root, short_hash},
};

/// Name of the Dask test image. Its tag is a version: images tagged `latest` are pulled every time by default.
pub const DASK: &str = "localhost/dask-test:2026.8.0";

/// The pinned versions of all Python packages.
pub(crate) const REQUIREMENTS: &str = include_str!("../../../../runtime/images/dask/requirements.txt");

/// Thin commands: `distributed` 2026.6 dropped the last two.
const SCRIPTS: [(&str, &str); 3] = [
    ("dask", include_str!("../../../../runtime/images/dask/dask")),
    ("dask-scheduler", include_str!("../../../../runtime/images/dask/dask-scheduler")),
    ("dask-worker", include_str!("../../../../runtime/images/dask/dask-worker")),
];

/// What people and manifests call in a Dask container; Python is added in the version of this machine.
const PACKAGES: [&str; 10] =
    ["base-files", "base-passwd", "bash", "coreutils", "dash", "grep", "libstdc++6", "procps", "sed", "tini"];

/// Dependencies that only matter when packages are installed, and documentation.
const UNUSED_PACKAGES: [&str; 8] = [
    "dpkg_",
    "init-system-helpers_",
    "libdebconfclient0_",
    "libfile-find",
    "libnumber",
    "libperl",
    "libtext",
    "perl",
];
const UNUSED_FOLDERS: [&str; 8] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/bug",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/aarch64-linux-gnu/gconv",
];

const IMAGE: &str = "dask";
const USER: u64 = 1000;

/// The archive of the Dask test image, named [`DASK`]. Made in half a minute the first time.
///
/// # Errors
/// When packages cannot be downloaded or files not written.
pub fn dask() -> Result<PathBuf, Error> {
    let python = python_version().map_err(|source| Error::Command { image: IMAGE.to_owned(), source })?;
    let mut parts: Vec<&[u8]> = vec![REQUIREMENTS.as_bytes(), include_bytes!("dask.rs"), python.as_bytes()];
    parts.extend(SCRIPTS.iter().map(|(_, text)| text.as_bytes()));
    cached(IMAGE, &short_hash(parts, 12), |scratch, archive| make(&python, scratch, archive))
}

/// The same image under other names, such as `ghcr.io/dask/dask:latest`, for manifests that cannot be changed.
///
/// # Errors
/// As [`dask`].
pub fn dask_as(names: &[&str]) -> Result<PathBuf, Error> {
    let original = dask()?;
    // Each set of names is an image of its own: making one does not remove another.
    let image = format!("{IMAGE}-as-{}", short_hash(names.iter().map(|name| name.as_bytes()), 6));
    let version = short_hash([original.as_os_str().as_encoded_bytes()], 12);
    cached(&image, &version, |_, archive| oci::rename(&original, archive, names).map_err(failed))
}

fn failed(source: io::Error) -> Error {
    Error::Write { image: IMAGE.to_owned(), source }
}

/// The wheels must fit the Python that goes into the image, and that is the distribution's own.
fn python_version() -> Result<String, command::Error> {
    let script = "import sys; print('%d.%d' % sys.version_info[:2])";
    let version = Invocation::new("/usr/bin/python3").args(["-c", script]).run()?;
    Ok(version.trim().to_owned())
}

fn make(python: &str, scratch: &Path, archive: &Path) -> Result<(), Error> {
    let system = scratch.join("system");
    let packages = scratch.join("packages");
    // One waits for the network most of the time, the other for the processor.
    let (unpacked, installed) = std::thread::scope(|scope| {
        let unpacked = scope.spawn(|| unpack_system(python, scratch, &system));
        let installed = install_packages(python, scratch, &packages);
        (unpacked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), installed)
    });
    unpacked?;
    installed?;
    let layers = vec![
        system_layer(scratch, &system, python).map_err(failed)?,
        dask_layer(scratch, &packages, python).map_err(failed)?,
    ];
    oci::write(archive, &[DASK], &run_config(), layers).map_err(failed)
}

/// As in the Dockerfile.
fn run_config() -> RunConfig {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect();
    RunConfig {
        entrypoint: words("/usr/bin/tini -g --"),
        command: words("dask --version"),
        environment: vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_owned(), "LANG=C.UTF-8".to_owned()],
        user: USER.to_string(),
        working_dir: "/home/dask".to_owned(),
    }
}

fn run(invocation: Invocation) -> Result<String, Error> {
    invocation.run().map_err(|source| Error::Command { image: IMAGE.to_owned(), source })
}

/// Downloads the packages with all they depend on and unpacks them below `system`.
fn unpack_system(python: &str, scratch: &Path, system: &Path) -> Result<(), Error> {
    let debs = scratch.join("debs");
    fs::create_dir_all(debs.join("partial")).map_err(failed)?;
    // An empty status makes apt download even what this machine has installed.
    let download =
        Invocation::words("apt-get --quiet --quiet --yes --no-install-recommends --download-only install")
            .args(["-o", "Dir::State::status=/dev/null", "-o", "Debug::NoLocking=true"])
            .args(["-o", "APT::Sandbox::User=", "-o", &format!("Dir::Cache::archives={}", debs.display())])
            .args(PACKAGES)
            .args([format!("python{python}")])
            .env("DEBIAN_FRONTEND", "noninteractive");
    run(download)?;
    let prepare = || {
        for dir in ["bin", "lib", "lib64", "sbin"] {
            fs::create_dir_all(system.join("usr").join(dir))?;
            symlink(format!("usr/{dir}"), system.join(dir))?;
        }
        let mut files: Vec<_> = fs::read_dir(&debs)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|path| is_used_package(path));
        files.sort();
        Ok(files)
    };
    for file in prepare().map_err(failed)? {
        // The folders of older packages must not replace the links of the merged /usr.
        let script = r#"dpkg-deb --fsys-tarfile "$1" | tar --extract --keep-directory-symlink --no-same-owner --directory "$2""#;
        run(Invocation::new("bash")
            .args(["-o", "pipefail", "-c", script, "unpack"])
            .args([&file])
            .args([system]))?;
    }
    Ok(())
}

fn is_used_package(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".deb") && !UNUSED_PACKAGES.iter().any(|unused| name.starts_with(unused))
}

/// Installs Dask and all it needs into a folder.
fn install_packages(python: &str, scratch: &Path, packages: &Path) -> Result<(), Error> {
    let venv = scratch.join("venv");
    run(Invocation::words("/usr/bin/python3 -m venv").args([&venv]))?;
    let install = Invocation::new(venv.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps", "--target"])
        .args([packages])
        .args(["--requirement"])
        .args([root().join("runtime/images/dask/requirements.txt")])
        // Settings of the machine must not choose other files.
        .env("PIP_FIND_LINKS", "");
    run(install)?;
    remove_tests(packages).map_err(failed)?;
    // Compiled once here, as no container can write it there. `-s` keeps the path of this machine out.
    let compile =
        Invocation::words("/usr/bin/python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash -s")
            .args([packages])
            .args(["-p", &format!("/{}", packages_path(python))])
            .args([packages]);
    run(compile)?;
    Ok(())
}

/// Where Debian's Python looks for packages that are not Debian's.
fn packages_path(python: &str) -> String {
    format!("usr/local/lib/python{python}/dist-packages")
}

/// The tests of `numpy` and `pandas` are a fifth of the image.
fn remove_tests(packages: &Path) -> io::Result<()> {
    let mut folders = vec![packages.join("numpy"), packages.join("pandas")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name == "tests") {
                fs::remove_dir_all(path)?;
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(())
}

fn system_layer(scratch: &Path, system: &Path, python: &str) -> io::Result<Layer> {
    let database =
        |name: &str| fs::read_to_string(system.join(format!("usr/share/base-passwd/{name}.master")));
    let passwd = database("passwd")? + &format!("dask:x:{USER}:{USER}::/home/dask:/bin/sh\n");
    let group = database("group")? + &format!("dask:x:{USER}:\n");
    for (link, target) in
        [("python3", format!("python{python}")), ("python", "python3".to_owned()), ("awk", "mawk".to_owned())]
    {
        let link = system.join("usr/bin").join(link);
        if fs::symlink_metadata(&link).is_err() {
            symlink(target, link)?;
        }
    }
    let mut layer = LayerBuilder::new(scratch)?;
    // Kubernetes mounts over dev, proc and sys; tmp is made below, with its sticky bit.
    let skipped = |path: &Path| {
        ["dev", "proc", "sys", "tmp", "var/tmp"]
            .iter()
            .chain(&UNUSED_FOLDERS)
            .any(|skipped| path == Path::new(skipped))
    };
    layer.tree(system, &|path| !skipped(path))?;
    layer.file("etc/passwd", 0o644, passwd.as_bytes())?;
    layer.file("etc/group", 0o644, group.as_bytes())?;
    for path in ["tmp", "var/tmp"] {
        layer.dir(path, 0o1777, oci::ROOT)?;
    }
    layer.dir("home/dask", 0o755, Owner(USER))?;
    layer.finish()
}

fn dask_layer(scratch: &Path, packages: &Path, python: &str) -> io::Result<Layer> {
    let mut layer = LayerBuilder::new(scratch)?;
    // The console scripts of pip name the Python that installed them.
    layer.tree_at(packages, &packages_path(python), &|path| path != Path::new("bin"))?;
    for (name, text) in SCRIPTS {
        layer.file(&format!("usr/local/bin/{name}"), 0o755, text.as_bytes())?;
    }
    layer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned_and_the_tag_is_the_version() {
        let lines = REQUIREMENTS.lines().filter(|line| !line.starts_with('#'));
        assert!(lines.clone().all(|line| line.contains("==")), "{REQUIREMENTS}");
        let tag = DASK.rsplit_once(':').unwrap().1;
        for package in ["dask", "distributed"] {
            assert!(lines.clone().any(|line| line == format!("{package}=={tag}")), "{package} is not {tag}");
        }
    }

    #[test]
    fn dockerfile_runs_the_image_in_the_same_way() {
        let dockerfile = fs::read_to_string(root().join("runtime/images/dask/Dockerfile")).unwrap();
        let run = run_config();
        let list = |words: &[String]| {
            let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            quoted.join(", ")
        };
        for line in [
            format!("ENTRYPOINT [{}]", list(&run.entrypoint)),
            format!("CMD [{}]", list(&run.command)),
            format!("USER {}", run.user),
            format!("WORKDIR {}", run.working_dir),
            format!("ENV {}", run.environment[1]),
        ] {
            assert!(dockerfile.lines().any(|have| have == line), "no line `{line}` in {dockerfile}");
        }
        assert!(dockerfile.contains(DASK), "the Dockerfile names another image than {DASK}");
    }

    #[test]
    fn packages_of_the_installer_are_left_out() {
        for (name, used) in [
            ("perl_5.36.0-7_amd64.deb", false),
            ("dpkg_1.21.22_amd64.deb", false),
            ("python3.11_3.11.2_amd64.deb", true),
            ("libpython3.11-stdlib_3.11.2_amd64.deb", true),
            ("lock", false),
        ] {
            assert_eq!(is_used_package(Path::new(name)), used, "{name}");
        }
    }

    #[test]
    fn tests_of_numpy_and_pandas_are_removed_at_any_depth() {
        let packages = tempfile::tempdir().unwrap();
        for dir in
            ["numpy/tests", "numpy/core/tests/data", "numpy/testing", "pandas/tests", "distributed/tests"]
        {
            fs::create_dir_all(packages.path().join(dir)).unwrap();
        }
        remove_tests(packages.path()).unwrap();
        for (dir, kept) in [
            ("numpy/tests", false),
            ("numpy/core/tests", false),
            ("pandas/tests", false),
            ("numpy/testing", true),
            ("distributed/tests", true),
        ] {
            assert_eq!(packages.path().join(dir).exists(), kept, "{dir}");
        }
    }
}
