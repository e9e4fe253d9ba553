//! Processes that outlive the command that started them, and finding them again safely.
//!
//! Every process of a cluster carries its state folder in an environment variable, which its children inherit:
//! what a crash left behind is found by it, without trusting a pid file.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde::{Deserialize, Serialize};

use crate::{command::search_path, wait};

/// Environment variable that every process of a cluster carries; its value is the cluster's state folder.
pub(crate) const MARKER: &str = "DASK_TESTBED_STATE_DIR";

/// Why a process could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the process could not be read or written.
    #[error("failed to use {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The program could not be started.
    #[error("failed to start {program}")]
    Start {
        /// Its path.
        program: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The process ended right after its start.
    #[error("{name} ended right after its start; the end of {log}:\n{tail}")]
    Ended {
        /// Its name.
        name: String,
        /// Where it wrote why.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A process survived SIGKILL for too long.
    #[error("failed to kill process {pid}: still running {seconds} s after SIGKILL")]
    Unkillable {
        /// Its number.
        pid: u32,
        /// How long was waited.
        seconds: u64,
    },
}

/// One process, told apart from a later one with the same number by its start time and the machine's boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its number.
    pub(crate) pid: u32,
    /// Clock ticks from boot to its start (`/proc/<pid>/stat`, field 22).
    started: u64,
    /// `/proc/sys/kernel/random/boot_id` when it was started.
    boot: String,
}

impl ProcessId {
    /// The process that has this number now; `None` when there is none, or only a zombie.
    #[must_use]
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started = parse_stat(&stat)?;
        Some(Self { pid, started, boot: boot_id() })
    }

    /// Whether this very process still runs.
    #[must_use]
    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends SIGKILL, if this very process still runs.
    pub(crate) fn kill(&self) {
        if self.is_alive()
            && let Some(pid) = self.raw()
        {
            // An error means that it ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Takes the exit status if it was our own child, so that no zombie stays.
    fn reap(&self) {
        let _ = waitpid(self.raw(), WaitOptions::NOHANG);
    }

    fn raw(&self) -> Option<Pid> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }
}

/// Start time from `/proc/<pid>/stat`, `None` for a zombie. The name, in parentheses, may contain anything.
fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _state => fields.nth(18)?.parse().ok(),
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// What to start and where to remember it.
#[derive(Debug)]
pub(crate) struct Daemon<'a> {
    /// The cluster's state folder: pid files go to `run/`, logs to `log/`.
    pub(crate) state_dir: &'a Path,
    /// Name of pid file and log.
    pub(crate) name: &'a str,
    /// Program to run.
    pub(crate) program: &'a Path,
    /// Its arguments.
    pub(crate) args: Vec<String>,
}

impl Daemon<'_> {
    /// Starts the program in a session of its own, so that it survives us and our terminal.
    ///
    /// # Errors
    /// When a file cannot be written or the program cannot be started.
    pub(crate) fn start(&self) -> Result<ProcessId, Error> {
        let log_path = log_file(self.state_dir, self.name);
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(|source| Error::File { path: log_path.clone(), source })?;
        let log_twin = log.try_clone().map_err(|source| Error::File { path: log_path.clone(), source })?;
        let start_error = |source| Error::Start { program: self.program.to_owned(), source };
        // setsid does not fork here, as it leads no process group: its pid becomes the program's.
        let child = Command::new("setsid")
            .arg(self.program)
            .args(&self.args)
            .env_clear()
            .env("PATH", search_path())
            .env("HOME", self.state_dir)
            .env(MARKER, self.state_dir)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_twin)
            .spawn()
            .map_err(start_error)?;
        let id = self.identity(child.id())?;
        let pid_path = pid_file(self.state_dir, self.name);
        let text = serde_json::to_string(&id).map_err(io::Error::other);
        text.and_then(|text| fs::write(&pid_path, text))
            .map_err(|source| Error::File { path: pid_path, source })?;
        Ok(id)
    }

    /// The process that was just started; on a busy machine it may have ended before we look.
    fn identity(&self, pid: u32) -> Result<ProcessId, Error> {
        ProcessId::of(pid).ok_or_else(|| {
            let log = log_file(self.state_dir, self.name);
            Error::Ended { name: self.name.to_owned(), tail: log_tail(&log), log }
        })
    }
}

/// The log of one process of a cluster.
#[must_use]
pub(crate) fn log_file(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join("log").join(format!("{name}.log"))
}

/// The last lines of a log; nothing when it cannot be read.
#[must_use]
pub(crate) fn log_tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn pid_file(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join("run").join(format!("{name}.pid"))
}

/// The process that was started under this name, if it still runs.
#[must_use]
pub(crate) fn running(state_dir: &Path, name: &str) -> Option<ProcessId> {
    let text = fs::read_to_string(pid_file(state_dir, name)).ok()?;
    serde_json::from_str::<ProcessId>(&text).ok().filter(ProcessId::is_alive)
}

/// Every process of the cluster with this state folder: those with a pid file, and those that are found by their
/// marker. Either alone can miss one that is just being started.
#[must_use]
pub(crate) fn all(state_dir: &Path) -> Vec<ProcessId> {
    let mut processes = marked(state_dir);
    let files = fs::read_dir(state_dir.join("run")).into_iter().flatten();
    for file in files.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        processes.extend(running(state_dir, &name).filter(|process| !processes.contains(process)));
    }
    processes
}

/// Every process that carries this state folder as its marker, also without a pid file.
#[must_use]
pub(crate) fn marked(state_dir: &Path) -> Vec<ProcessId> {
    all_marked().into_iter().filter(|(_, dir)| dir == state_dir).map(|(id, _)| id).collect()
}

/// Every process of any cluster, with the state folder of its cluster.
#[must_use]
pub(crate) fn all_marked() -> Vec<(ProcessId, PathBuf)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        // The order matters: identity first, so that a recycled number cannot inherit the marker.
        let id = ProcessId::of(pid)?;
        let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
        Some((id, marker_value(&environment)?))
    })
    .collect()
}

fn marker_value(environment: &[u8]) -> Option<PathBuf> {
    environment.split(|byte| *byte == 0).find_map(|variable| {
        let value = variable.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"=")?;
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(value)))
    })
}

/// The one child of a process that has one at most.
#[must_use]
pub(crate) fn only_child(parent: u32) -> Option<u32> {
    fs::read_dir("/proc").ok()?.find_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse::<u32>().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
        (fields.nth(1)?.parse() == Ok(parent)).then_some(pid)
    })
}

/// Kills processes and waits until they are gone.
///
/// # Errors
/// When one is still there after `patience`.
pub(crate) fn kill_all(processes: &[ProcessId], patience: Duration) -> Result<(), Error> {
    processes.iter().for_each(ProcessId::kill);
    for process in processes {
        let gone = wait::until(patience, || {
            process.reap();
            !process.is_alive()
        });
        if !gone {
            return Err(Error::Unkillable { pid: process.pid, seconds: wait::patience(patience).as_secs() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        dir
    }

    fn sleeper(state_dir: &Path) -> ProcessId {
        let args = vec!["600".to_owned()];
        Daemon { state_dir, name: "sleeper", program: Path::new("sleep"), args }.start().unwrap()
    }

    #[test]
    fn daemon_is_found_by_pid_file_and_by_marker_until_killed() {
        let state = state();
        let id = sleeper(state.path());
        assert_eq!(running(state.path(), "sleeper"), Some(id.clone()));
        assert_eq!(all(state.path()), vec![id.clone()]);
        // For a moment, while setsid becomes the program, the kernel shows no environment.
        let shown = wait::until(Duration::from_secs(5), || marked(state.path()) == [id.clone()]);
        assert!(shown, "{:?}", marked(state.path()));
        kill_all(std::slice::from_ref(&id), Duration::from_secs(5)).unwrap();
        assert_eq!(running(state.path(), "sleeper"), None);
        assert!(all(state.path()).is_empty());
    }

    #[test]
    fn one_that_ended_before_it_was_looked_at_tells_why() {
        let state = state();
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        fs::write(log_file(state.path(), "api"), "the disk is on fire\n").unwrap();
        let api = Daemon { state_dir: state.path(), name: "api", program: Path::new("true"), args: vec![] };
        let error = api.identity(child.id()).unwrap_err().to_string();
        assert!(error.starts_with("api ended") && error.ends_with("the disk is on fire"), "{error}");
    }

    #[test]
    fn child_is_found_by_its_parent() {
        let mut child = Command::new("sh").args(["-c", "sleep 600 & wait"]).spawn().unwrap();
        assert!(wait::until(Duration::from_secs(5), || only_child(child.id()).is_some()));
        let grandchild = ProcessId::of(only_child(child.id()).unwrap()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        kill_all(&[grandchild], Duration::from_secs(5)).unwrap();
        assert_eq!(only_child(child.id()), None);
    }

    #[test]
    fn recycled_pid_is_another_process() {
        let own = ProcessId::of(std::process::id()).unwrap();
        let earlier = ProcessId { started: own.started - 1, ..own.clone() };
        let before_reboot = ProcessId { boot: "another".into(), ..own.clone() };
        assert!(own.is_alive());
        assert!(!earlier.is_alive() && !before_reboot.is_alive());
    }

    #[test]
    fn stat_with_hostile_name_is_parsed() {
        let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(parse_stat(&format!("12 (a) Z (b)) {tail}")), Some(4711));
        assert_eq!(parse_stat(&format!("12 (a) {}", tail.replacen('S', "Z", 1))), None);
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn marker_is_taken_only_as_a_whole_variable() {
        let environment = format!("A=1\0X{MARKER}=/wrong\0{MARKER}=/right\0");
        assert_eq!(marker_value(environment.as_bytes()), Some(PathBuf::from("/right")));
        assert_eq!(marker_value(b"A=1\0"), None);
    }
}
