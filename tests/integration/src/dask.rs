//! Real Dask processes for the pods of a namespace: each listens on an address of 127.0.0.0/8 of its own, which
//! becomes its pod's.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Stdio;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::namespace::Namespace;
use crate::wait::wait_for;

/// Runs what it is told, and tells what `result` is then.
const DRIVER: &str = r#"
import json, sys, traceback
names = {}
for line in sys.stdin:
    names["result"] = None
    try:
        exec(json.loads(line), names)
        answer = {"result": names["result"]}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    print("answer", json.dumps(answer), flush=True)
"#;

/// A scheduler and its workers. Dropping it kills them.
#[derive(Debug)]
pub struct Dask {
    python: PathBuf,
    directory: TempDir,
    network: [u8; 2],
    hosts: u8,
    scheduler: Option<Child>,
}

impl Dask {
    /// Without a process yet.
    pub async fn new() -> Self {
        let made = tokio::task::spawn_blocking(|| testbed::python::environment(&[])).await;
        let python = made.expect("no panic").expect("Dask can be installed").join("bin/python");
        let directory = TempDir::new().expect("a directory can be made");
        let network = [fastrand::u8(1..=254), fastrand::u8(..)];
        Self { python, directory, network, hosts: 1, scheduler: None }
    }

    /// A file of this test.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Address of the scheduler.
    #[must_use]
    pub fn scheduler_ip(&self) -> Ipv4Addr {
        let [a, b] = self.network;
        Ipv4Addr::new(127, a, b, 1)
    }

    /// Starts a scheduler, after the end of an earlier one.
    pub async fn start_scheduler(&mut self) {
        if let Some(mut scheduler) = self.scheduler.take() {
            scheduler.kill().await.expect("it can be killed");
        }
        let ip = self.scheduler_ip().to_string();
        let arguments = ["distributed.cli.dask_scheduler", "--host", &ip, "--port", "8786", "--no-dashboard"];
        self.scheduler = Some(self.python(&arguments));
        wait_for("the scheduler listens", async || {
            TcpStream::connect((ip.as_str(), 8786)).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// A new address for workers.
    pub fn new_ip(&mut self) -> Ipv4Addr {
        self.hosts += 1;
        let [a, b] = self.network;
        Ipv4Addr::new(127, a, b, self.hosts)
    }

    /// Starts a worker of this name on a new address.
    pub fn start_worker(&mut self, name: &str) -> Worker {
        let ip = self.new_ip();
        self.start_worker_at(name, ip)
    }

    /// Starts a worker of this name on this address, where others may be.
    #[must_use]
    pub fn start_worker_at(&self, name: &str, ip: Ipv4Addr) -> Worker {
        let (scheduler, host) = (format!("tcp://{}:8786", self.scheduler_ip()), ip.to_string());
        let arguments = [
            "distributed.cli.dask_worker",
            &scheduler,
            "--host",
            &host,
            "--name",
            name,
            "--no-nanny",
            "--no-dashboard",
            "--nthreads",
            "1",
            "--memory-limit",
            "0",
        ];
        Worker { ip, name: name.to_owned(), process: self.python(&arguments) }
    }

    /// A client of the scheduler: names `client`, `wait` and `np` are there.
    pub async fn client(&self) -> Client {
        let mut process = self
            .command(&["-u", "-c", DRIVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python can be started");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let stdin = process.stdin.take().expect("it is piped");
        let mut client = Client { _process: process, stdin, lines };
        let connect = format!(
            "import time, os\nfrom distributed import Client, wait\nclient = Client('tcp://{}:8786')",
            self.scheduler_ip()
        );
        client.run(&connect).await;
        client
    }

    fn python(&self, arguments: &[&str]) -> Child {
        self.command(&[&["-m"], arguments].concat()).spawn().expect("python can be started")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        let quiet = std::env::var_os("RUST_LOG").is_none();
        command.args(arguments).current_dir(self.directory.path()).stdin(Stdio::null()).kill_on_drop(true);
        if quiet {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        command
    }
}

/// A worker process.
#[derive(Debug)]
pub struct Worker {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its name.
    pub name: String,
    process: Child,
}

impl Worker {
    /// Freezes it.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Whether its process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("it can be asked").is_some()
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().expect("it runs").to_string();
        let status = std::process::Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(status.expect("kill can be run").success(), "{signal}");
    }
}

/// A Python process with a client.
#[derive(Debug)]
pub struct Client {
    _process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Client {
    /// Runs code; gives what the name `result` means then.
    pub async fn run(&mut self, code: &str) -> Value {
        let line = format!("{}\n", json!(code));
        self.stdin.write_all(line.as_bytes()).await.expect("the client runs");
        loop {
            let line = self.lines.next_line().await.expect("the client runs").expect("the client answers");
            let Some(answer) = line.strip_prefix("answer ") else { continue };
            let mut answer: Value = serde_json::from_str(answer).expect("JSON");
            assert!(
                answer.get("error").is_none(),
                "{code}\n{}",
                answer["error"].as_str().unwrap_or_default()
            );
            return answer["result"].take();
        }
    }
}

/// Gives a pod an address, as the kubelet would.
pub async fn set_ip(namespace: &Namespace, pod: &Pod, ip: impl Into<IpAddr>) {
    try_set_ip(namespace, pod, ip).await.unwrap_or_else(|error| panic!("pod {}: {error}", pod.name_any()));
}

/// The same with a pod that may be gone by now.
///
/// # Errors
/// When it is gone.
pub async fn try_set_ip(namespace: &Namespace, pod: &Pod, ip: impl Into<IpAddr>) -> Result<(), kube::Error> {
    let (pods, ip): (Api<Pod>, _) = (namespace.api(), ip.into().to_string());
    let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await.map(drop)
}
