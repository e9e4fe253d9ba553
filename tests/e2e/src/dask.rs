//! Real Dask computations, from a pod beside the cluster: as a notebook would do it.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{Error as AnyError, Kubernetes, notebook::Shrinking};

const WORKERS: &str = include_str!("../python/workers.py");
const COMPUTE: &str = include_str!("../python/compute.py");
const HOLD: &str = include_str!("../python/hold.py");
const EXHAUST_MEMORY: &str = include_str!("../python/exhaust_memory.py");

/// Python with Dask starts in two seconds; with every core busy it takes longer, never this long.
const START_PATIENCE: Duration = Duration::from_mins(1);

/// Why a script's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It printed something else.
    #[error("failed to understand the script's answer {output:?}")]
    Answer {
        /// What it printed.
        output: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A cluster shrank and lost work, or had none to lose.
    #[error("failed to shrink a cluster without doing anything twice: {0:?}")]
    Shrinking(Shrinking),
    /// The cluster computed something else.
    #[error("the cluster computed {total} as the sum of a product of {size} × {size} ones; {size}³ is right")]
    Wrong {
        /// What it computed.
        total: f64,
        /// Rows and columns.
        size: u32,
    },
}

/// A pod with Python and Dask in which scripts run.
#[derive(Debug)]
pub struct ClientPod<'a> {
    kubernetes: &'a Kubernetes,
    namespace: String,
    name: String,
}

/// What came of a computation.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Computation {
    /// The sum of all elements of the product.
    pub total: f64,
    /// How many workers held a part of the product.
    pub workers: usize,
    /// Seconds it took, without the start of Python.
    pub seconds: f64,
}

impl Computation {
    /// Floating point is exact here: all numbers on the way are whole and below 2⁵³.
    fn checked(self, size: u32) -> Result<Self, Error> {
        let difference = self.total - f64::from(size).powi(3);
        if difference.abs() < 0.5 { Ok(self) } else { Err(Error::Wrong { total: self.total, size }) }
    }
}

/// Results that are held on a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Held {
    /// Whether all of them are what they should be.
    pub right: bool,
    /// How many times one was computed since the scheduler started.
    pub executions: u32,
}

#[derive(Deserialize)]
struct Workers {
    names: Vec<String>,
}

#[derive(Deserialize)]
struct Victim {
    name: String,
}

impl<'a> ClientPod<'a> {
    /// Starts the pod, or finds it running.
    ///
    /// # Errors
    /// When it is refused or does not start.
    pub async fn start(
        kubernetes: &'a Kubernetes,
        namespace: &str,
        name: &str,
        image: &str,
    ) -> Result<Self, AnyError> {
        Self::apply(kubernetes, namespace, name, pod(name, image)).await
    }

    /// As [`Self::start`], with the token of a service account.
    ///
    /// # Errors
    /// When it is refused or does not start.
    pub async fn start_as(
        kubernetes: &'a Kubernetes,
        namespace: &str,
        name: &str,
        image: &str,
        account: &str,
    ) -> Result<Self, AnyError> {
        let mut pod = pod(name, image);
        pod["spec"]["automountServiceAccountToken"] = json!(true);
        pod["spec"]["serviceAccountName"] = json!(account);
        Self::apply(kubernetes, namespace, name, pod).await
    }

    async fn apply(
        kubernetes: &'a Kubernetes,
        namespace: &str,
        name: &str,
        pod: Value,
    ) -> Result<Self, AnyError> {
        let apply = kubernetes.kubectl(&format!("apply --namespace {namespace} -f -"));
        apply.input(pod.to_string()).run().await?;
        let seconds = START_PATIENCE.as_secs();
        let wait =
            format!("wait pod/{name} --namespace {namespace} --for condition=Ready --timeout {seconds}s");
        kubernetes.kubectl(&wait).deadline(START_PATIENCE * 2).run().await?;
        Ok(Self { kubernetes, namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Waits until exactly `count` workers are connected to the scheduler and returns their names in order.
    ///
    /// # Errors
    /// When there are more or fewer until the end of `patience`.
    pub async fn wait_for_workers(
        &self,
        cluster: &str,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<String>, AnyError> {
        let arguments = [address(cluster), count.to_string(), patience.as_secs().to_string()];
        let workers: Workers = self.run(WORKERS, &arguments, patience).await?;
        Ok(workers.names)
    }

    /// Computes the sum of the product of two `size` × `size` matrices of ones: `size`³.
    ///
    /// # Errors
    /// When the cluster does not answer, or answers something else.
    pub async fn compute(&self, cluster: &str, size: u32) -> Result<Computation, AnyError> {
        let arguments = [address(cluster), size.to_string()];
        let computation: Computation = self.run(COMPUTE, &arguments, Duration::from_mins(1)).await?;
        Ok(computation.checked(size)?)
    }

    /// Makes one worker use this much memory, which must be more than it may, and returns its name.
    ///
    /// # Errors
    /// When there is no worker, or it survives.
    pub async fn exhaust_memory(&self, cluster: &str, mebibytes: u32) -> Result<String, AnyError> {
        let arguments = [address(cluster), mebibytes.to_string()];
        let victim: Victim = self.run(EXHAUST_MEMORY, &arguments, Duration::from_mins(1)).await?;
        Ok(victim.name)
    }

    /// Computes this many results and keeps them on the cluster, whoever comes and goes.
    ///
    /// # Errors
    /// When the cluster does not compute them.
    pub async fn keep(&self, cluster: &str, results: u8) -> Result<Held, AnyError> {
        let arguments = [address(cluster), "keep".to_owned(), results.to_string()];
        self.run(HOLD, &arguments, Duration::from_mins(2)).await
    }

    /// Takes the results that [`Self::keep`] left, from wherever they are now.
    ///
    /// # Errors
    /// When the cluster does not give them.
    pub async fn take(&self, cluster: &str, results: u8) -> Result<Held, AnyError> {
        let arguments = [address(cluster), "take".to_owned(), results.to_string()];
        self.run(HOLD, &arguments, Duration::from_mins(2)).await
    }

    /// As [`Self::take`], and the cluster need not hold them any longer.
    ///
    /// # Errors
    /// When the cluster does not give them.
    pub async fn take_last(&self, cluster: &str, results: u8) -> Result<Held, AnyError> {
        let arguments = [address(cluster), "drop".to_owned(), results.to_string()];
        self.run(HOLD, &arguments, Duration::from_mins(2)).await
    }

    /// Runs a script that prints one line of JSON as the last.
    ///
    /// # Errors
    /// When it fails, does not end in time or prints something else.
    pub async fn run<T: DeserializeOwned>(
        &self,
        script: &str,
        arguments: &[String],
        patience: Duration,
    ) -> Result<T, AnyError> {
        let exec = format!("exec --stdin {} --namespace {} -- python -", self.name, self.namespace);
        let invocation = self.kubernetes.kubectl(&exec).args(arguments).input(script);
        let output = invocation.deadline(patience + START_PATIENCE).run().await?;
        Ok(parse(&output)?)
    }
}

/// The answer of a script: its last line.
pub(crate) fn parse<T: DeserializeOwned>(output: &str) -> Result<T, Error> {
    let line = output.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|source| Error::Answer { output: output.to_owned(), source })
}

/// Address of a cluster's scheduler, for pods in the same namespace.
fn address(cluster: &str) -> String {
    format!("tcp://{cluster}-scheduler:8786")
}

/// A pod that waits for scripts and fits the Pod Security level "restricted".
fn pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            // Nothing to save: it need not hold up the end of its namespace.
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "client",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["python", "-c", "import signal; signal.pause()"],
                "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_answer() {
        let computation: Computation =
            parse("a warning\n{\"total\": 8e9, \"workers\": 4, \"seconds\": 0.5}\n").unwrap();
        assert_eq!(computation, Computation { total: 8e9, workers: 4, seconds: 0.5 });
    }

    #[test]
    fn a_wrong_result_is_an_error() {
        let computation = |total| Computation { total, workers: 1, seconds: 0.1 };
        assert!(computation(8e9).checked(2000).is_ok());
        let error = computation(8e9 - 1.0).checked(2000).unwrap_err().to_string();
        assert!(error.contains("7999999999") && error.contains("2000"), "{error}");
    }

    #[test]
    fn an_unexpected_answer_is_shown() {
        let error = parse::<Computation>("nothing of use").unwrap_err().to_string();
        assert!(error.contains("nothing of use"), "{error}");
    }
}
