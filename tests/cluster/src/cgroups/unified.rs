//! The version 2 hierarchy: one tree for all controllers, which a group gives to its children by naming them in
//! `cgroup.subtree_control`. Facts from the kernel's `Documentation/admin-guide/cgroup-v2.rst`:
//!
//! - A group with processes of its own cannot give controllers to children ("no internal processes"); the root of the
//!   kernel's whole tree can. In a container with a view of its own, the root of that view is no such root.
//! - The root has `cgroup.type` only when it is not the kernel's.
//! - A group inherits no controller: what some unit of systemd asked for is there, and nothing else.

use std::{fs, io, path::Path};

use super::{Error, create_in};

/// Controllers that kubelet, containerd and runc use. `hugetlb`, `rdma` and `misc` are left as they are.
pub(crate) const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];

/// The group of a node's own processes, beside those of its pods.
pub(crate) const INIT: &str = "init";

/// The group into which the processes of a container are moved.
pub(crate) const LEAF: &str = "dask-testbed";

/// Processes that start while others are moved are found in the next round; nothing starts so many at once.
const ROUNDS: usize = 20;

/// What the root of the hierarchy says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Root {
    /// Controllers that it may give (`cgroup.controllers`).
    pub(crate) available: Vec<String>,
    /// Controllers that it gives (`cgroup.subtree_control`).
    pub(crate) enabled: Vec<String>,
    /// `cgroup.type`; `None` for the root of the kernel's whole tree.
    pub(crate) kind: Option<String>,
    /// Whether processes are in it.
    pub(crate) occupied: bool,
}

/// What is to be done with the root before nodes get groups in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Its processes must move into a group of their own first.
    pub(crate) vacate: bool,
    /// Controllers to give to its children.
    pub(crate) enable: Vec<&'static str>,
}

impl Root {
    /// Reads it.
    pub(crate) fn read(root: &Path) -> Self {
        let words = |file: &str| -> Vec<String> {
            let text = fs::read_to_string(root.join(file)).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect()
        };
        Self {
            available: words("cgroup.controllers"),
            enabled: words("cgroup.subtree_control"),
            kind: words("cgroup.type").pop(),
            occupied: !words("cgroup.procs").is_empty(),
        }
    }

    /// Whether the processes of a container were moved for nodes.
    pub(crate) fn is_prepared(root: &Path) -> bool {
        root.join(LEAF).is_dir()
    }

    /// What must be done.
    ///
    /// # Errors
    /// With what makes it impossible, each with its cure.
    pub(crate) fn plan(&self) -> Result<Plan, Vec<String>> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(problems);
        }
        let enable: Vec<_> = CONTROLLERS.into_iter().filter(|name| !has(&self.enabled, name)).collect();
        let vacate = self.occupied && self.kind.is_some() && !enable.is_empty();
        Ok(Plan { vacate, enable })
    }

    /// What keeps nodes from using it, each with its cure.
    pub(crate) fn problems(&self) -> Vec<String> {
        if let Some(kind) = self.kind.as_ref().filter(|kind| *kind != "domain") {
            return vec![format!(
                "the control group of this container is of the kind {kind:?}, which limits no memory: \
                 start the container anew"
            )];
        }
        let missing: Vec<_> = CONTROLLERS.into_iter().filter(|name| !has(&self.available, name)).collect();
        let cure = if self.kind.is_some() {
            "the control groups above this container must give them to it: under systemd, start it by a unit or scope \
             with `Delegate=yes`"
        } else {
            "boot a kernel that has them, without `cgroup_disable=` (for memory on some boards with \
             `cgroup_enable=memory`), and without mounts of control groups of version 1 that hold them"
        };
        match missing.as_slice() {
            [] => Vec::new(),
            [one] => vec![format!("no controller {one} among the control groups: {cure}")],
            several => {
                vec![format!("no controllers {} among the control groups: {cure}", several.join(", "))]
            }
        }
    }
}

fn has(words: &[String], name: &str) -> bool {
    words.iter().any(|word| word == name)
}

/// The line for `cgroup.subtree_control`. The controllers go in one write: one after the other, a group that had
/// processes becomes a threaded one, which takes no process.
pub(crate) fn enabling(controllers: &[&str]) -> String {
    controllers.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ")
}

/// Makes the root give every controller that nodes need. The caller holds the machine's lock.
pub(super) fn prepare(root: &Path) -> Result<(), Error> {
    let plan = Root::read(root).plan().map_err(|problems| Error::Root { path: root.to_owned(), problems })?;
    if plan.vacate {
        create_in(root, LEAF)?;
        let left = move_all(root, &root.join(LEAF));
        if left > 0 {
            return Err(Error::Occupied { path: root.to_owned(), left });
        }
    }
    if plan.enable.is_empty() {
        return Ok(());
    }
    let file = root.join("cgroup.subtree_control");
    fs::write(&file, enabling(&plan.enable)).map_err(|source| Error::Group {
        verb: "give the controllers cpu, cpuset, io, memory and pids to the children of",
        path: root.to_owned(),
        source,
    })
}

/// Moves the processes of a container back, and takes the controllers from the children of the root first, because
/// it had given none: it had processes. Somebody else who uses them by now keeps everything as it is.
/// The caller holds the machine's lock.
pub(super) fn restore(root: &Path) -> Result<(), Error> {
    let failed = |source| Error::Group { verb: "restore", path: root.to_owned(), source };
    let given = Root::read(root).enabled;
    if !given.is_empty() {
        let line = given.iter().map(|name| format!("-{name}")).collect::<Vec<_>>().join(" ");
        match fs::write(root.join("cgroup.subtree_control"), line) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ok(()),
            other => other.map_err(failed)?,
        }
    }
    let leaf = root.join(LEAF);
    if move_all(&leaf, root) == 0 {
        fs::remove_dir(&leaf).map_err(failed)?;
    }
    Ok(())
}

/// Moves every process of a group, also those that start meanwhile. Returns how many stayed.
fn move_all(from: &Path, to: &Path) -> usize {
    let (from, to) = (from.join("cgroup.procs"), to.join("cgroup.procs"));
    let mut left = 0;
    for _round in 0..ROUNDS {
        let text = fs::read_to_string(&from).unwrap_or_default();
        left = text.lines().count();
        if left == 0 {
            break;
        }
        for process in text.lines() {
            // One that has ended cannot be moved, and need not be.
            let _ = fs::write(&to, process);
        }
    }
    left
}

#[cfg(test)]
pub(super) mod fixtures {
    use super::*;

    /// A folder that looks like the root of the kernel's whole tree.
    pub(in super::super) fn kernel_root(available: &str, enabled: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("cgroup.controllers", available),
            ("cgroup.subtree_control", enabled),
            ("cgroup.procs", "1\n2\n"),
        ] {
            fs::write(root.path().join(file), text).unwrap();
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "cpuset cpu io memory hugetlb pids rdma misc";

    fn root(available: &str, enabled: &str, kind: Option<&str>, occupied: bool) -> Root {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Root { available: words(available), enabled: words(enabled), kind: kind.map(str::to_owned), occupied }
    }

    /// As seen on Debian 12 with a containerd, Debian 13 without one, and in privileged containers.
    #[rstest::rstest]
    #[case::everything_given(root(ALL, ALL, None, true), false, &[])]
    #[case::what_units_asked_for(root(ALL, "memory pids", None, true), false, &["cpu", "cpuset", "io"])]
    #[case::container(root(ALL, "", Some("domain"), true), true, &CONTROLLERS)]
    #[case::container_whose_init_has_moved(root(ALL, "", Some("domain"), false), false, &CONTROLLERS)]
    #[case::prepared_container(root(ALL, "cpu cpuset io memory pids", Some("domain"), false), false, &[])]
    fn root_is_prepared_as_it_needs(
        #[case] root: Root,
        #[case] vacate: bool,
        #[case] enable: &[&'static str],
    ) {
        assert_eq!(root.plan(), Ok(Plan { vacate, enable: enable.to_vec() }));
    }

    #[rstest::rstest]
    #[case::disabled_at_boot(root("cpuset cpu io pids", "", None, true), &["no controller memory", "cgroup_disable"])]
    #[case::not_given_to_the_container(
        root("memory pids", "", Some("domain"), true),
        &["no controllers cpu, cpuset, io", "Delegate=yes"]
    )]
    #[case::threaded(root(ALL, "", Some("domain threaded"), true), &["domain threaded", "start the container anew"])]
    #[case::unreadable(Root::default(), &["no controllers cpu, cpuset, io, memory, pids"])]
    fn what_is_impossible_is_named_with_its_cure(#[case] root: Root, #[case] words: &[&str]) {
        let problems = root.plan().unwrap_err().join("\n");
        for word in words {
            assert!(problems.contains(word), "no {word:?} in {problems}");
        }
    }

    #[test]
    fn controllers_are_given_in_one_write() {
        assert_eq!(enabling(&CONTROLLERS), "+cpu +cpuset +io +memory +pids");
        let root = fixtures::kernel_root(ALL, "memory pids");
        prepare(root.path()).unwrap();
        let written = fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(written, "+cpu +cpuset +io");
        assert!(!Root::is_prepared(root.path()), "the processes of the machine stay where they are");
    }

    #[test]
    fn process_that_cannot_be_moved_is_counted() {
        // Plain files are no control groups: what is read stays.
        let root = fixtures::kernel_root(ALL, "");
        fs::write(root.path().join("cgroup.type"), "domain\n").unwrap();
        let error = prepare(root.path()).unwrap_err().to_string();
        assert!(error.contains("2 stay") && error.contains(LEAF), "{error}");
    }

    #[test]
    fn container_gets_its_root_back() {
        let root = fixtures::kernel_root(ALL, "cpu memory");
        fs::create_dir(root.path().join(LEAF)).unwrap();
        restore(root.path()).unwrap();
        let written = fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap();
        assert_eq!(written, "-cpu -memory");
        assert!(!Root::is_prepared(root.path()));
    }
}
