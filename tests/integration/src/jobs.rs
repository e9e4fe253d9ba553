//! The life of a job, with an operator that may be killed at any moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dask_operator_api::{DaskCluster, DaskJob, DaskWorkerGroup, JobStatus, labels};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use crate::api_server::ApiServer;
use crate::fault::{Call, Faults, listed};
use crate::kubelet::{Ending, Kubelet, end_pod, wait_until_running};
use crate::namespace::{Namespace, Object};
use crate::operator::{Launch, Operator};
use crate::templates;
use crate::wait::{check, holds_for, wait_for};

/// How long the second pass must stay silent.
const SILENCE: Duration = Duration::from_secs(1);

/// A job as in dask-kubernetes' documentation.
#[must_use]
pub fn job(name: &str) -> DaskJob {
    serde_json::from_value(job_json(name)).expect("the template is a DaskJob")
}

/// The same as JSON, to be bent.
#[must_use]
pub fn job_json(name: &str) -> Value {
    json!({
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskJob",
        "metadata": {"name": name},
        "spec": {
            "job": {"spec": {"containers": [{"name": "job", "image": "dask:test", "args": ["python", "-c", "1"]}]}},
            "cluster": {"spec": templates::cluster_json(name, 1)["spec"].clone()},
        },
    })
}

/// The job's status as it is stored, with every key.
pub async fn raw_status(namespace: &Namespace, name: &str) -> Value {
    let json = namespace.kubectl(&format!("get daskjob {name} -o json"), "").await.stdout;
    serde_json::from_str::<Value>(&json).expect("kubectl prints JSON")["status"].clone()
}

/// Waits until a job has this status.
pub async fn wait_for_status(namespace: &Namespace, name: &str, expected: JobStatus) -> DaskJob {
    wait_for(&format!("job {name} is {expected}"), async || {
        let job = namespace.find::<DaskJob>(name).await?;
        let found = job.status.as_ref().and_then(|status| status.job_status);
        check(found == Some(expected), || format!("{:?}", job.status))?;
        Ok(job)
    })
    .await
}

/// Checks the final status: exactly five keys, and times to the second.
pub fn assert_final(status: &Value, name: &str, expected: JobStatus) {
    let keys: Vec<&str> = status.as_object().expect("a status").keys().map(String::as_str).collect();
    assert_eq!(keys, ["clusterName", "endTime", "jobRunnerPodName", "jobStatus", "startTime"], "{status}");
    assert_eq!(status["clusterName"], name);
    assert_eq!(status["jobRunnerPodName"], format!("{name}-runner"));
    assert_eq!(status["jobStatus"], expected.to_string());
    for key in ["startTime", "endTime"] {
        let time = status[key].as_str().expect("a time");
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00Z", "{time}");
    }
    assert!(status["startTime"].as_str() <= status["endTime"].as_str(), "{status}");
}

/// Watches a namespace's jobs, their clusters and their runners.
#[derive(Debug)]
pub struct JobObserver {
    seen: Arc<Mutex<Seen>>,
    _tasks: [AbortOnDropHandle<()>; 3],
}

#[derive(Debug, Default)]
struct Seen {
    /// Statuses of each job in their order, repetitions left out.
    statuses: BTreeMap<String, Vec<Option<JobStatus>>>,
    /// UIDs by kind and name.
    uids: BTreeMap<String, Vec<String>>,
}

impl JobObserver {
    /// Starts to watch.
    #[must_use]
    pub fn start(namespace: &Namespace) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let all = watcher::Config::default;
        let runners = all().labels(&format!("{}={}", labels::COMPONENT, labels::JOB_RUNNER));
        let tasks = [
            observe(namespace, all(), &seen, |seen, job: &DaskJob| {
                let status = job.status.as_ref().and_then(|status| status.job_status);
                let statuses = seen.statuses.entry(job.name_any()).or_default();
                if statuses.last() != Some(&status) {
                    statuses.push(status);
                }
            }),
            observe(namespace, all(), &seen, |_, _: &DaskCluster| {}),
            observe(namespace, runners, &seen, |_, _: &Pod| {}),
        ];
        Self { seen, _tasks: tasks }
    }

    /// The statuses that a job had, in their order.
    #[must_use]
    pub fn statuses(&self, job: &str) -> Vec<Option<JobStatus>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.statuses.get(job).cloned().unwrap_or_default()
    }

    /// How many objects of this kind and name there ever were.
    #[must_use]
    pub fn ever(&self, kind: &str, name: &str) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.uids.get(&format!("{kind} {name}")).map_or(0, Vec::len)
    }
}

fn observe<K: Object + Send + Sync + 'static>(
    namespace: &Namespace,
    config: watcher::Config,
    seen: &Arc<Mutex<Seen>>,
    note: impl Fn(&mut Seen, &K) + Send + 'static,
) -> AbortOnDropHandle<()> {
    let (api, seen) = (namespace.api::<K>(), seen.clone());
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut objects = std::pin::pin!(watcher(api, config).default_backoff().applied_objects());
        while let Some(object) = objects.next().await {
            let Ok(object) = object else { continue };
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let uids = seen.uids.entry(format!("{} {}", K::kind(&()), object.name_any())).or_default();
            let uid = object.uid().unwrap_or_default();
            if !uids.contains(&uid) {
                uids.push(uid);
            }
            note(&mut seen, &object);
        }
    }))
}

/// What a run of the scenario came to.
#[derive(Debug)]
pub struct Outcome {
    /// The writes of the operator that the faults were for.
    pub writes: Vec<Call>,
    /// How many requests were spoiled.
    pub spoiled: usize,
    /// The statuses that the job had.
    pub statuses: Vec<Option<JobStatus>>,
}

/// Runs a job from its creation to its deletion in a namespace of its own, with an operator whose requests pass
/// `faults`. When a planned crash happens, another operator without faults takes its place. The job has exactly one
/// cluster and one runner, whatever happens, and ends as its runner does.
pub async fn run(server: &ApiServer, name: &str, faults: &Faults, ending: Ending) -> Outcome {
    let namespace = &server.namespace(name).await;
    let _kubelet = Kubelet::start(namespace).await;
    let observer = JobObserver::start(namespace);
    let launch = Launch::alone(namespace).faults(faults);
    let mut operator = Operator::launch(launch.clone()).await;
    let mut driver = Box::pin(until_done(namespace, ending));
    tokio::select! {
        () = &mut driver => {}
        () = faults.crashed() => {
            operator.kill();
            operator = Operator::launch(launch.clone().faults(&Faults::recorder())).await;
            driver.await;
        }
    }
    operator.stop().await;
    let operator = second_pass(namespace, &launch).await;
    namespace.delete::<DaskJob>("job").await;
    wait_for("everything is gone", async || {
        let pods = namespace.list::<Pod>("").await.len();
        let others =
            namespace.list::<DaskCluster>("").await.len() + namespace.list::<DaskWorkerGroup>("").await.len();
        check(pods + others == 0, || format!("{pods} pods, {others} clusters and groups"))
    })
    .await;
    operator.stop().await;
    for (kind, name) in [("DaskCluster", "job"), ("Pod", "job-runner")] {
        assert_eq!(observer.ever(kind, name), 1, "{kind} {name}");
    }
    let statuses = observer.statuses("job");
    assert!(statuses.is_sorted_by_key(|status| rank(*status)), "{statuses:?}");
    Outcome { writes: faults.writes(), spoiled: faults.spoiled(), statuses }
}

fn rank(status: Option<JobStatus>) -> u8 {
    match status {
        None => 0,
        Some(JobStatus::JobCreated) => 1,
        Some(JobStatus::ClusterCreated) => 2,
        Some(JobStatus::Running) => 3,
        Some(JobStatus::Successful | JobStatus::Failed) => 4,
    }
}

async fn until_done(namespace: &Namespace, ending: Ending) {
    namespace.create_object(&job("job")).await;
    let runner = wait_until_running(namespace, "job-runner").await;
    wait_for_status(namespace, "job", JobStatus::Running).await;
    end_pod(namespace, &runner, ending).await;
    let expected = if ending == Ending::Completed { JobStatus::Successful } else { JobStatus::Failed };
    wait_for_status(namespace, "job", expected).await;
    assert_final(&raw_status(namespace, "job").await, "job", expected);
    // To the last of it: what is left of a group has its status written now and then while it goes.
    wait_for("the cluster is gone, with all that was made for it", async || {
        let clusters = namespace.list::<DaskCluster>("").await.len();
        let groups = namespace.list::<DaskWorkerGroup>("").await.len();
        let others = format!("{}!={}", labels::COMPONENT, labels::JOB_RUNNER);
        let pods = namespace.list::<Pod>(&others).await.len();
        check(clusters + groups + pods == 0, || format!("{clusters} clusters, {groups} groups, {pods} pods"))
    })
    .await;
    let kept: Pod = namespace.get("job-runner").await;
    assert!(kept.uid() == runner.uid() && kept.metadata.deletion_timestamp.is_none(), "the runner is kept");
}

/// A new operator looks at the job that has ended, also when it is woken, and finds nothing to write.
async fn second_pass(namespace: &Namespace, launch: &Launch) -> Operator {
    let faults = Faults::recorder();
    let operator = Operator::launch(launch.clone().faults(&faults)).await;
    operator.wait_until_ready().await;
    let touch = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/touched": "true"}}});
    namespace.patch::<DaskJob>("job", touch).await;
    holds_for(SILENCE, "the second pass writes nothing", async || {
        let writes = faults.writes();
        check(writes.is_empty(), || listed(&writes))
    })
    .await;
    operator
}
