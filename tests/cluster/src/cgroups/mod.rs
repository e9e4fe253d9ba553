//! Control groups of the nodes, in the version 1 or version 2 hierarchy of this machine.

pub(crate) mod unified;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use unified::Root;

use crate::{state, wait};

/// Controllers that kubelet and runc use. Others (hugetlb, rdma, misc) stay out: mounting a version 1 controller
/// that is not mounted yet would move it for the whole machine.
const V1_CONTROLLERS: [&str; 9] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "name=systemd"];

/// Why a control group could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("failed to {verb} control group {path}")]
    Group {
        /// What was tried.
        verb: &'static str,
        /// Which one.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The root of the version 2 hierarchy cannot be used.
    #[error("failed to use the control groups below {path}: {}", problems.join("; "))]
    Root {
        /// Where it is mounted.
        path: PathBuf,
        /// What is wrong, each with its cure.
        problems: Vec<String>,
    },
    /// Processes of a container could not be moved out of the root.
    #[error(
        "failed to move the processes of this container from {path} to {path}/{}: {left} stay; end them, or start the container with an init system",
        unified::LEAF
    )]
    Occupied {
        /// Where the root is mounted.
        path: PathBuf,
        /// How many processes stayed.
        left: usize,
    },
    /// The machine's lock.
    #[error(transparent)]
    State(#[from] state::Error),
    /// Processes are still in it.
    #[error("failed to remove control group {path}: its processes did not end within {seconds} s")]
    Busy {
        /// Which one.
        path: PathBuf,
        /// How long was waited.
        seconds: u64,
    },
}

/// How control groups are mounted on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// One mount for each controller or set of controllers; also the hybrid layout.
    V1(Vec<V1Mount>),
    /// One mount for all.
    V2(PathBuf),
}

/// One version 1 mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct V1Mount {
    /// Where it is mounted on the host.
    pub(crate) path: PathBuf,
    /// Its controllers as mount options; empty for the version 2 part of the hybrid layout.
    pub(crate) options: String,
}

/// The files into which the first process of a node writes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joins {
    /// Before it gets a view of control groups of its own: what it has joined then is the root of that view.
    pub(crate) outside: Vec<PathBuf>,
    /// After it: version 2 gives controllers only to the children of groups without processes, so that the root of
    /// the view must stay empty, and the process that waits outside must not be left in it.
    pub(crate) inside: Vec<PathBuf>,
}

impl Hierarchy {
    /// How it is mounted here.
    pub(crate) fn of_machine() -> Self {
        Self::parse(&fs::read_to_string("/proc/mounts").unwrap_or_default())
    }

    pub(crate) fn parse(mounts: &str) -> Self {
        let mut v1 = Vec::new();
        let mut v2 = None;
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(path), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let used: Vec<&str> = options.split(',').filter(|word| V1_CONTROLLERS.contains(word)).collect();
            match kind {
                "cgroup" if !used.is_empty() => {
                    let options = match used.as_slice() {
                        ["name=systemd"] => "none,name=systemd".to_owned(),
                        controllers => controllers.join(","),
                    };
                    v1.push(V1Mount { path: path.into(), options });
                }
                // Others mount it a second time for programs of their own; the first is the system's.
                "cgroup2" => v2 = v2.or_else(|| Some(PathBuf::from(path))),
                _other => {}
            }
        }
        // Old containers are given `name=systemd` on machines where every controller is in version 2.
        let controllers = v1.iter().any(|mount: &V1Mount| !mount.options.contains("name="));
        match v2 {
            Some(path) if !controllers => Self::V2(path),
            Some(path) => {
                v1.push(V1Mount { path, options: String::new() });
                Self::V1(v1)
            }
            None => Self::V1(v1),
        }
    }

    /// Where it is mounted.
    pub(crate) fn roots(&self) -> Vec<&Path> {
        match self {
            Self::V1(mounts) => mounts.iter().map(|mount| mount.path.as_path()).collect(),
            Self::V2(path) => vec![path],
        }
    }

    /// Makes the group of a node.
    pub(crate) fn create(&self, group: &str) -> Result<Joins, Error> {
        match self {
            Self::V1(mounts) => {
                let outside = mounts.iter().map(|mount| create_in(&mount.path, group));
                Ok(Joins { outside: outside.collect::<Result<_, _>>()?, inside: Vec::new() })
            }
            Self::V2(root) => {
                // Nobody may give the root back to a container's processes until the group is there.
                let _machine = state::lock_machine()?;
                unified::prepare(root)?;
                let outside = vec![create_in(root, group)?];
                Ok(Joins { outside, inside: vec![create_in(root, &format!("{group}/{}", unified::INIT))?] })
            }
        }
    }

    /// Makes a group and removes it, to see whether that can be done.
    pub(crate) fn probe(&self, group: &str) -> Result<(), Error> {
        let created: Result<Vec<_>, _> =
            self.roots().into_iter().map(|root| create_in(root, group)).collect();
        self.remove(group, Duration::from_secs(1))?;
        created.map(drop)
    }

    /// Removes every group whose name starts with `prefix`, with all groups in it, once their processes are gone.
    pub(crate) fn remove_all(&self, prefix: &str, patience: Duration) -> Result<(), Error> {
        let groups = self.roots().into_iter().flat_map(|root| groups_in(root, prefix));
        groups.into_iter().try_for_each(|path| remove(&path, patience))
    }

    /// Removes one group, with all groups in it, once their processes are gone.
    pub(crate) fn remove(&self, group: &str, patience: Duration) -> Result<(), Error> {
        self.roots().into_iter().try_for_each(|root| remove(&root.join(group), patience))
    }

    /// Puts the root back as it was found, once no node of any cluster is left.
    pub(crate) fn restore(&self) -> Result<(), Error> {
        if let Self::V2(root) = self
            && Root::is_prepared(root)
        {
            let _machine = state::lock_machine()?;
            if groups_in(root, "tb").is_empty() {
                unified::restore(root)?;
            }
        }
        Ok(())
    }
}

fn create_in(root: &Path, group: &str) -> Result<PathBuf, Error> {
    let path = root.join(group);
    fs::create_dir_all(&path).map_err(|source| Error::Group { verb: "make", path: path.clone(), source })?;
    // A new cpuset has no processors and takes no process until it has some.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if root.join("cgroup.clone_children").is_file() && path.join(file).is_file() {
            fs::read_to_string(root.join(file))
                .and_then(|text| fs::write(path.join(file), text.trim()))
                .map_err(|source| Error::Group { verb: "set up", path: path.join(file), source })?;
        }
    }
    Ok(path.join("cgroup.procs"))
}

fn groups_in(root: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

fn remove(path: &Path, patience: Duration) -> Result<(), Error> {
    if wait::until(patience, || remove_tree(path).is_ok()) {
        return Ok(());
    }
    Err(Error::Busy { path: path.to_owned(), seconds: wait::patience(patience).as_secs() })
}

/// The files of a control group cannot be removed, and need not be: children first, then the folder itself.
fn remove_tree(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separate_joint_and_hybrid_mounts_are_read() {
        let mounts = "cgroup /c/cpu,cpuacct cgroup rw,nosuid,cpu,cpuacct 0 0\n\
                      cgroup /c/memory cgroup rw,relatime,memory 0 0\n\
                      cgroup /c/hugetlb cgroup rw,hugetlb 0 0\n\
                      cgroup /c/systemd cgroup rw,xattr,name=systemd 0 0\n\
                      cgroup2 /c/unified cgroup2 rw 0 0\n\
                      proc /proc proc rw 0 0\n";
        let mount = |path: &str, options: &str| V1Mount { path: path.into(), options: options.into() };
        let expected = vec![
            mount("/c/cpu,cpuacct", "cpu,cpuacct"),
            mount("/c/memory", "memory"),
            mount("/c/systemd", "none,name=systemd"),
            mount("/c/unified", ""),
        ];
        assert_eq!(Hierarchy::parse(mounts), Hierarchy::V1(expected));
    }

    #[rstest::rstest]
    #[case::alone("")]
    #[case::with_version_1_of_a_controller_that_nodes_do_not_use(
        "cgroup /sys/fs/cgroup/net_cls cgroup rw,net_cls 0 0\n"
    )]
    #[case::with_a_name_for_old_containers("cgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n")]
    #[case::mounted_again("none /run/other/cgroupv2 cgroup2 rw 0 0\n")]
    fn unified_mount_is_version_2(#[case] more: &str) {
        let mounts = format!("cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n{more}");
        assert_eq!(Hierarchy::parse(&mounts), Hierarchy::V2("/sys/fs/cgroup".into()));
    }

    #[test]
    fn node_joins_version_1_at_once_and_version_2_in_two_steps() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name).join("cgroup.procs");
        let mount = V1Mount { path: root.path().to_owned(), options: "memory".into() };
        let joins = Hierarchy::V1(vec![mount]).create("tb-1-node1").unwrap();
        assert_eq!(joins, Joins { outside: vec![path("tb-1-node1")], inside: vec![] });

        let unified = unified::fixtures::kernel_root("cpu cpuset io memory pids", "memory pids");
        let path = |name: &str| unified.path().join(name).join("cgroup.procs");
        let joins = Hierarchy::V2(unified.path().to_owned()).create("tb-1-node1").unwrap();
        let expected = Joins { outside: vec![path("tb-1-node1")], inside: vec![path("tb-1-node1/init")] };
        assert_eq!(joins, expected);
    }

    #[test]
    fn groups_are_found_by_prefix_and_removed_with_their_children() {
        let root = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::V2(root.path().to_owned());
        for group in ["tb-1-node1", "tb-2-node1"] {
            create_in(root.path(), group).unwrap();
        }
        fs::create_dir_all(root.path().join("tb-1-node1/kubepods/pod")).unwrap();
        hierarchy.remove_all("tb-1", Duration::ZERO).unwrap();
        assert!(!root.path().join("tb-1-node1").exists());
        assert!(root.path().join("tb-2-node1").exists());
    }

    #[test]
    fn end_of_the_first_node_leaves_the_tenth_alone() {
        let root = tempfile::tempdir().unwrap();
        for group in ["tb-node1", "tb-node10"] {
            create_in(root.path(), group).unwrap();
        }
        Hierarchy::V2(root.path().to_owned()).remove("tb-node1", Duration::ZERO).unwrap();
        assert!(!root.path().join("tb-node1").exists() && root.path().join("tb-node10").exists());
    }

    #[test]
    fn group_that_cannot_be_removed_is_named() {
        let root = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::V2(root.path().to_owned());
        create_in(root.path(), "tb-1").unwrap();
        // A plain file keeps the folder from being removed, as a process keeps a control group.
        fs::write(root.path().join("tb-1/file"), "").unwrap();
        let error = hierarchy.remove("tb-1", Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("tb-1"), "{error}");
    }
}
