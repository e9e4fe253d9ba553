use super::*;
use crate::{cgroups::unified::Root, requirements::machine::Refused};

const UNIFIED: &str = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate 0 0\n";
const VERSION_1: &str = "tmpfs /sys/fs/cgroup tmpfs ro,mode=755 0 0\n\
                         c /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                         c /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\n\
                         c /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                         c /sys/fs/cgroup/devices cgroup rw,devices 0 0\n\
                         c /sys/fs/cgroup/pids cgroup rw,pids 0 0\n";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// What Debian 13 says on a machine of its own.
fn debian() -> Machine {
    Machine {
        root: true,
        uid_map: "         0          0 4294967295\n".into(),
        status: "Name:\tdask-testbed\nCapPrm:\t000001ffffffffff\nCapEff:\t000001ffffffffff\n".into(),
        limits: "Limit                     Soft Limit           Hard Limit           Units\n\
                 Max open files            1024                 524288               files\n"
            .into(),
        mounts: UNIFIED.into(),
        kernel: "6.12.48+deb13-amd64\n".into(),
        nft: "nftables v1.1.3 (Commodore Bullmoose #4)\n".into(),
        inotify_watches: "65536\n".into(),
        inotify_instances: INOTIFY_INSTANCES,
        unified: Some(Root {
            available: words("cpuset cpu io memory hugetlb pids rdma misc"),
            enabled: words("memory pids"),
            kind: None,
            occupied: true,
        }),
        kmsg: true,
        bridge_netfilter: true,
        refused: Refused::default(),
    }
}

fn found(change: impl FnOnce(&mut Machine)) -> Vec<String> {
    let mut machine = debian();
    change(&mut machine);
    problems(&machine)
}

#[test]
fn nothing_is_missing_on_current_distributions() {
    assert_eq!(found(|_| {}), Vec::<String>::new());
    assert_eq!(
        found(|machine| (machine.mounts, machine.unified) = (VERSION_1.into(), None)),
        Vec::<String>::new()
    );
}

/// Each problem comes alone, with what is missing and its cure.
#[rstest::rstest]
#[case::plain_user(|m: &mut Machine| m.root = false, &["not root", "sudo"])]
#[case::rootless_container(
    |m: &mut Machine| m.uid_map = "0 1000 1\n1 100000 65536\n".into(),
    &["user namespace", "rootless", "--privileged"]
)]
#[case::container_without_rights(
    // What Docker gives without --privileged.
    |m: &mut Machine| m.status = "CapEff:\t00000000a80425fb\n".into(),
    &["CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN are missing", "privileged"]
)]
#[case::seccomp(
    |m: &mut Machine| m.refused.namespaces = Some("unshare failed: Operation not permitted".into()),
    &["namespaces (unshare failed: Operation not permitted)", "privileged"]
)]
#[case::no_control_groups(|m: &mut Machine| m.mounts.clear(), &["mount -t cgroup2"])]
#[case::read_only_control_groups(
    |m: &mut Machine| {
        m.mounts = "cgroup /sys/fs/cgroup cgroup2 ro,nosuid 0 0\n".into();
        m.refused.control_group = Some("Read-only file system".into());
    },
    &["/sys/fs/cgroup are mounted read-only", "privileged"]
)]
#[case::refused_control_group(
    |m: &mut Machine| m.refused.control_group = Some("Permission denied".into()),
    &["(Permission denied)", "privileged"]
)]
#[case::no_memory_controller(
    |m: &mut Machine| m.unified = Some(Root { available: words("cpuset cpu io pids"), ..Root::default() }),
    &["no controller memory", "cgroup_disable"]
)]
#[case::container_without_controllers(
    |m: &mut Machine| {
        let available = words("memory pids");
        m.unified = Some(Root { available, kind: Some("domain".into()), ..Root::default() });
    },
    &["no controllers cpu, cpuset, io", "Delegate=yes"]
)]
#[case::version_1_without_memory(
    |m: &mut Machine| (m.mounts, m.unified) = (VERSION_1.replace("memory", "freezer"), None),
    &["no control groups for memory", "cgroup_enable=memory"]
)]
#[case::old_kernel(|m: &mut Machine| m.kernel = "5.10.0-34-amd64\n".into(), &["Linux 5.10.0-34-amd64", "5.13"])]
#[case::old_nft(|m: &mut Machine| m.nft = "nftables v0.9.8 (E.D.S.)\n".into(), &["nft v0.9.8", "1.0.1"])]
#[case::no_bridge(
    |m: &mut Machine| m.refused.bridge = Some("Error: Unknown device type.".into()),
    &["bridges (Error: Unknown device type.)", "modprobe -a bridge"]
)]
#[case::no_veth(
    |m: &mut Machine| m.refused.veth = Some("Error: Unknown device type.".into()),
    &["pairs of network links", "modprobe -a veth"]
)]
#[case::no_nftables(
    |m: &mut Machine| m.refused.service_rules = Some("Error: Could not process rule".into()),
    &["nftables rules of Services", "modprobe -a nf_tables"]
)]
#[case::no_bridge_netfilter(
    |m: &mut Machine| m.bridge_netfilter = false,
    &["br_netfilter is missing", "modprobe -a br_netfilter", "machine around it"]
)]
#[case::no_kernel_log(|m: &mut Machine| m.kmsg = false, &["/dev/kmsg", "--device /dev/kmsg"])]
#[case::few_inotify_instances(
    |m: &mut Machine| m.inotify_instances = 3,
    &["only 3 more inotify instances", "fs.inotify.max_user_instances=1024"]
)]
#[case::few_inotify_watches(
    |m: &mut Machine| m.inotify_watches = "4096\n".into(),
    &["only 4096 inotify watches", "fs.inotify.max_user_watches"]
)]
#[case::few_open_files(
    |m: &mut Machine| m.limits = "Max open files            1024                 1024                 files\n".into(),
    &["at most 1024 files", "ulimit -Hn"]
)]
fn each_problem_is_named_with_its_cure(#[case] change: fn(&mut Machine), #[case] words: &[&str]) {
    let problems = found(change);
    assert_eq!(problems.len(), 1, "{problems:?}");
    for word in words {
        assert!(problems[0].contains(word), "no {word:?} in {problems:?}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let problems = found(|machine| {
        machine.kmsg = false;
        machine.bridge_netfilter = false;
        machine.inotify_instances = 0;
    });
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn versions_are_numbers() {
    assert_eq!(numbers("6.1.0-37-amd64\n"), [6, 1, 0, 37]);
    assert_eq!(numbers("v1.0.6"), [1, 0, 6]);
    assert_eq!(numbers("6.18.44-fc-v769"), [6, 18, 44]);
    assert_eq!(numbers(""), Vec::<u32>::new());
}
