//! The list of everything that can keep nodes from running, with the cure of each. Nothing is read here.

use super::machine::Machine;
use crate::cgroups::{Hierarchy, unified};

/// inotify instances: two nodes and their control plane were seen with 24, and with version 2 each pod has one more.
pub(super) const INOTIFY_INSTANCES: usize = 48;

/// Fewer watches than old kernels have by default are the choice of somebody who did not think of containers.
const INOTIFY_WATCHES: u64 = 8192;

/// Open files that containerd and kubelet need with a few pods each.
const OPEN_FILES: u64 = 4096;

/// kube-proxy's nftables mode refuses older ones (pkg/proxy/nftables and cmd/kube-proxy in Kubernetes 1.36).
const KERNEL: (u32, u32) = (5, 13);
const NFT: (u32, u32, u32) = (1, 0, 1);

/// Rights by their bit in `CapEff` (linux/capability.h): what the node's own programs use, and what containers get
/// by default, which nobody can give who does not have it.
const CAPABILITIES: [(u32, &str); 17] = [
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (3, "FOWNER"),
    (4, "FSETID"),
    (5, "KILL"),
    (6, "SETGID"),
    (7, "SETUID"),
    (8, "SETPCAP"),
    (10, "NET_BIND_SERVICE"),
    (12, "NET_ADMIN"),
    (13, "NET_RAW"),
    (18, "SYS_CHROOT"),
    (19, "SYS_PTRACE"),
    (21, "SYS_ADMIN"),
    (27, "MKNOD"),
    (29, "AUDIT_WRITE"),
    (31, "SETFCAP"),
];

/// One sentence for each problem. Missing rights come alone: without them every later answer is a refusal, too.
pub(super) fn problems(machine: &Machine) -> Vec<String> {
    let rights = rights(machine);
    if !rights.is_empty() {
        return rights;
    }
    [control_groups(machine), kernel(machine), limits(machine)].concat()
}

fn rights(machine: &Machine) -> Vec<String> {
    if !machine.root {
        return vec!["not root: run as root, or with sudo".to_owned()];
    }
    // Root of the machine sees every user as itself: one line, all 2³² numbers.
    let mut map = machine.uid_map.split_whitespace();
    if [map.next(), map.next()] != [Some("0"); 2] || map.next() != Some("4294967295") {
        return vec![
            "root of a user namespace only (a rootless container): use root of the machine, \
             in a container of Docker or Podman that root runs with --privileged"
                .to_owned(),
        ];
    }
    let held = machine.status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = held.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let missing: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| held & (1 << bit) == 0)
        .map(|(_, name)| format!("CAP_{name}"))
        .collect();
    let mut problems = Vec::new();
    if !missing.is_empty() {
        problems.push(format!(
            "the rights {} are missing: in a container, run it privileged",
            missing.join(", ")
        ));
    } else if let Some(answer) = &machine.refused.namespaces {
        problems
            .push(format!("the kernel refuses new namespaces ({answer}): in a container, run it privileged"));
    }
    problems
}

fn control_groups(machine: &Machine) -> Vec<String> {
    let hierarchy = Hierarchy::parse(&machine.mounts);
    let roots = hierarchy.roots();
    if roots.is_empty() {
        return vec![
            "no control groups are mounted: mount them with `mount -t cgroup2 cgroup2 /sys/fs/cgroup`"
                .to_owned(),
        ];
    }
    let read_only: Vec<_> = roots
        .iter()
        .filter(|root| is_read_only(&machine.mounts, root))
        .map(|root| root.display().to_string())
        .collect();
    let mut problems = Vec::new();
    if !read_only.is_empty() {
        problems.push(format!(
            "the control groups at {} are mounted read-only: in a container, run it privileged",
            read_only.join(", ")
        ));
    } else if let Some(answer) = &machine.refused.control_group {
        problems.push(format!("control groups cannot be made ({answer}): in a container, run it privileged"));
    }
    match &hierarchy {
        Hierarchy::V2(_) => problems.extend(machine.unified.iter().flat_map(unified::Root::problems)),
        Hierarchy::V1(mounts) => {
            let mounted =
                |name: &str| mounts.iter().any(|mount| mount.options.split(',').any(|one| one == name));
            let missing: Vec<_> = V1_NEEDED.into_iter().filter(|name| !mounted(name)).collect();
            if !missing.is_empty() {
                problems.push(format!(
                    "no control groups for {}: mount them below /sys/fs/cgroup, for memory boot with \
                     `cgroup_enable=memory`, or boot with control groups of version 2 \
                     (`systemd.unified_cgroup_hierarchy=1`)",
                    missing.join(", ")
                ));
            }
        }
    }
    problems
}

/// Controllers of version 1 without which kubelet does not start.
const V1_NEEDED: [&str; 6] = ["cpu", "cpuacct", "cpuset", "memory", "devices", "pids"];

/// Whether the mount at this place is read-only. Of two mounts on one folder the later hides the earlier.
fn is_read_only(mounts: &str, place: &std::path::Path) -> bool {
    let mut options = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (std::path::Path::new(path) == place).then(|| fields.nth(1)).flatten()
    });
    options.next_back().is_some_and(|options| options.split(',').any(|option| option == "ro"))
}

fn kernel(machine: &Machine) -> Vec<String> {
    let mut problems = Vec::new();
    let numbers = numbers(&machine.kernel);
    if let [major, minor, ..] = numbers[..]
        && (major, minor) < KERNEL
    {
        problems.push(format!(
            "Linux {} is too old for kube-proxy: boot Linux {}.{} or newer",
            machine.kernel.trim(),
            KERNEL.0,
            KERNEL.1
        ));
    }
    let nft = machine.nft.split_whitespace().find(|word| word.starts_with('v')).unwrap_or_default();
    if let [major, minor, patch, ..] = self::numbers(nft)[..]
        && (major, minor, patch) < NFT
    {
        problems.push(format!("nft {nft} is too old for kube-proxy: install nftables 1.0.1 or newer"));
    }
    let refused = &machine.refused;
    let modules = [
        (&refused.bridge, "bridges", "bridge"),
        (&refused.veth, "pairs of network links", "veth"),
        (
            &refused.service_rules,
            "the nftables rules of Services",
            "nf_tables nft_chain_nat nft_ct nft_fib_ipv4 nft_masq nft_nat nft_numgen nft_reject_ipv4",
        ),
    ];
    for (answer, what, modules) in modules {
        if let Some(answer) = answer {
            problems.push(format!("the kernel refuses {what} ({answer}): {}", load(modules)));
        }
    }
    if !machine.bridge_netfilter {
        problems.push(format!("the kernel module br_netfilter is missing: {}", load("br_netfilter")));
    }
    if !machine.kmsg {
        problems.push(
            "/dev/kmsg is missing, from which kubelet reads: in a container, run it privileged or with \
             `--device /dev/kmsg`, else `mknod /dev/kmsg c 1 11`"
                .to_owned(),
        );
    }
    problems
}

fn load(modules: &str) -> String {
    format!("load what it lacks with `modprobe -a {modules}`, for a container on the machine around it")
}

/// The numbers of a version, up to the first part that is none.
fn numbers(version: &str) -> Vec<u32> {
    let parts = version.trim().trim_start_matches('v').split(['.', '-', '+']);
    parts.map_while(|part| part.parse().ok()).collect()
}

fn limits(machine: &Machine) -> Vec<String> {
    let mut problems = Vec::new();
    if machine.inotify_instances < INOTIFY_INSTANCES {
        problems.push(format!(
            "only {} more inotify instances are allowed where two nodes take {INOTIFY_INSTANCES}: raise the limit with \
             `sysctl fs.inotify.max_user_instances=1024`",
            machine.inotify_instances
        ));
    }
    let watches = machine.inotify_watches.trim().parse::<u64>();
    if watches.is_ok_and(|watches| watches < INOTIFY_WATCHES) {
        problems.push(format!(
            "only {} inotify watches are allowed: raise the limit with `sysctl fs.inotify.max_user_watches=524288`",
            machine.inotify_watches.trim()
        ));
    }
    let files = machine.limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = files.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    if let Some(hard) = hard.filter(|hard| *hard < OPEN_FILES) {
        problems.push(format!(
            "at most {hard} files may be open where a node takes {OPEN_FILES}: raise the hard limit with \
             `ulimit -Hn 20000`, for a container with `--ulimit nofile=20000`"
        ));
    }
    problems
}

#[cfg(test)]
#[path = "problems_tests.rs"]
mod tests;
