//! Jobs on nodes: a program with a cluster of its own.

use e2e_tests::{
    Error,
    wait::{self, Look},
};
use serde_json::{Value, json};

use crate::{
    fixtures::cluster,
    harness::{PATIENCE, Scenario, shared},
};

/// What a program does that uses the cluster of its job: the address comes by environment.
const SUM_OF_SQUARES: &str = "\
from distributed import Client
with Client(timeout=60) as client:
    print(client.submit(sum, client.map(lambda x: x * x, range(10))).result())
";

fn job(name: &str, program: &str) -> Value {
    let mut spec = cluster(name, 1)["spec"].take();
    spec["scheduler"]["service"]["selector"]["dask.org/cluster-name"] = json!(name);
    json!({
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskJob",
        "metadata": {"name": name},
        "spec": {
            "job": {"spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "job", "image": testbed::images::DASK, "imagePullPolicy": "IfNotPresent",
                    "args": ["python", "-c", program],
                }],
            }},
            "cluster": {"spec": spec},
        },
    })
}

/// The same with Dask's default of 30 s.
const UNMODIFIED_CLIENT: &str = "\
from distributed import Client
print(Client().submit(sum, [1, 2]).result())
";

impl Scenario {
    /// Waits until a job has this status, and returns its whole status.
    async fn job_status(&self, job: &str, wanted: &str) -> Result<Value, Error> {
        wait::until(&format!("DaskJob {job:?} to be {wanted}"), PATIENCE, async || {
            let seen = self.kubectl(&format!("get daskjob {job} --output json")).run().await?;
            let status = serde_json::from_str::<Value>(&seen).unwrap_or_default()["status"].take();
            let reached = status["jobStatus"] == wanted;
            Ok(if reached { Look::Done(status) } else { Look::NotYet(status.to_string()) })
        })
        .await
    }

    /// Waits until nothing of a job's cluster is left.
    async fn no_cluster(&self) -> Result<(), Error> {
        wait::until("the cluster of the job to go", PATIENCE, async || {
            let list = "get daskclusters,daskworkergroups,deployments,services --output name";
            let left = self.kubectl(list).run().await?;
            Ok(if left.is_empty() { Look::Done(()) } else { Look::NotYet(left) })
        })
        .await
    }

    async fn runner_log(&self, job: &str) -> Result<String, Error> {
        Ok(self.kubectl(&format!("logs {job}-runner")).run().await?)
    }
}

#[tokio::test]
async fn a_job_computes_on_its_cluster_and_its_name_can_be_used_again() {
    shared("job", async |scenario| {
        for program in [SUM_OF_SQUARES, "print('another program')"] {
            scenario.apply(job("sums", program)).await?;
            let status = scenario.job_status("sums", "Successful").await?;
            assert_eq!(
                (&status["clusterName"], &status["jobRunnerPodName"]),
                (&json!("sums"), &json!("sums-runner"))
            );
            assert!(status["startTime"].is_string() && status["endTime"].is_string(), "{status}");
            scenario.no_cluster().await?;
            let log = scenario.runner_log("sums").await?;
            let expected = if program == SUM_OF_SQUARES { "285" } else { "another program" };
            assert_eq!(log.trim(), expected, "the runner stays with its log");
            // Applied again at once: the runner of the old job may still be on its way out.
            scenario.kubectl("delete daskjob sums").run().await?;
        }
        Ok::<(), Error>(())
    })
    .await;
}

#[tokio::test]
async fn a_program_that_fails_fails_its_job() {
    shared("job-failed", async |scenario| {
        scenario.apply(job("broken", "raise SystemExit('no such data')")).await?;
        let status = scenario.job_status("broken", "Failed").await?;
        assert!(status["endTime"].is_string(), "{status}");
        scenario.no_cluster().await?;
        assert!(scenario.runner_log("broken").await?.contains("no such data"));
        Ok::<(), Error>(())
    })
    .await;
}

/// The scheduler takes longer to start than a client waits, which is 30 s.
#[tokio::test]
async fn a_program_starts_when_its_scheduler_answers() {
    shared("job-early", async |scenario| {
        let mut early = job("early", UNMODIFIED_CLIENT);
        early["spec"]["cluster"]["spec"]["scheduler"]["spec"]["initContainers"] = json!([{
            "name": "slow", "image": testbed::images::DASK, "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "35"],
        }]);
        scenario.apply(early).await?;
        scenario.job_status("early", "ClusterCreated").await?;
        scenario.reason("early", "RunnerReady", "WaitingForScheduler").await?;
        scenario.job_status("early", "Successful").await?;
        assert_eq!(scenario.runner_log("early").await?.trim(), "3");
        Ok::<(), Error>(())
    })
    .await;
}
