//! The cluster that the walk is on: a Kubernetes with nodes, the operator from its chart, one DaskCluster with two
//! groups.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use e2e_tests::{
    Kubernetes, images,
    operator::{self, Image},
    wait::{self, Look},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use testbed::ClusterConfig;

use crate::{
    Error,
    plan::{Group, Sizes},
};

/// Scheduler and audit are here; it stays.
pub const SAFE_NODE: &str = "node1";
/// The node that power cuts meet.
pub const DOOMED_NODE: &str = "node2";

/// Name of the DaskCluster.
pub const CLUSTER: &str = "walk";
const SECOND_GROUP: &str = "walk-more";
/// Environment variable of the workers that an edit of a template changes.
const REVISION: &str = "REVISION";

/// Pods get 30 s to end, and the namespace goes after them.
const END_PATIENCE: Duration = Duration::from_mins(2);

/// Brings up the Kubernetes of this name with images and operator. `program`: the operator as a static program;
/// `None` builds it.
///
/// # Errors
/// When a part does not come up.
pub async fn kubernetes(name: &str, program: Option<PathBuf>) -> Result<Kubernetes, Error> {
    let config = ClusterConfig::with_nodes(name, 2).with_fast_node_failure().with_controller_qps(200);
    let kubernetes = Kubernetes::local(config).await?;
    let archive = match program {
        Some(program) => testbed::images::operator(&program)?,
        None => images::operator().await.map_err(e2e_tests::Error::from)?,
    };
    for image in [&archive, &images::dask(&[]).await.map_err(e2e_tests::Error::from)?] {
        kubernetes.load(image).await?;
    }
    let version = archive.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    operator::install(&kubernetes, &Image::parse(testbed::images::OPERATOR), version.as_deref()).await?;
    Ok(kubernetes)
}

/// A DaskCluster in a namespace of its own.
pub struct World {
    /// Where it is.
    pub kubernetes: Kubernetes,
    /// A client of the API server.
    pub client: kube::Client,
    /// The namespace.
    pub namespace: String,
    /// Workers that are wanted.
    pub sizes: Sizes,
    /// How often the template of each group was edited.
    pub revisions: [u32; 2],
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl World {
    /// Makes namespace, cluster and second group, and waits until the workers are ready.
    ///
    /// # Errors
    /// When they do not become ready.
    pub async fn begin(kubernetes: Kubernetes, sizes: Sizes, patience: Duration) -> Result<Self, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let namespace = format!("walk-{:x}", now.as_millis());
        kubernetes.kubectl(&format!("create namespace {namespace}")).run().await?;
        let client = kubernetes.client().await?;
        let world = Self { kubernetes, client, namespace, sizes, revisions: [0, 0] };
        let list = json!({
            "apiVersion": "v1", "kind": "List",
            "items": [cluster(sizes.of(Group::First)), second_group(sizes.of(Group::Second))],
        });
        world.kubectl("apply -f -").input(list.to_string()).run().await?;
        world.settle(patience).await?;
        Ok(world)
    }

    /// Deletes the namespace, waits until nothing of it runs any more, and returns the Kubernetes.
    ///
    /// # Errors
    /// When it stays.
    pub async fn end(self) -> Result<Kubernetes, Error> {
        let delete = self.kubernetes.kubectl(&format!("delete namespace {}", self.namespace));
        delete.deadline(END_PATIENCE).run().await?;
        Ok(self.kubernetes)
    }

    /// kubectl in the namespace.
    #[must_use]
    pub fn kubectl(&self, line: &str) -> e2e_tests::command::Invocation {
        self.kubernetes.kubectl(&format!("--namespace {} {line}", self.namespace))
    }

    /// Address of the scheduler for pods of the namespace.
    #[must_use]
    pub fn scheduler() -> String {
        format!("tcp://{CLUSTER}-scheduler:8786")
    }

    /// The pods of a group, with those on their way out.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn workers(&self, group: Group) -> Result<Vec<Pod>, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let selector = format!("dask.org/workergroup-name={},dask.org/component=worker", group_name(group));
        let list = pods.list(&ListParams::default().labels(&selector)).await;
        Ok(list.map_err(e2e_tests::Error::api("list workers"))?.items)
    }

    /// The scheduler's pods, with those on their way out.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn schedulers(&self) -> Result<Vec<Pod>, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let selector = format!("dask.org/cluster-name={CLUSTER},dask.org/component=scheduler");
        let list = pods.list(&ListParams::default().labels(&selector)).await;
        Ok(list.map_err(e2e_tests::Error::api("list schedulers"))?.items)
    }

    /// Waits until both groups have exactly the pods they should have, all of them ready and of the newest template.
    ///
    /// # Errors
    /// When it is not so in time.
    pub async fn settle(&self, patience: Duration) -> Result<(), Error> {
        self.see("all ready", patience, |group, pods| {
            is_settled(pods, self.sizes.of(group), self.revisions[index(group)])
        })
        .await
    }

    /// Waits until both groups have their workers on other nodes than this one, which is dead; what was on it may
    /// still be listed.
    ///
    /// # Errors
    /// When it is not so in time.
    pub async fn replaced(&self, dead: &str, patience: Duration) -> Result<(), Error> {
        let there = |pod: &&Pod| is_ready(pod) && node(pod).is_some_and(|node| node != dead);
        self.see("ready on living nodes", patience, |group, pods| {
            usize::try_from(self.sizes.of(group))
                .is_ok_and(|wanted| pods.iter().filter(there).count() == wanted)
        })
        .await
    }

    async fn see(
        &self,
        how: &str,
        patience: Duration,
        good: impl Fn(Group, &[Pod]) -> bool,
    ) -> Result<(), Error> {
        let what = format!("{} workers of A and {} of B, {how}", self.sizes.first, self.sizes.second);
        let looked = wait::until(&what, patience, async || {
            let (mut seen, mut all) = (Vec::new(), true);
            for group in [Group::First, Group::Second] {
                let pods = self.workers(group).await.map_err(kit)?;
                all &= good(group, &pods);
                seen.push(format!("{group}: {}", describe(&pods)));
            }
            Ok(if all { Look::Done(()) } else { Look::NotYet(seen.join("; ")) })
        });
        Ok(looked.await?)
    }
}

/// The kit's errors pass through its own `wait`.
fn kit(error: Error) -> e2e_tests::Error {
    match error {
        Error::Kit(error) => error,
        other => e2e_tests::Error::Timeout { what: other.to_string(), seconds: 0, seen: String::new() },
    }
}

/// Name of the DaskWorkerGroup.
#[must_use]
pub fn group_name(group: Group) -> String {
    match group {
        Group::First => format!("{CLUSTER}-default"),
        Group::Second => SECOND_GROUP.to_owned(),
    }
}

/// Place of a group in arrays.
#[must_use]
pub fn index(group: Group) -> usize {
    usize::from(group == Group::Second)
}

fn is_settled(pods: &[Pod], wanted: i32, revision: u32) -> bool {
    let whole = usize::try_from(wanted).is_ok_and(|wanted| pods.len() == wanted);
    whole && pods.iter().all(|pod| is_ready(pod) && revision_of(pod) == revision)
}

/// Ready and not on its way out.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let ready =
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let marked = pod.annotations().contains_key(dask_operator_api::labels::DRAIN);
    ready && !marked && pod.metadata.deletion_timestamp.is_none()
}

/// Whether its Dask moves its data away when it is told to stop.
#[must_use]
pub fn drains_itself(pod: &Pod) -> bool {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let words = container.into_iter().flat_map(|container| [&container.command, &container.args]).flatten();
    words.flatten().any(|word| word.contains("dask_operator_worker"))
}

/// Name of the node that it is on.
#[must_use]
pub fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn revision_of(pod: &Pod) -> u32 {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let env = container.and_then(|container| container.env.as_ref()).into_iter().flatten();
    let value = env.filter(|variable| variable.name == REVISION).find_map(|variable| variable.value.clone());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn describe(pods: &[Pod]) -> String {
    let words = pods.iter().map(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("no phase");
        let state = if is_ready(pod) { "ready" } else { phase };
        let end = if pod.metadata.deletion_timestamp.is_some() { " terminating" } else { "" };
        format!("{} {state}{end}", pod.name_any())
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The pod template of workers with so many edits behind it.
#[must_use]
pub fn worker_spec(revision: u32) -> Value {
    let group_of_cluster = json!({"dask.org/component": "worker"});
    json!({
        "containers": [{
            "name": "worker", "image": testbed::images::DASK, "imagePullPolicy": "IfNotPresent",
            "args": ["dask-worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "1", "--no-nanny",
                     "--memory-limit", "0", "--no-dashboard"],
            "env": [{"name": REVISION, "value": revision.to_string()}],
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        }],
        // Both nodes hold data.
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": group_of_cluster},
        }],
    })
}

fn cluster(workers: i32) -> Value {
    json!({
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": CLUSTER},
        "spec": {
            "scheduler": {
                "spec": {
                    "nodeSelector": {"kubernetes.io/hostname": SAFE_NODE},
                    "containers": [{
                        "name": "scheduler", "image": testbed::images::DASK, "imagePullPolicy": "IfNotPresent",
                        "args": ["dask-scheduler"],
                        // It finds out sooner that a machine does not answer any more.
                        "env": [{"name": "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP", "value": "12s"}],
                        "ports": [
                            {"name": "tcp-comm", "containerPort": 8786},
                            {"name": "http-dashboard", "containerPort": 8787},
                        ],
                        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
                    }],
                },
                "service": {
                    "selector": {"dask.org/cluster-name": CLUSTER, "dask.org/component": "scheduler"},
                    "ports": [
                        {"name": "tcp-comm", "port": 8786, "targetPort": "tcp-comm"},
                        {"name": "http-dashboard", "port": 8787, "targetPort": "http-dashboard"},
                    ],
                },
            },
            "worker": {"replicas": workers, "spec": worker_spec(0)},
        },
    })
}

fn second_group(workers: i32) -> Value {
    json!({
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskWorkerGroup",
        "metadata": {"name": SECOND_GROUP},
        "spec": {"cluster": CLUSTER, "worker": {"replicas": workers, "spec": worker_spec(0)}},
    })
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
