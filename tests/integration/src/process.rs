//! The operator as a process of its own, whose memory can be limited and measured.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dask_operator::settings::Settings;
use dask_operator::{run, telemetry};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::namespace::Namespace;

/// Arguments of the process, one a line.
const ARGUMENTS: &str = "OPERATOR_PROCESS_ARGUMENTS";
/// A program to run instead of the operator within this one, such as the one that is shipped.
const PROGRAM: &str = "OPERATOR_PROGRAM";
/// As the program itself has.
const THREADS: usize = 2;
const BLOCKING_THREADS: usize = 4;

/// An operator in a process of its own. Dropping it kills it.
#[derive(Debug)]
pub struct OperatorProcess {
    child: Child,
    folder: TempDir,
}

impl OperatorProcess {
    /// Starts one with these arguments, for the schedulers of a namespace.
    ///
    /// It is the program that `OPERATOR_PROGRAM` names, or else this test program once more: `entry` is the name of a
    /// test that calls [`enter`].
    #[must_use]
    pub fn start(namespace: &Namespace, entry: &str, arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        let log = std::fs::File::create(log_of(&folder)).expect("a file can be made");
        let mut command = if let Some(program) = std::env::var_os(PROGRAM) {
            let mut command = Command::new(program);
            command.arg("run").args(arguments);
            command
        } else {
            let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
            command.args([entry, "--exact", "--ignored", "--nocapture"]);
            command.env(ARGUMENTS, arguments.join("\n"));
            command
        };
        let child = command
            .env("KUBECONFIG", namespace.server().kubeconfig())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the operator can be started");
        Self { child, folder }
    }

    /// Lets it have no more memory of its own than this: what exceeds it fails, and ends it.
    pub fn limit_memory(&self, bytes: u64) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        prlimit(pid, Resource::Data, limit).expect("the memory of a child can be limited");
    }

    /// The most memory that it had so far, in bytes, with that of its program's file.
    #[must_use]
    pub fn most_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kilobytes.map_or(0, |kilobytes| kilobytes << 10)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().expect("a child can be asked")?;
        Some(format!("{status}: {}", self.log().lines().rev().take(5).collect::<Vec<_>>().join(" | ")))
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_of(&self.folder)).unwrap_or_default()
    }
}

impl Drop for OperatorProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(folder: &TempDir) -> PathBuf {
    Path::new(folder.path()).join("log")
}

/// Runs the operator in this process, as its program does, if [`OperatorProcess::start`] started it.
pub fn enter() {
    let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
    let arguments: Vec<&str> = arguments.lines().collect();
    let settings = Settings::from_arguments(&arguments).unwrap_or_else(|error| panic!("{error}"));
    telemetry::logging::start(settings.log_filter(), &settings.log_format).expect("nothing logs yet");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let clients = run::clients().await.expect("clients can be made");
        run::run(clients, settings, CancellationToken::new()).await.expect("it runs");
    });
}
