//! The operator as a process of its own, so that its memory and CPU time are its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::IN_FLIGHT;
use crate::background::Background;
use crate::wait::wait_for;

/// A running operator; it ends when this is dropped.
#[derive(Debug)]
pub struct Operator {
    process: Background,
    port: u16,
}

impl Operator {
    /// Starts the operator and waits until it is ready. It does not look for schedulers, which are not real.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(program: &Path, kubeconfig: &Path, log: &Path) -> Result<Self> {
        Self::start_with(program, kubeconfig, log, "none").await
    }

    /// The same with another value of `--scheduler-access`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_with(program: &Path, kubeconfig: &Path, log: &Path, access: &str) -> Result<Self> {
        let port = free_port().await?;
        let file = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new(program);
        command
            .args(["run", "--all-namespaces", "--leader-elect=false"])
            .arg(format!("--scheduler-access={access}"))
            .arg(format!("--max-in-flight={IN_FLIGHT}"))
            .arg(format!("--liveness=http://127.0.0.1:{port}/healthz"))
            .env("KUBECONFIG", kubeconfig);
        let process = Background::start(&mut command, file)?;
        let operator = Self { process, port };
        wait_for("the operator to be ready", async || is_ready(port).await.unwrap_or(false))
            .await
            .with_context(|| format!("see {}", log.display()))?;
        Ok(operator)
    }

    /// What it tells at `/metrics`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        get(self.port, "/metrics").await
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Builds the operator as it is shipped, with Cargo; returns at once when it is built already.
///
/// # Errors
/// When it does not build.
pub fn build() -> Result<PathBuf> {
    let root = testbed::workspace::root();
    let version = Command::new("rustc").arg("-vV").output().context("failed to run rustc")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let target = host(&version).context("`rustc -vV` names no host")?;
    let built = testbed::workspace::cargo()
        .args(["build", "--quiet", "--release", "--package", "dask-operator", "--target", target])
        // As `make image` does, so that the very program of the image is measured.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .status()
        .context("failed to run cargo")?;
    ensure!(built.success(), "failed to build dask-operator");
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(folder.join(target).join("release/dask-operator"))
}

fn host(version: &str) -> Option<&str> {
    version.lines().find_map(|line| line.strip_prefix("host: "))
}

/// A port that nobody listens on.
pub(crate) async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port())
}

async fn is_ready(port: u16) -> Result<bool> {
    answers(port, "/readyz").await
}

/// Whether a server on this machine answers a request with 200.
///
/// # Errors
/// When it does not answer.
pub async fn answers(port: u16, path: &str) -> Result<bool> {
    Ok(get(port, path).await?.starts_with("HTTP/1.1 200"))
}

/// What a server on this machine answers, headers included.
async fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found() {
        assert_eq!(
            host("rustc 1.95.0\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\n"),
            Some("x86_64-unknown-linux-gnu")
        );
        assert_eq!(host(""), None);
    }

    #[tokio::test]
    async fn only_a_200_is_ready() {
        for (answer, ready) in
            [("HTTP/1.1 200 OK\r\n\r\n", true), ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false)]
        {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                String::from_utf8_lossy(&request[..length]).into_owned()
            });
            assert_eq!(is_ready(port).await.unwrap(), ready);
            assert!(server.await.unwrap().starts_with("GET /readyz "));
        }
    }
}
