//! The steps with the cluster: ready, compute, more workers, fewer workers, dashboard.

use std::{io::Write, time::Duration};

use dask_operator_api::DaskCluster;
use kube::Api;
use serde_json::Value;

use super::{
    Failure, Teller,
    transcript::{Summary, counted, grouped},
};
use crate::{
    Error, Kubernetes, clusters, dashboard,
    dask::{ClientPod, Computation},
    manifest,
};

/// Rows and columns of the matrices: a second of work for a core.
const SIZE: u32 = 2000;

/// Workers at the beginning and the end, as in `examples/cluster.yaml`, and in between.
const FEW: i32 = 2;
const MANY: i32 = 4;

/// Python starts in seconds; on somebody's Kubernetes an image may have to be pulled first.
const READY_PATIENCE: Duration = Duration::from_mins(3);

/// From Ready until the scheduler knows exactly the wanted workers: they connect before they are ready, and a
/// worker that was removed says goodbye.
const CONNECT_PATIENCE: Duration = Duration::from_mins(1);

/// What the demo is played with.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Where.
    pub kubernetes: &'a Kubernetes,
    /// In which namespace.
    pub namespace: &'a str,
    /// The DaskCluster to apply, with two workers.
    pub manifest: Value,
}

/// A DaskCluster that is ready, and a client beside it.
struct Scene<'a> {
    kubernetes: &'a Kubernetes,
    namespace: &'a str,
    cluster: String,
    clusters: Api<DaskCluster>,
    client_name: String,
    client: ClientPod<'a>,
}

/// Plays it.
///
/// # Errors
/// When anything is not as it should be.
pub async fn play(teller: &mut Teller<impl Write>, stage: Stage<'_>) -> Result<Summary, Failure> {
    let doing = "kubectl apply, then waiting for the condition Ready";
    let (scene, connected) = teller.step("DaskCluster", doing, Box::pin(Scene::set(stage))).await?;
    let mut workers = vec![connected];
    let mut computed = teller.step("Compute", "multiplying matrices", scene.compute()).await?;
    for (title, replicas) in [("Scale up", MANY), ("Scale down", FEW)] {
        let doing = format!("kubectl scale daskcluster {} --replicas={replicas}", scene.cluster);
        let before = workers.last().copied().unwrap_or_default();
        workers.push(teller.step(title, &doing, Box::pin(scene.scale(before, replicas))).await?);
        computed = teller.step("Compute", "multiplying matrices", scene.compute()).await?;
    }
    teller.step("Dashboard", "kubectl port-forward", scene.dashboard()).await?;
    let table = scene
        .kubernetes
        .kubectl(&format!("get daskcluster {} --namespace {}", scene.cluster, scene.namespace));
    let table = table.run().await.map_err(|error| Failure { step: "Status", source: error.into() })?;
    let Scene { cluster, client_name: client, .. } = scene;
    Ok(Summary { cluster, client, workers, total: computed.total, table })
}

impl<'a> Scene<'a> {
    /// Applies the manifest and waits for the cluster; returns with the number of connected workers.
    async fn set(stage: Stage<'a>) -> Result<((Self, usize), String), Error> {
        let Stage { kubernetes, namespace, manifest } = stage;
        let cluster = manifest["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let images = manifest::images(&manifest);
        let clusters = Api::namespaced(kubernetes.client().await?, namespace);
        remove_with_other_images(kubernetes, namespace, &clusters, &cluster, &images).await?;
        let apply = kubernetes.kubectl(&format!("apply --namespace {namespace} -f -"));
        apply.input(manifest.to_string()).run().await?;
        let client_name = format!("{cluster}-client");
        let client =
            ClientPod::start(kubernetes, namespace, &client_name, images.last().copied().unwrap_or_default())
                .await?;
        let scene = Self { kubernetes, namespace, cluster, clusters, client_name, client };
        let connected = scene.wait(FEW).await?;
        let detail = format!("{} is Ready: a scheduler and {}", scene.cluster, counted(connected, "worker"));
        Ok(((scene, connected), detail))
    }

    /// Waits until the status says that this many workers are ready and the scheduler knows exactly as many.
    async fn wait(&self, replicas: i32) -> Result<usize, Error> {
        let what = format!("DaskCluster {:?} Ready with {replicas} workers", self.cluster);
        let ready = |cluster: &DaskCluster| clusters::is_ready(cluster, replicas);
        clusters::until(&self.clusters, &self.cluster, &what, READY_PATIENCE, ready).await?;
        let count = usize::try_from(replicas).unwrap_or_default();
        Ok(self.client.wait_for_workers(&self.cluster, count, CONNECT_PATIENCE).await?.len())
    }

    async fn scale(&self, before: usize, replicas: i32) -> Result<(usize, String), Error> {
        let Self { cluster, namespace, .. } = self;
        let scale = format!("scale daskcluster {cluster} --replicas={replicas} --namespace {namespace}");
        self.kubernetes.kubectl(&scale).run().await?;
        let connected = self.wait(replicas).await?;
        Ok((connected, format!("{before} → {connected} workers connected to the scheduler")))
    }

    async fn compute(&self) -> Result<(Computation, String), Error> {
        let computation = self.client.compute(&self.cluster, SIZE).await?;
        let n = grouped(SIZE.into());
        let workers = counted(computation.workers, "worker");
        let detail = format!("sum(A·B), {n} × {n} ones each = {} on {workers}", grouped(computation.total));
        Ok((computation, detail))
    }

    async fn dashboard(&self) -> Result<((), String), Error> {
        let title = dashboard::title(self.kubernetes, self.namespace, &self.cluster).await?;
        Ok(((), format!("/status answers 200: {title:?}")))
    }
}

/// Removes the cluster of an earlier demo if its images are others: they could not change under it.
async fn remove_with_other_images(
    kubernetes: &Kubernetes,
    namespace: &str,
    clusters: &Api<DaskCluster>,
    name: &str,
    images: &[&str],
) -> Result<(), Error> {
    let existing = clusters.get_opt(name).await.map_err(Error::api(format!("get DaskCluster {name:?}")))?;
    let existing = existing.and_then(|cluster| serde_json::to_value(cluster).ok());
    if existing.is_some_and(|existing| manifest::images(&existing) != images) {
        // In the foreground, so that nothing of it is left for the new one to meet.
        let delete = format!("delete daskcluster {name} --namespace {namespace} --cascade=foreground");
        kubernetes.kubectl(&delete).run().await?;
    }
    Ok(())
}
