//! The real kubectl.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::api_server::ApiServer;
use crate::namespace::Namespace;

/// What a run of kubectl printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Whether its exit code was 0.
    pub success: bool,
    /// Standard output, trimmed.
    pub stdout: String,
    /// Standard error, trimmed.
    pub stderr: String,
}

/// Runs kubectl as administrator with these arguments, and `input` as its standard input.
pub async fn run(server: &ApiServer, arguments: &[&str], input: &str) -> Output {
    let kubectl = testbed::tools::path("kubectl").unwrap_or_else(|error| panic!("{error}"));
    let mut child = Command::new(kubectl)
        .env("KUBECONFIG", server.kubeconfig())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("kubectl starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).await.expect("kubectl reads its input");
    drop(stdin);
    let output = child.wait_with_output().await.expect("kubectl ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Output { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

impl Namespace {
    /// Runs kubectl in the namespace; panics with what it printed if it fails.
    pub async fn kubectl(&self, arguments: &str, input: &str) -> Output {
        let output = self.try_kubectl(arguments, input).await;
        assert!(output.success, "kubectl {arguments}: {}\n{input}", output.stderr);
        output
    }

    /// Runs kubectl in the namespace.
    pub async fn try_kubectl(&self, arguments: &str, input: &str) -> Output {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments.split_whitespace());
        run(self.server(), &all, input).await
    }
}
