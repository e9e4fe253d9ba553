//! What is read from this machine to find out whether nodes can run on it.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use super::problems::INOTIFY_INSTANCES;
use crate::{
    cgroups::{Hierarchy, unified::Root},
    command::Invocation,
};

/// The tables that kube-proxy makes for Services, as far as they need modules of the kernel.
const SERVICE_RULES: &str = "
table ip testbed {
  chain one { meta l4proto tcp dnat to 192.0.2.2:80; }
  chain two { meta l4proto tcp dnat to 192.0.2.3:80; }
  chain in {
    type nat hook prerouting priority -100;
    fib daddr type local counter
    ip daddr 192.0.2.1 tcp dport 80 numgen random mod 2 vmap { 0 : goto one, 1 : goto two }
  }
  chain out { type nat hook postrouting priority 100; meta mark & 0x4000 != 0 masquerade fully-random; }
  chain filter { type filter hook input priority 0; ct state new ip daddr 192.0.2.4 reject; }
}
";

/// Two checks at once in one process must not remove each other's control group.
static PROBES: AtomicU32 = AtomicU32::new(0);

/// What was read, as it was read, and what the kernel answered to what was tried.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) root: bool,
    /// `/proc/self/uid_map`.
    pub(super) uid_map: String,
    /// `/proc/self/status`.
    pub(super) status: String,
    /// `/proc/self/limits`.
    pub(super) limits: String,
    /// `/proc/mounts`.
    pub(super) mounts: String,
    /// `/proc/sys/kernel/osrelease`.
    pub(super) kernel: String,
    /// `nft --version`.
    pub(super) nft: String,
    /// `/proc/sys/fs/inotify/max_user_watches`.
    pub(super) inotify_watches: String,
    /// Instances that could be made, up to what nodes need.
    pub(super) inotify_instances: usize,
    /// What the root of the control groups of version 2 says; `None` with version 1.
    pub(super) unified: Option<Root>,
    /// `/dev/kmsg` is there.
    pub(super) kmsg: bool,
    /// `/proc/sys/net/bridge/bridge-nf-call-iptables` is there, perhaps after loading `br_netfilter`.
    pub(super) bridge_netfilter: bool,
    /// What was tried and refused.
    pub(super) refused: Refused,
}

/// The answers to what was tried; `None` where it succeeded.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused {
    pub(super) namespaces: Option<String>,
    pub(super) bridge: Option<String>,
    pub(super) veth: Option<String>,
    pub(super) service_rules: Option<String>,
    pub(super) control_group: Option<String>,
}

impl Machine {
    /// Reads and tries. Whoever is not root is told only that, and nothing is tried.
    pub(super) fn read() -> Self {
        let root = rustix::process::geteuid().is_root();
        let mounts = text("/proc/mounts");
        let hierarchy = Hierarchy::parse(&mounts);
        Self {
            root,
            uid_map: text("/proc/self/uid_map"),
            status: text("/proc/self/status"),
            limits: text("/proc/self/limits"),
            kernel: text("/proc/sys/kernel/osrelease"),
            nft: Invocation::words("nft --version").run().unwrap_or_default(),
            inotify_watches: text("/proc/sys/fs/inotify/max_user_watches"),
            inotify_instances: inotify_instances(),
            unified: match &hierarchy {
                Hierarchy::V2(path) => Some(Root::read(path)),
                Hierarchy::V1(_) => None,
            },
            kmsg: Path::new("/dev/kmsg").exists(),
            bridge_netfilter: root && bridge_netfilter(),
            refused: if root { Refused::by_trying(&hierarchy) } else { Refused::default() },
            mounts,
        }
    }
}

impl Refused {
    fn by_trying(hierarchy: &Hierarchy) -> Self {
        let in_network = |line: &str| refusal(Invocation::words(&format!("unshare --net {line}")));
        let number = PROBES.fetch_add(1, Ordering::Relaxed);
        let group = format!("dask-testbed-probe-{}-{number}", std::process::id());
        Self {
            namespaces: refusal(Invocation::words(
                "unshare --mount --net --pid --ipc --uts --cgroup --fork --mount-proc true",
            )),
            bridge: in_network("ip link add testbed0 type bridge"),
            veth: in_network("ip link add testbed0 type veth peer name testbed1"),
            service_rules: refusal(Invocation::words("unshare --net nft -f -").input(SERVICE_RULES)),
            control_group: hierarchy.probe(&group).err().map(|error| crate::chain(&error)),
        }
    }
}

/// What a program answered that failed.
fn refusal(invocation: Invocation) -> Option<String> {
    match invocation.run() {
        Ok(_) => None,
        Err(crate::command::Error::Failed { output, .. }) => {
            Some(output.lines().next().unwrap_or("no answer").to_owned())
        }
        Err(error) => Some(crate::chain(&error)),
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Loading it needs a right that a privileged container may lack; then it is there already or not to be had.
fn bridge_netfilter() -> bool {
    let setting = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    setting.exists() || (Invocation::words("modprobe br_netfilter").run().is_ok() && setting.exists())
}

/// Makes as many as nodes need, for a moment: other programs of this user have some of those that are allowed.
fn inotify_instances() -> usize {
    use rustix::fs::inotify::{CreateFlags, init};
    let made: Vec<_> = (0..INOTIFY_INSTANCES).map_while(|_| init(CreateFlags::CLOEXEC).ok()).collect();
    made.len()
}

/// Whether the kernel mounts an overlay whose upper layer lies in this folder. It does not put one on another (a
/// checkout inside a container), and some file systems do not take one.
pub(super) fn takes_overlay(dir: &Path) -> bool {
    let Ok(scratch) = tempfile::Builder::new().prefix(".overlay-").tempdir_in(dir) else { return false };
    let mut options = String::new();
    for (option, folder) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        let path = scratch.path().join(folder);
        if fs::create_dir(&path).is_err() {
            return false;
        }
        let _ = write!(options, "{option}={},", path.display());
    }
    let options = options.trim_end_matches(',');
    // The mount goes with the namespace.
    Invocation::words("unshare --mount mount -t overlay overlay -o")
        .args([options])
        .args([scratch.path()])
        .run()
        .is_ok()
}
