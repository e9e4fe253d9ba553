//! The operator as a process of this machine, as its developers run it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, Command};

use crate::{Error, Kubernetes, command, images};

/// A running operator; it is killed when this is dropped.
#[derive(Debug)]
pub struct OperatorOutside {
    process: Child,
    log: PathBuf,
}

impl OperatorOutside {
    /// Starts it for all namespaces, with the rights of the kubeconfig.
    ///
    /// # Errors
    /// When it does not compile or cannot be started.
    pub async fn start(kubernetes: &Kubernetes) -> Result<Self, Error> {
        let program = images::operator_program().await?;
        let log = kubernetes.kubeconfig().with_file_name("operator-outside.log");
        let file = fs::File::create(&log).map_err(|source| Error::Read { path: log.clone(), source })?;
        let process = Command::new(&program)
            .args(["run", "--all-namespaces", "--leader-elect=false", "--log-format=text"])
            // The port may be taken by another operator of this machine.
            .arg("--liveness=http://127.0.0.1:0/healthz")
            .env("KUBECONFIG", kubernetes.kubeconfig())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::from(file))
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| command::Error::Start { command: program.display().to_string(), source })?;
        Ok(Self { process, log })
    }

    /// Whether it runs still.
    pub fn is_running(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Where it logs.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }
}
