//! The program as a user meets it: output, exit codes, and its end on a signal.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest time for anything in these tests.
const PATIENCE: Duration = Duration::from_secs(30);

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dask-operator"));
    command.args(arguments).env_clear();
    command
}

fn output(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_version_is_the_crates() {
    let printed = output(&["version"]);
    assert!(printed.status.success());
    assert_eq!(text(&printed.stdout), concat!(env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn the_definitions_are_those_of_the_api() {
    let printed = output(&["crd"]);
    assert!(printed.status.success());
    assert!(text(&printed.stdout) == dask_operator_api::crd::to_yaml().unwrap());
}

#[test]
fn a_mistake_is_named_and_ends_the_program_with_2() {
    let refused = output(&["--all-namespaces", "--max-in-flight=0"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("--max-in-flight") && said.contains("'0'") && said.contains("1..=1024"), "{said}");
}

#[test]
fn a_mistake_in_a_variable_names_its_argument() {
    let variable = "DASK_KUBERNETES__CONTROLLER__WORKER_ALLOCATION__BATCH_SIZE";
    let refused = program(&["--all-namespaces"]).env(variable, "many").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("--worker-batch-size") && said.contains("'many'"), "{said}");
}

#[test]
fn without_an_api_server_it_says_where_it_looked() {
    let failed = program(&["run"]).env("KUBECONFIG", "/nowhere/config").output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let said = text(&failed.stderr);
    assert!(said.contains("KUBECONFIG") && said.contains("/nowhere/config"), "{said}");
}

/// An operator in the face of an API server that accepts connections and never answers.
struct Waiting {
    child: Child,
    server: TcpListener,
    _folder: tempfile::TempDir,
}

impl Waiting {
    fn start(arguments: &[&str]) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let url = format!("http://{}", server.local_addr().unwrap());
        let config = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{server: '{url}'}}}}], users: [{{name: u, user: {{}}}}]}}"
        );
        std::fs::write(&path, config).unwrap();
        let child = program(arguments).env("KUBECONFIG", &path).stderr(Stdio::piped()).spawn().unwrap();
        Self { child, server, _folder: folder }
    }

    /// Reads its log up to the line that contains these words.
    fn wait_for_log(&mut self, words: &str) -> String {
        let log = BufReader::new(self.child.stderr.as_mut().unwrap());
        log.lines().map_while(Result::ok).find(|line| line.contains(words)).unwrap_or_default()
    }

    /// Waits until it asks the API server, so that it surely runs.
    fn wait_for_call(&self) {
        self.server.set_nonblocking(true).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.server.accept() {
            assert!(Instant::now() < deadline, "it did not call the API server: {error}");
            std::thread::yield_now();
        }
    }

    fn stop(&mut self) -> Option<i32> {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it still runs after SIGTERM");
            std::thread::yield_now();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_signal_ends_it_with_0_even_while_it_waits() {
    let arguments = ["--liveness=none", "--log-format=json", "--leader-elect=false", "--module=plugin"];
    let mut operator = Waiting::start(&arguments);
    let line = operator.wait_for_log("no effect here");
    assert!(line.contains("\"severity\":\"WARNING\"") && line.contains("--module"), "{line}");
    operator.wait_for_call();
    assert_eq!(operator.stop(), Some(0));
}

#[test]
fn its_probes_answer_while_the_api_server_does_not() {
    // Freed at once and taken by the operator: the one port that nobody else is given soon.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let liveness = format!("--liveness=http://127.0.0.1:{port}/healthz");
    let mut operator = Waiting::start(&[&liveness, "--leader-elect=false", "-v"]);
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 503") && answer.contains("not checked yet"), "{answer}");
    assert_eq!(operator.stop(), Some(0));
}
