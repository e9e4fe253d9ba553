//! Nodes: containerd, kubelet and kube-proxy in namespaces and control groups of their own.

mod files;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cgroups::{self, Hierarchy, Joins, unified},
    command::{self, Invocation},
    images,
    network::Network,
    pki::{self, Authority, Subject},
    process::{self, Daemon, ProcessId},
    requirements,
    state::{self, State},
    tools, wait,
};

/// From SIGKILL until the kernel has ended every container of a node.
const END_PATIENCE: Duration = Duration::from_secs(20);

/// From the start of a node until its containerd answers.
const CONTAINERD_PATIENCE: Duration = Duration::from_secs(30);

/// Joins the control groups (arguments up to `--`) and becomes the rest of its arguments.
const JOIN: &str = r#"while [ "$1" != -- ]; do echo $$ > "$1" || exit 1; shift; done; shift; exec "$@""#;

/// Why a node could not be started, changed or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No node has this name.
    #[error("there is no node {name:?}; the nodes are {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The nodes.
        known: Vec<String>,
    },
    /// The node is dead.
    #[error("node {name} is not running: start it with `dask-testbed node restart {name}`")]
    Dead {
        /// Which node.
        name: String,
    },
    /// containerd does not answer.
    #[error("containerd of {name} did not answer within {seconds} s; the end of {log}:\n{tail}")]
    NotReady {
        /// Which node.
        name: String,
        /// How long was waited.
        seconds: u64,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// Its first process ended before containerd answered.
    #[error("{name} did not start; the end of {log}:\n{tail}")]
    Ended {
        /// Which node.
        name: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of the log: the last says which step failed.
        tail: String,
    },
    /// A command.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// Control groups.
    #[error(transparent)]
    Cgroups(#[from] cgroups::Error),
    /// An image.
    #[error(transparent)]
    Image(#[from] images::Error),
    /// A certificate.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// A process.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// Something nodes need is missing.
    #[error(transparent)]
    Requirements(#[from] requirements::Missing),
    /// A file or folder.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The archive that was to be loaded cannot be read.
    #[error("failed to read image archive {path}")]
    Archive {
        /// Which one.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// One node of a cluster.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) name: String,
    pub(crate) number: u8,
    state_dir: &'a Path,
    network: &'a Network,
}

/// All nodes, in order.
pub(crate) fn all<'a>(state_dir: &'a Path, state: &State, network: &'a Network) -> Vec<Node<'a>> {
    let names = state.nodes().into_iter().zip(1..);
    names.map(|(name, number)| Node { name, number, state_dir, network }).collect()
}

/// The node of this name.
pub(crate) fn find<'a>(
    state_dir: &'a Path,
    state: &State,
    network: &'a Network,
    name: &str,
) -> Result<Node<'a>, Error> {
    let found = all(state_dir, state, network).into_iter().find(|node| node.name == name);
    found.ok_or_else(|| Error::Unknown { name: name.to_owned(), known: state.nodes() })
}

impl Node<'_> {
    fn dir(&self) -> PathBuf {
        self.state_dir.join("nodes").join(&self.name)
    }

    /// The process outside whose only child is the node's first process.
    pub(crate) fn process(&self) -> Option<ProcessId> {
        process::running(self.state_dir, &self.name)
    }

    /// Writes everything the node reads: done once, it survives restarts as a disk does.
    pub(crate) fn write_files(&self, state: &State, authority: &Authority) -> Result<(), Error> {
        let dir = self.dir();
        for sub in ["log", "cni"] {
            state::make_dir(&dir.join(sub))?;
        }
        let host = requirements::node_programs()?;
        let settings = files::Settings {
            addresses: self.network.addresses,
            name: &self.name,
            number: self.number,
            nodes: state.config.nodes,
            fast_failure: state.config.fast_node_failure,
            memory: requirements::machine_memory(),
            runc: &host.runc,
            cni_plugins: &host.cni_plugins,
            pause_image: images::PAUSE,
            snapshotter: requirements::snapshotter(&dir),
        };
        for (file, text) in [
            ("containerd.toml", settings.containerd()),
            ("cni/10-bridge.conflist", settings.cni().to_string()),
            ("kubelet.json", settings.kubelet().to_string()),
            ("kube-proxy.json", settings.kube_proxy().to_string()),
            ("address", settings.address().to_string()),
            ("init.sh", include_str!("init.sh").to_owned()),
            ("ca.crt", authority.credentials.certificate.clone()),
        ] {
            state::write_file(&dir.join(file), text)?;
        }
        let user = format!("system:node:{}", self.name);
        let hosts = [self.name.clone(), settings.address().to_string()];
        let subject = Subject { name: &user, group: Some("system:nodes"), hosts: &hosts };
        let kubelet = authority.issue(subject)?;
        let proxy = authority.issue(Subject::user("system:kube-proxy"))?;
        let url = state.api_server_url();
        pki::write_credentials(&dir, "kubelet", &kubelet)?;
        pki::write_secret(&dir.join("kubelet.kubeconfig"), &authority.kubeconfig(&url, &kubelet))?;
        pki::write_secret(&dir.join("kube-proxy.kubeconfig"), &authority.kubeconfig(&url, &proxy))?;
        let pause = images::pause()?;
        fs::copy(&pause, dir.join("pause.tar")).map_err(|source| Error::Archive { path: pause, source })?;
        Ok(())
    }

    /// Starts the node; returns when its containerd takes images.
    pub(crate) fn start(&self) -> Result<(), Error> {
        self.network.create_node(&self.name, self.number)?;
        let hierarchy = Hierarchy::of_machine();
        let group = self.network.names.node(&self.name);
        let joins = hierarchy.create(&group)?;
        let mut args = enter(&group, &joins);
        let init = self.dir().join("init.sh");
        args.extend(
            [init, PathBuf::from(&self.name), self.dir(), tools::bin_dir()]
                .map(|path| path.display().to_string()),
        );
        args.extend(hierarchy_arguments(&hierarchy));
        Daemon { state_dir: self.state_dir, name: &self.name, program: Path::new("sh"), args }.start()?;
        self.wait_containerd()
    }

    fn wait_containerd(&self) -> Result<(), Error> {
        let name = self.name.clone();
        let mut dead = false;
        let answers = wait::until(CONTAINERD_PATIENCE, || {
            dead = self.process().is_none();
            dead || self.ctr().is_ok_and(|ctr| ctr.args(["version"]).run().is_ok())
        });
        if dead {
            let log = process::log_file(self.state_dir, &self.name);
            return Err(Error::Ended { name, tail: process::log_tail(&log), log });
        }
        if answers {
            return Ok(());
        }
        let log = self.dir().join("log/containerd.log");
        let seconds = wait::patience(CONTAINERD_PATIENCE).as_secs();
        Err(Error::NotReady { name, seconds, tail: process::log_tail(&log), log })
    }

    /// Ends the node as a power cut does. Its disk stays.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        if let Some(process) = self.process() {
            process::kill_all(&[process], END_PATIENCE)?;
        }
        Hierarchy::of_machine().remove(&self.network.names.node(&self.name), END_PATIENCE)?;
        self.network.remove_node(&self.name)?;
        Ok(())
    }

    /// Connects or disconnects the node; everything on it goes on.
    pub(crate) fn set_connected(&self, connected: bool) -> Result<(), Error> {
        if self.process().is_none() {
            return Err(Error::Dead { name: self.name.clone() });
        }
        Ok(self.network.set_node_link(&self.name, connected)?)
    }

    /// Whether host and other nodes can reach it, as far as the network is concerned.
    pub(crate) fn is_connected(&self) -> bool {
        self.network.is_connected(&self.name)
    }

    /// Imports an archive into the node's own store, unless all its images are there.
    pub(crate) fn load(&self, archive: &Path) -> Result<(), Error> {
        let wanted =
            images::names(archive).map_err(|source| Error::Archive { path: archive.to_owned(), source })?;
        let present = self.ctr()?.args(["images", "list"]).run()?;
        if !wanted.is_empty() && wanted.iter().all(|image| is_listed(&present, image)) {
            return Ok(());
        }
        self.ctr()?.args(["images", "import"]).args([archive]).run()?;
        Ok(())
    }

    /// `ctr` of the host on the containerd of the node, through the first process's view of its files.
    fn ctr(&self) -> Result<Invocation, Error> {
        let dead = || Error::Dead { name: self.name.clone() };
        let outside = self.process().ok_or_else(dead)?;
        let init = process::only_child(outside.pid).ok_or_else(dead)?;
        let socket = format!("/proc/{init}/root/run/containerd/containerd.sock");
        Ok(Invocation::new("ctr").args(["--address", &socket, "--namespace", "k8s.io"]))
    }
}

/// Whether `ctr images list` shows this name with this digest: columns are name, type, digest and more.
fn is_listed(list: &str, (name, digest): &(String, String)) -> bool {
    list.lines().any(|line| {
        let mut columns = line.split_whitespace();
        columns.next() == Some(name) && columns.nth(1) == Some(digest)
    })
}

/// The arguments of `sh` that make the rest of a command line the first process of a node: it joins the node's control
/// groups, gets a view of them of its own, joins the groups inside, and gets the other namespaces.
fn enter(group: &str, joins: &Joins) -> Vec<String> {
    let join = |files: &[PathBuf]| {
        let files = files.iter().map(|path| path.display().to_string());
        ["-c", JOIN, "sh"].map(str::to_owned).into_iter().chain(files).chain(["--".to_owned()]).collect()
    };
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let namespaces = format!(
        "nsenter --net=/run/netns/{group} unshare --mount --pid --fork --kill-child --uts --ipc --mount-proc sh"
    );
    let parts: [Vec<String>; 4] =
        [join(&joins.outside), words("unshare --cgroup sh"), join(&joins.inside), words(&namespaces)];
    parts.concat()
}

/// What `init.sh` mounts: see there.
fn hierarchy_arguments(hierarchy: &Hierarchy) -> Vec<String> {
    match hierarchy {
        Hierarchy::V2(_) => vec!["v2".to_owned(), unified::enabling(&unified::CONTROLLERS)],
        Hierarchy::V1(mounts) => mounts
            .iter()
            .filter(|mount| !mount.options.is_empty())
            .filter_map(|mount| Some(format!("{}={}", mount.options, mount.path.file_name()?.to_str()?)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::V1Mount;

    #[test]
    fn image_is_present_only_with_name_and_digest() {
        let list = "REF TYPE DIGEST SIZE\nlocalhost/a:1 application/x sha256:12 1 MiB linux/amd64 -\n";
        let image = |name: &str, digest: &str| (name.to_owned(), digest.to_owned());
        assert!(is_listed(list, &image("localhost/a:1", "sha256:12")));
        assert!(!is_listed(list, &image("localhost/a:1", "sha256:34")));
        assert!(!is_listed(list, &image("localhost/a", "sha256:12")));
    }

    #[test]
    fn init_mounts_the_named_hierarchies_only() {
        let mount = |path: &str, options: &str| V1Mount { path: path.into(), options: options.into() };
        let hybrid = Hierarchy::V1(vec![
            mount("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct"),
            mount("/sys/fs/cgroup/systemd", "none,name=systemd"),
            mount("/sys/fs/cgroup/unified", ""),
        ]);
        assert_eq!(hierarchy_arguments(&hybrid), ["cpu,cpuacct=cpu,cpuacct", "none,name=systemd=systemd"]);
        let unified = Hierarchy::V2("/sys/fs/cgroup".into());
        assert_eq!(hierarchy_arguments(&unified), ["v2", "+cpu +cpuset +io +memory +pids"]);
    }

    #[test]
    fn groups_inside_are_joined_in_a_view_of_their_own_and_before_any_process_is_made() {
        let joins = Joins { outside: vec!["/c/tb-node1/cgroup.procs".into()], inside: vec!["/c/in".into()] };
        let line = enter("tb-node1", &joins).join(" ").replace(JOIN, "JOIN");
        let expected = "-c JOIN sh /c/tb-node1/cgroup.procs -- unshare --cgroup sh -c JOIN sh /c/in -- \
                        nsenter --net=/run/netns/tb-node1 unshare --mount --pid --fork";
        assert!(line.starts_with(expected), "{line}");
    }

    #[test]
    fn command_line_becomes_the_command_after_the_groups_are_joined() {
        let dir = tempfile::tempdir().unwrap();
        let (outside, inside) = (dir.path().join("outside"), dir.path().join("inside"));
        let joins = Joins { outside: vec![outside.clone()], inside: vec![inside.clone()] };
        let mut args = enter("unused", &joins);
        // Without namespaces, which take rights.
        let rest = args.iter().position(|word| word == "nsenter").unwrap();
        args.truncate(rest);
        let args: Vec<String> =
            args.into_iter().filter(|word| word != "unshare" && word != "--cgroup").collect();
        let pid = Invocation::new("sh").args(args).args(["sh", "-c", "echo $$"]).run().unwrap();
        for file in [outside, inside] {
            assert_eq!(fs::read_to_string(file).unwrap(), pid);
        }
    }
}
