//! What nodes need from the machine, and how to get it.

mod machine;
mod problems;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use crate::command::find_program;
use machine::Machine;

const INSTALL: &str = "run tests/cluster/install.sh as root";

/// What is missing, each with its cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// One sentence for each.
    pub problems: Vec<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "nodes cannot run on this machine (the API tier can): {}", self.problems.join("; "))
    }
}

impl std::error::Error for Missing {}

/// Programs of the host that nodes use.
#[derive(Debug)]
pub(crate) struct NodePrograms {
    pub(crate) runc: PathBuf,
    pub(crate) cni_plugins: PathBuf,
}

/// Whether nodes that run containers can run here.
///
/// # Errors
/// With everything that is missing, and the cure of each.
pub fn check_nodes() -> Result<(), Missing> {
    let mut problems = Vec::new();
    if let Err(missing) = node_programs() {
        problems.extend(missing.problems);
    }
    problems.extend(problems::problems(&Machine::read()));
    if problems.is_empty() { Ok(()) } else { Err(Missing { problems }) }
}

/// The folders in which distributions put CNI plugins.
const CNI_FOLDERS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];

pub(crate) fn node_programs() -> Result<NodePrograms, Missing> {
    let mut problems: Vec<String> =
        ["containerd", "ctr", "conntrack", "ip", "nft", "nsenter", "sysctl", "unshare"]
            .into_iter()
            .filter(|program| find_program(program).is_none())
            .map(|program| format!("the program {program} is not installed: {INSTALL}"))
            .collect();
    let runc = find_program("runc");
    let cni_plugins = CNI_FOLDERS.map(PathBuf::from).into_iter().find(|dir| dir.join("bridge").is_file());
    match (runc, cni_plugins) {
        (Some(runc), Some(cni_plugins)) if problems.is_empty() => Ok(NodePrograms { runc, cni_plugins }),
        (runc, cni_plugins) => {
            if runc.is_none() {
                problems.push(format!("the program runc is not installed: {INSTALL}"));
            }
            if cni_plugins.is_none() {
                problems.push(format!("no CNI plugins in {}: {INSTALL}", CNI_FOLDERS.join(", ")));
            }
            Err(Missing { problems })
        }
    }
}

/// Memory of the machine in bytes.
pub(crate) fn machine_memory() -> u64 {
    parse_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn parse_memory(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// An overlay where the kernel takes one, else copies, which work everywhere.
pub(crate) fn snapshotter(dir: &Path) -> &'static str {
    if machine::takes_overlay(dir) { "overlayfs" } else { "native" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_things_are_all_named() {
        let missing = Missing { problems: vec!["no runc: get it".into(), "not root: be it".into()] };
        let text = missing.to_string();
        assert!(text.contains("no runc: get it") && text.contains("not root: be it"), "{text}");
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(parse_memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16_777_216);
        assert!(machine_memory() > 0);
    }
}
