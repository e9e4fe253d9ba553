//! The operator as a process of its own, so that its memory and CPU time are its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::IN_FLIGHT;
use crate::server::{Server, wait_for};

/// A running operator; it ends when this is dropped.
#[derive(Debug)]
pub struct Operator {
    process: Child,
}

impl Operator {
    /// Starts the operator and waits until its caches are filled.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(server: &Server, program: &Path, log: &Path) -> Result<Self> {
        let port = free_port().await?;
        let file = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let process = Command::new(program)
            .args(["run", "--all-namespaces", "--leader-elect=false", "--log-level=warn"])
            .arg(format!("--max-in-flight={IN_FLIGHT}"))
            .arg(format!("--liveness=http://127.0.0.1:{port}/healthz"))
            .env("KUBECONFIG", server.kubeconfig())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("failed to start {}", program.display()))?;
        let operator = Self { process };
        wait_for("the operator to be ready", async || is_ready(port).await.unwrap_or(false))
            .await
            .with_context(|| format!("see {}", log.display()))?;
        Ok(operator)
    }

    /// Its resident memory, in bytes.
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_bytes(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        resident_bytes(&status).context("/proc/<pid>/status has no VmRSS")
    }

    /// The CPU time that it has used.
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        cpu_time(&stat).context("/proc/<pid>/stat has no times")
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where the operator is: `OPERATOR_BINARY`, or what `make image` built.
///
/// # Errors
/// When it is not there.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("OPERATOR_BINARY") {
        return Ok(path.into());
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let built = format!("{}-unknown-linux-gnu/release/dask-operator", std::env::consts::ARCH);
    let path = target.join(built);
    anyhow::ensure!(path.exists(), "{} is missing: run `make image`, or set OPERATOR_BINARY", path.display());
    Ok(path)
}

async fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port())
}

async fn is_ready(port: u16) -> Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024.0)
}

/// Fields 14 and 15 of proc(5), in ticks of 10 ms.
fn cpu_time(stat: &str) -> Option<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_time_of_a_process() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t   12 kB\n"), Some(12.0 * 1024.0));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        let stat = "1 (a (b) c) S 0 1 1 0 -1 0 0 0 0 0 150 50 0 0 20";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(2)));
        let own = fs::read_to_string("/proc/self/stat").unwrap();
        assert!(cpu_time(&own).is_some());
    }
}
