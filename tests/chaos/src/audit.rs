//! The client of Dask that keeps keys on the workers: a script in a pod beside the cluster.

use std::{process::Stdio, time::Duration};

use e2e_tests::Kubernetes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    time::timeout,
};

use crate::{Error, deletions::Change, ledger::Report};

const SCRIPT: &str = include_str!("../python/audit.py");
const POD: &str = "audit";

/// Beyond what the script itself waits for; with every core busy, Python alone takes tens of seconds to start.
const MARGIN: Duration = Duration::from_mins(2);

/// What the client holds and runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Keys held.
    pub keys: u32,
    /// Bytes of each.
    pub bytes: u32,
    /// Tasks of a third of a second at most that are always under way.
    pub short: u32,
    /// Tasks of 5 s that are always under way.
    pub long: u32,
}

impl Load {
    /// 1,000 unique keys of 100 kB and tasks for every worker.
    pub const FULL: Self = Self { keys: 1_000, bytes: 100_000, short: 8, long: 2 };
}

/// A running audit; it ends when this is dropped.
#[derive(Debug)]
pub struct Audit {
    // Kills kubectl when dropped.
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    messages: ChildStderr,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Ok(Value),
    Error(String),
}

impl Audit {
    /// Starts the script in a pod on this node and connects it to the scheduler.
    ///
    /// # Errors
    /// When the pod does not start or the script does not connect.
    pub async fn start(
        kubernetes: &Kubernetes,
        namespace: &str,
        node: &str,
        scheduler: &str,
        load: Load,
    ) -> Result<Self, Error> {
        kubernetes
            .kubectl(&format!("apply --namespace {namespace} -f -"))
            .input(pod(node).to_string())
            .run()
            .await?;
        let wait = format!("wait pod/{POD} --namespace {namespace} --for condition=Ready --timeout 120s");
        kubernetes.kubectl(&wait).deadline(MARGIN * 2).run().await?;
        let arguments = [load.keys, load.bytes, load.short, load.long].map(|number| number.to_string());
        let mut process = kubernetes
            .kubectl(&format!("exec --stdin {POD} --namespace {namespace} -- python -u -c"))
            .args([SCRIPT, scheduler])
            .args(arguments)
            .into_command()
            .stdin(Stdio::piped())
            .spawn()?;
        let pipe = |what: &str| Error::Absent { what: format!("the audit's {what}") };
        let mut audit = Self {
            input: process.stdin.take().ok_or_else(|| pipe("input"))?,
            output: BufReader::new(process.stdout.take().ok_or_else(|| pipe("output"))?).lines(),
            messages: process.stderr.take().ok_or_else(|| pipe("messages"))?,
            _process: process,
        };
        let _round: Value = audit.answer(Duration::ZERO).await?;
        Ok(audit)
    }

    /// Computes the keys of this round and starts the stream of tasks.
    ///
    /// # Errors
    /// When the audit fails.
    pub async fn fill(&mut self) -> Result<(), Error> {
        let _filled: Value = self.ask(&json!({"op": "fill"}), MARGIN).await?;
        Ok(())
    }

    /// Lets what is only on these hosts be computed again.
    ///
    /// # Errors
    /// When the audit fails.
    pub async fn excuse(&mut self, hosts: &[String]) -> Result<(), Error> {
        let _excused: Value = self.ask(&json!({"op": "excuse", "hosts": hosts}), Duration::ZERO).await?;
        Ok(())
    }

    /// Waits for so many workers and for every key, and reports.
    ///
    /// # Errors
    /// When the audit fails; that keys or workers are missing is in the report.
    pub async fn report(&mut self, workers: i32, patience: Duration) -> Result<Report, Error> {
        let command = json!({"op": "report", "workers": workers, "patience": patience.as_secs()});
        self.ask(&command, patience).await
    }

    /// When the scheduler took up workers and let them go, since this incarnation of it is known.
    ///
    /// # Errors
    /// When the audit fails.
    pub async fn changes(&mut self) -> Result<Vec<Change>, Error> {
        self.ask(&json!({"op": "changes"}), Duration::ZERO).await
    }

    /// Connects to the next incarnation of the scheduler.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn restarted(&mut self, patience: Duration) -> Result<(), Error> {
        let command = json!({"op": "restarted", "patience": patience.as_secs()});
        let _round: Value = self.ask(&command, patience).await?;
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(&mut self, command: &Value, patience: Duration) -> Result<T, Error> {
        self.input.write_all(format!("{command}\n").as_bytes()).await?;
        self.input.flush().await?;
        self.answer(patience).await
    }

    async fn answer<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T, Error> {
        let patience = patience + MARGIN;
        let Ok(line) = timeout(patience, self.output.next_line()).await else {
            return Err(Error::AuditSilent { seconds: patience.as_secs() });
        };
        let Some(line) = line? else {
            let mut said = String::new();
            let _ = timeout(Duration::from_secs(5), self.messages.read_to_string(&mut said)).await;
            let start = said.char_indices().rev().nth(1_000).map_or(0, |(start, _)| start);
            return Err(Error::AuditEnded { said: said.split_off(start) });
        };
        parse(&line)
    }
}

fn parse<T: DeserializeOwned>(line: &str) -> Result<T, Error> {
    let failed = |source| Error::AuditAnswer { answer: line.to_owned(), source };
    match serde_json::from_str(line).map_err(failed)? {
        Answer::Ok(value) => serde_json::from_value(value).map_err(failed),
        Answer::Error(message) => Err(Error::AuditFailed { message }),
    }
}

fn pod(node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [{
                "name": "audit",
                "image": testbed::images::DASK,
                "imagePullPolicy": "IfNotPresent",
                "command": ["python", "-c", "import signal; signal.pause()"],
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line() {
        let round: Value = parse(r#"{"ok": {"round": 1}}"#).unwrap();
        assert_eq!(round, json!({"round": 1}));
    }

    #[test]
    fn what_the_audit_says_of_a_failure_is_shown() {
        let error = parse::<Value>(r#"{"error": "OSError: no route"}"#).unwrap_err().to_string();
        assert!(error.contains("no route"), "{error}");
    }

    #[test]
    fn what_is_no_answer_is_shown() {
        let error = parse::<Report>("Traceback").unwrap_err().to_string();
        assert!(error.contains("Traceback"), "{error}");
    }

    #[test]
    fn the_pod_stays_off_the_node_that_dies() {
        assert_eq!(pod("node1")["spec"]["nodeSelector"]["kubernetes.io/hostname"], "node1");
    }
}
