//! What the tests of the local cluster share.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a failed helper is a failed test"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use testbed::{Cluster, tools};

/// A name that no other test and no other run uses.
pub(crate) fn unique(test: &str) -> String {
    format!("test-{test}-{}", std::process::id())
}

/// Takes the cluster of this name down when the test ends, also by a panic.
pub(crate) struct Cleanup(pub(crate) String);

impl Drop for Cleanup {
    fn drop(&mut self) {
        let name = self.0.clone();
        let down = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(testbed::down(&name)).unwrap();
        });
        let down = down.join();
        // A second panic would hide the first.
        assert!(down.is_ok() || std::thread::panicking(), "cluster {} could not be taken down", self.0);
    }
}

/// Runs kubectl as administrator; the error is what it printed.
pub(crate) fn try_kubectl(cluster: &Cluster, line: &str) -> Result<String, String> {
    kubectl_with(cluster, &line.split_whitespace().collect::<Vec<_>>(), "")
}

pub(crate) fn kubectl(cluster: &Cluster, line: &str) -> String {
    try_kubectl(cluster, line).unwrap_or_else(|error| panic!("kubectl {line}: {error}"))
}

/// Creates the objects of a manifest.
pub(crate) fn apply(cluster: &Cluster, manifest: &str) {
    kubectl_with(cluster, &["apply", "-f", "-"], manifest)
        .unwrap_or_else(|error| panic!("{error}\n{manifest}"));
}

fn kubectl_with(cluster: &Cluster, args: &[&str], input: &str) -> Result<String, String> {
    let mut stdin = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut stdin).unwrap();
    let output = Command::new(tools::path("kubectl").unwrap())
        .env("KUBECONFIG", cluster.kubeconfig_path())
        .args(args)
        .stdin(stdin)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Looks every 200 ms until `look` answers `Ok`; panics with its last answer after `patience`.
pub(crate) async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => {
                println!("{what} after {:.1} s", start.elapsed().as_secs_f32());
                return value;
            }
            Err(seen) if start.elapsed() > patience => {
                panic!("{what}: not within {} s; last seen: {seen}", patience.as_secs())
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Every process of a cluster: those that carry its state folder in their environment.
pub(crate) fn processes(state_dir: &Path) -> BTreeSet<u32> {
    let marker = format!("DASK_TESTBED_STATE_DIR={}", state_dir.display());
    let pids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes())
    })
    .collect()
}

/// SIGKILL for every process of a cluster, as the kernel does when memory is short.
pub(crate) fn kill_9(state_dir: &Path) {
    let pids: Vec<_> = processes(state_dir).iter().map(ToString::to_string).collect();
    assert!(!pids.is_empty(), "{} has no processes", state_dir.display());
    // Some end as others are killed: not finding them is no failure.
    Command::new("kill").arg("-9").args(pids).output().unwrap();
}

/// What a cluster can leave on the machine: mounts, links, routes, network namespaces, rules of a
/// firewall, control groups.
/// What belongs to other clusters that come and go meanwhile is left out.
pub(crate) fn machine(own_prefix: &str) -> BTreeSet<String> {
    let run = |line: &str| {
        let mut words = line.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let folder = |path: &str| {
        let entries = fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>().join("\n")
    };
    let sources = [
        ("mount", fs::read_to_string("/proc/mounts").unwrap()),
        ("link", folder("/sys/class/net")),
        ("route", run("ip -o route show table all")),
        ("namespace", folder("/run/netns")),
        ("rule", run("nft list ruleset")),
        ("control group", run("find /sys/fs/cgroup -type d ( -name tb* -o -name dask-testbed )")),
        ("folder", folder("/var/lib")),
    ];
    sources
        .iter()
        .flat_map(|(kind, text)| text.lines().map(move |line| format!("{kind}: {line}")))
        .filter(|line| !is_of_another_cluster(line, own_prefix))
        .collect()
}

/// Whether a line holds the prefix of another cluster: `tb` and eight hexadecimal digits; or the folder of all
/// network namespaces, which is there as long as anybody has one.
fn is_of_another_cluster(line: &str, own_prefix: &str) -> bool {
    let other = line.match_indices("tb").any(|(start, _)| {
        let name: String = line[start..].chars().take(10).collect();
        name.len() == 10 && name != own_prefix && name[2..].chars().all(|digit| digit.is_ascii_hexdigit())
    });
    other || line.contains(" /run/netns ")
}
