//! What nodes need from the machine, and how to get it.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    cgroups::Hierarchy,
    command::{Invocation, find_program},
};

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
    if rustix::process::geteuid().is_root() {
        problems.extend(kernel_problems());
    } else {
        problems.push("not root: run as root, or with sudo".to_owned());
    }
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

/// Two checks at once in one process must not remove each other's control group.
static PROBES: AtomicU32 = AtomicU32::new(0);

fn kernel_problems() -> Vec<String> {
    let mut problems = Vec::new();
    if Invocation::words("unshare --mount --net --pid --ipc --uts --cgroup --fork true").run().is_err() {
        problems.push("the kernel refuses new namespaces: in a container, run it privileged".to_owned());
    }
    // Loading it needs a right that a privileged container may lack; then it is there already or not to be had.
    let bridge = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if !bridge.exists() && (Invocation::words("modprobe br_netfilter").run().is_err() || !bridge.exists()) {
        problems.push(
            "the kernel module br_netfilter is missing: load it with `modprobe br_netfilter`".to_owned(),
        );
    }
    let hierarchy = Hierarchy::of_machine();
    let number = PROBES.fetch_add(1, Ordering::Relaxed);
    let probe = format!("dask-testbed-probe-{}-{number}", std::process::id());
    let created = hierarchy.create(&probe);
    if hierarchy.remove(&probe, std::time::Duration::from_secs(1)).is_err() || created.is_err() {
        problems.push("control groups cannot be made: in a container, run it privileged".to_owned());
    }
    if let Hierarchy::V1(mounts) = &hierarchy
        && !mounts.iter().any(|mount| mount.options.contains("memory"))
    {
        problems
            .push("no memory controller among the control groups: boot with cgroup_enable=memory".to_owned());
    }
    problems
}

/// Memory of the machine in bytes.
pub(crate) fn machine_memory() -> u64 {
    parse_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn parse_memory(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// The kernel cannot put an overlay on an overlay (a checkout inside a container): copies work everywhere.
pub(crate) fn snapshotter(dir: &Path) -> &'static str {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    if file_system(&mounts, dir) == Some("overlay") { "native" } else { "overlayfs" }
}

/// Type of the file system on which a folder lies.
fn file_system<'a>(mounts: &'a str, dir: &Path) -> Option<&'a str> {
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holding = fields.filter(|(mount, _)| dir.starts_with(mount));
    // Of two mounts on one folder the later hides the earlier.
    holding.max_by_key(|(mount, _)| mount.len()).map(|(_, kind)| kind)
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

    #[test]
    fn innermost_and_latest_mount_counts() {
        let mounts = "a / overlay rw 0 0\nb /work ext4 rw 0 0\nc /work overlay rw 0 0\nd /wo tmpfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/home")), Some("overlay"));
        assert_eq!(file_system(mounts, Path::new("/work/x")), Some("overlay"));
        assert_eq!(file_system("b /work ext4 rw 0 0\n", Path::new("/work/x")), Some("ext4"));
        assert_eq!(file_system(mounts, Path::new("/wo/x")), Some("tmpfs"));
    }
}
