//! A namespace full of broken clusters, and those who keep them broken: in place of kubelets, of schedulers and of a user
//! who cannot make up his mind.

use std::future::ready;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::driver;
use crate::scenarios::links::{PORT, runs_at};
use crate::workload;

/// Where nobody listens.
const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 78, 0, 1);
/// Where something listens that is no scheduler.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 78, 0, 2);
/// Workers that each broken cluster wants.
const WORKERS: i32 = 5;
/// Pause between two changes of mind.
const FLAP: Duration = Duration::from_millis(40);
/// Calls at a time of those who stand in for kubelets.
const IN_FLIGHT: usize = 8;

/// How a cluster is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "kebab-case")]
enum Fault {
    /// Scheduler and workers crash.
    Crashes,
    /// Nobody accepts connections at its scheduler.
    Refuses,
    /// Its scheduler answers nonsense.
    Garbage,
    /// The API server calls its workers invalid.
    Invalid,
    /// It wants more than the quota, and another number of workers all the time.
    Flaps,
    /// It wants more than the quota.
    Quota,
}

const FAULTS: [Fault; 6] =
    [Fault::Crashes, Fault::Refuses, Fault::Garbage, Fault::Invalid, Fault::Flaps, Fault::Quota];

impl Fault {
    /// That of the cluster with this name, or of an object whose name begins with it.
    fn of(name: &str) -> Option<Self> {
        FAULTS.into_iter().find(|fault| {
            name.strip_prefix("broken-").is_some_and(|rest| rest.starts_with(&fault.to_string()))
        })
    }
}

/// Broken clusters. When this is dropped, they are left as they are.
#[derive(Debug)]
pub struct Noise {
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Noise {
    /// Begins to make `count` broken clusters in a namespace, and to keep them broken.
    ///
    /// # Errors
    /// When the quota cannot be made or the port of the stranger is taken.
    pub async fn begin(client: &Client, namespace: &str, count: u16) -> Result<Self> {
        fill_quota(client, namespace, count).await?;
        let listener = TcpListener::bind((STRANGER, PORT)).await.context("failed to listen as a stranger")?;
        let tasks = [
            tokio::spawn(answer_nonsense(listener)),
            tokio::spawn(said("broken clusters", create(client.clone(), namespace.to_owned(), count))),
            tokio::spawn(said("kubelets", break_pods(client.clone(), namespace.to_owned()))),
            tokio::spawn(flap(client.clone(), namespace.to_owned(), count)),
        ];
        Ok(Self { _tasks: tasks.map(AbortOnDropHandle::new).into() })
    }
}

#[expect(clippy::print_stderr, reason = "a bench prints why it cannot go on")]
async fn said(who: &str, work: impl Future<Output = Result<()>>) {
    if let Err(error) = work.await {
        eprintln!("{who}: {error:#}");
    }
}

/// A quota with room for the schedulers and few workers. No controller counts here, so its status is written too.
async fn fill_quota(client: &Client, namespace: &str, count: u16) -> Result<()> {
    let quotas: Api<ResourceQuota> = Api::namespaced(client.clone(), namespace);
    let hard = json!({"pods": (count + count / 10).to_string()});
    let quota = json!({"metadata": {"name": "full"}, "spec": {"hard": hard}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota)?).await?;
    let status = json!({"status": {"hard": hard, "used": {"pods": "0"}}});
    quotas.patch_status("full", &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

fn name(number: u16) -> String {
    format!("broken-{}-{number:03}", FAULTS[usize::from(number) % FAULTS.len()])
}

fn cluster(namespace: &str, number: u16) -> Result<DaskCluster> {
    let name = name(number);
    let mut cluster = workload::cluster(namespace, &name, WORKERS)?;
    if Fault::of(&name) == Some(Fault::Invalid) {
        let labels = json!({"labels": {"not a label": "!"}});
        cluster.spec.worker.metadata = serde_json::from_value(labels)?;
    }
    Ok(cluster)
}

async fn create(client: Client, namespace: String, count: u16) -> Result<()> {
    let clusters: Api<DaskCluster> = Api::namespaced(client, &namespace);
    let all = (0..count).map(|number| {
        let (clusters, cluster) = (clusters.clone(), cluster(&namespace, number));
        async move { anyhow::Ok(clusters.create(&PostParams::default(), &cluster?).await.map(drop)?) }
    });
    stream::iter(all).buffer_unordered(driver::IN_FLIGHT).try_collect().await
}

/// Says of each pod that comes, and each time that one of those that crash is written, how bad it is.
async fn break_pods(client: Client, namespace: String) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let seen = watcher(pods.clone(), watcher::Config::default()).default_backoff().applied_objects();
    seen.filter_map(|pod| ready(pod.ok().and_then(|pod| Some((pod.name_any(), state(&pod)?)))))
        .for_each_concurrent(IN_FLIGHT, |(name, status)| {
            let pods = pods.clone();
            // One that was deleted meanwhile is past caring for.
            async move { drop(pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await) }
        })
        .await;
    Ok(())
}

/// What a kubelet would say of a pod that has no status yet; nothing of those that nobody runs.
fn state(pod: &Pod) -> Option<Value> {
    let status = pod.status.as_ref()?;
    if pod.metadata.deletion_timestamp.is_some() || status.container_statuses.is_some() {
        return None;
    }
    let component = pod.labels().get("dask.org/component")?;
    match (Fault::of(&pod.name_any())?, component.as_str()) {
        (Fault::Crashes, component) => Some(crashed(component)),
        (Fault::Refuses, "scheduler") => Some(runs_at(NOBODY)),
        (Fault::Garbage, "scheduler") => Some(runs_at(STRANGER)),
        _ => None,
    }
}

/// The scheduler is started again by its kubelet and crashes again; the worker has ended.
fn crashed(component: &str) -> Value {
    let ended = json!({"exitCode": 1, "reason": "Error", "message": "no module named nonsense"});
    let (phase, state) = match component {
        "scheduler" => ("Running", json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}})),
        _ => ("Failed", json!({"terminated": ended})),
    };
    let container = json!({
        "name": component, "image": "dask", "imageID": "", "ready": false, "restartCount": 3,
        "state": state, "lastState": {"terminated": ended},
    });
    json!({"status": {"phase": phase, "containerStatuses": [container]}})
}

/// Scales one group after the other up and down.
async fn flap(client: Client, namespace: String, count: u16) {
    let groups: Api<DaskWorkerGroup> = Api::namespaced(client, &namespace);
    let names: Vec<String> =
        (0..count).map(name).filter(|name| Fault::of(name) == Some(Fault::Flaps)).collect();
    let mut ticks = interval(FLAP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in 0_i32.. {
        for name in &names {
            ticks.tick().await;
            let workers = if round % 2 == 0 { 3 * WORKERS } else { 0 };
            let patch = Patch::Merge(json!({"spec": {"worker": {"replicas": workers}}}));
            // It may not be there yet.
            drop(groups.patch(&format!("{name}-default"), &PatchParams::default(), &patch).await);
        }
    }
}

/// Takes every connection and answers as no scheduler does.
async fn answer_nonsense(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        // Whoever called may have gone.
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn clusters_are_broken_in_every_way() {
        let names: BTreeSet<String> = (0..60).map(name).collect();
        assert_eq!(names.len(), 60);
        for fault in FAULTS {
            let broken = names.iter().filter(|name| Fault::of(name) == Some(fault));
            assert_eq!(broken.count(), 10, "{fault}");
        }
        assert_eq!(Fault::of("quiet-1"), None);
    }

    #[test]
    fn pods_are_said_to_be_what_their_cluster_is() {
        let pod = |name: &str, component: &str| -> Pod {
            let metadata = json!({"name": name, "labels": {"dask.org/component": component}});
            serde_json::from_value(json!({"metadata": metadata, "status": {"phase": "Pending"}})).unwrap()
        };
        let status = |name, component| state(&pod(name, component));
        let crashed = status("broken-crashes-000-default-worker-1", "worker").unwrap();
        assert_eq!(crashed["status"]["phase"], "Failed");
        let address = |name| status(name, "scheduler").unwrap()["status"]["podIP"].clone();
        assert_eq!(address("broken-refuses-001-scheduler-pod"), "127.78.0.1");
        assert_eq!(address("broken-garbage-002-scheduler-pod"), "127.78.0.2");
        assert_eq!(status("broken-quota-005-scheduler-pod", "scheduler"), None);
        assert_eq!(status("quiet-0-scheduler-pod", "scheduler"), None);
    }
}
