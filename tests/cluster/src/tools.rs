//! The programs of the cluster, built from the pinned Go module in `tools/`.

use std::{fmt::Write as _, fs, path::PathBuf, time::Instant};

use crate::{
    command::{self, Invocation, find_program},
    state,
    workspace::{data_dir, root, short_hash},
};

const GO_MOD: &str = include_str!("../tools/go.mod");
const GO_SUM: &str = include_str!("../tools/go.sum");
const COREDNS_MAIN: &str = include_str!("../tools/coredns/main.go");

/// Programs and their Go packages. The order is that of need: the API tier starts with the first three.
const PROGRAMS: [(&str, &str); 10] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    ("coredns", "./coredns"),
    ("helm", "helm.sh/helm/v4/cmd/helm"),
    ("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
];

/// Why a program is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// We do not build a program of this name.
    #[error("there is no program {name:?} among {}", known())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// It has not been built, or not in the pinned version.
    #[error("{name} is not built ({path} is missing): run `make tools` (5 minutes the first time)")]
    Absent {
        /// Which program.
        name: String,
        /// Where it should be.
        path: PathBuf,
    },
    /// Go is not installed.
    #[error("failed to find go in target/toolchain/go/bin or PATH: run tests/cluster/install.sh")]
    NoGo,
    /// The build failed.
    #[error("failed to build {name}")]
    Build {
        /// Which program.
        name: String,
        /// What the compiler said.
        source: command::Error,
    },
    /// A file or folder of the cache.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The finished program could not be put into the cache.
    #[error("failed to move {path} into place")]
    Move {
        /// Its final place.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
}

fn known() -> String {
    PROGRAMS.map(|(name, _)| name).join(", ")
}

/// What identifies a build: the pinned sources and the flags.
#[must_use]
pub fn version() -> String {
    let flags = linker_flags();
    let parts = [GO_MOD, GO_SUM, COREDNS_MAIN, flags.as_str(), std::env::consts::ARCH];
    short_hash(parts.map(str::as_bytes), 12)
}

/// Version of Kubernetes, such as `v1.36.3`.
#[must_use]
pub fn kubernetes_version() -> &'static str {
    let mut words = GO_MOD.lines().map(str::split_whitespace);
    words
        .find_map(|mut line| (line.next()? == "k8s.io/kubernetes").then(|| line.next()).flatten())
        .unwrap_or("v0.0.0")
}

/// Without these `kubectl version` and the API server call themselves v0.0.0, which helm charts refuse.
fn linker_flags() -> String {
    let version = kubernetes_version();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (variable, value) in [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)] {
            let _ = write!(flags, " -X {package}.{variable}={value}");
        }
    }
    flags
}

/// The folder of the programs in their pinned version.
#[must_use]
pub fn bin_dir() -> PathBuf {
    data_dir().join("bin").join(version())
}

/// Where a program is.
///
/// # Errors
/// When there is no such program, or it has not been built yet.
pub fn path(program: &str) -> Result<PathBuf, Error> {
    if !PROGRAMS.iter().any(|(name, _)| *name == program) {
        return Err(Error::Unknown { name: program.to_owned() });
    }
    let path = bin_dir().join(program);
    if path.is_file() { Ok(path) } else { Err(Error::Absent { name: program.to_owned(), path }) }
}

/// Builds every program that is missing, one after the other; at once when there is none.
///
/// # Errors
/// When Go is missing or a build fails.
pub fn build() -> Result<(), Error> {
    let dir = bin_dir();
    state::make_dir(&dir)?;
    let _lock = state::lock(&dir.join(".lock"))?;
    let missing = PROGRAMS.iter().filter(|(name, _)| !dir.join(name).is_file());
    for (name, package) in missing {
        let start = Instant::now();
        tracing::info!("building {name} from {package}");
        build_one(name, package)?;
        tracing::info!("built {name} in {} s", start.elapsed().as_secs());
    }
    Ok(())
}

fn build_one(name: &str, package: &str) -> Result<(), Error> {
    let path = bin_dir().join(name);
    let partial = bin_dir().join(format!(".{name}.partial"));
    Invocation::new(go()?)
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &linker_flags(), "-o"])
        .args([&partial])
        .args([package])
        // Static programs: CoreDNS goes into an image of its own, the rest runs on any distribution.
        .env("CGO_ENABLED", "0")
        // A workspace or vendor setting of the user would change what is built.
        .env("GOFLAGS", "-mod=readonly")
        .env("GOWORK", "off")
        .in_dir(&root().join("tests/cluster/tools"))
        .run()
        .map_err(|source| Error::Build { name: name.to_owned(), source })?;
    fs::rename(&partial, &path).map_err(|source| Error::Move { path, source })
}

fn go() -> Result<PathBuf, Error> {
    let own = root().join("target/toolchain/go/bin/go");
    if own.is_file() {
        return Ok(own);
    }
    find_program("go").ok_or(Error::NoGo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_that_of_the_module_file() {
        assert!(GO_MOD.contains(&format!("k8s.io/kubernetes {}", kubernetes_version())));
        assert!(kubernetes_version().starts_with("v1."), "{}", kubernetes_version());
    }

    #[test]
    fn linker_flags_name_major_and_minor() {
        let flags = linker_flags();
        assert!(flags.contains("component-base/version.gitMajor=1 "), "{flags}");
        assert!(
            flags.contains(&format!("client-go/pkg/version.gitVersion={}", kubernetes_version())),
            "{flags}"
        );
    }

    #[test]
    fn every_program_is_a_pinned_tool() {
        for (name, package) in PROGRAMS {
            let package = package.replace("./coredns", "dask-operator/testbed/tools/coredns");
            assert!(GO_MOD.contains(&format!("\t{package}\n")), "{name}: {package} is no tool in go.mod");
        }
    }

    #[test]
    fn unknown_program_is_answered_with_the_known_ones() {
        let error = path("kubeadm").unwrap_err().to_string();
        assert!(error.contains("kubeadm") && error.contains("kube-apiserver"), "{error}");
    }
}
