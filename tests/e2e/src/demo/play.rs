//! The steps with the cluster: create, compute, more workers, fewer workers, dashboard. What a user would do in Python
//! is done by an unmodified `dask_kubernetes.operator.KubeCluster`.

use std::{io::Write, time::Duration};

use dask_operator_api::DaskCluster;
use kube::Api;
use serde::Deserialize;

use super::{
    Failure, Teller,
    transcript::{Summary, counted, grouped},
};
use crate::{
    Error, Kubernetes, clusters, dashboard,
    dask::Computation,
    manifest,
    notebook::{Names, Notebook, SCALING, Shrinking},
};

const CREATE: &str = include_str!("../../python/demo/create.py");
const GROW: &str = include_str!("../../python/demo/grow.py");
const SHRINK: &str = include_str!("../../python/demo/shrink.py");

/// Name of the DaskCluster.
const CLUSTER: &str = "demo";

/// Name of the pod in which all Python runs.
const NOTEBOOK: &str = "demo-notebook";

/// Rows and columns of the matrices: a second of work for a core.
const SIZE: u32 = 2000;

/// From the moment the scheduler knows the wanted workers: a probe or two, and a look of the operator.
const READY_PATIENCE: Duration = Duration::from_mins(1);

/// What the demo is played with.
#[derive(Debug, Clone, Copy)]
pub struct Stage<'a> {
    /// Where.
    pub kubernetes: &'a Kubernetes,
    /// In which namespace.
    pub namespace: &'a str,
    /// An image with Dask and dask-kubernetes.
    pub image: &'a str,
}

/// A DaskCluster that is ready, and a notebook beside it.
struct Scene<'a> {
    stage: Stage<'a>,
    clusters: Api<DaskCluster>,
    notebook: Notebook<'a>,
}

#[derive(Deserialize)]
struct Connected {
    workers: usize,
}

/// Plays it.
///
/// # Errors
/// When anything is not as it should be.
pub async fn play(teller: &mut Teller<impl Write>, stage: Stage<'_>) -> Result<Summary, Failure> {
    let doing = "KubeCluster(name=\"demo\", n_workers=2)";
    let (scene, few) = teller.step("KubeCluster", doing, Box::pin(Scene::set(stage))).await?;
    teller.step("Compute", "multiplying matrices", scene.compute()).await?;
    let many = teller.step("Scale up", "cluster.scale(4)", Box::pin(scene.grow(few))).await?;
    teller.step("Compute", "multiplying matrices", scene.compute()).await?;
    let doing = "cluster.scale(2) while every worker computes";
    let shrinking = teller.step("Scale down", doing, Box::pin(scene.shrink())).await?;
    let computed = teller.step("Compute", "multiplying matrices", scene.compute()).await?;
    teller.step("Dashboard", "kubectl port-forward", scene.dashboard()).await?;
    let get = format!("get daskcluster {CLUSTER} --namespace {}", stage.namespace);
    let table = stage.kubernetes.kubectl(&get).run().await;
    let table = table.map_err(|error| Failure { step: "Status", source: error.into() })?;
    Ok(Summary {
        cluster: CLUSTER.to_owned(),
        notebook: NOTEBOOK.to_owned(),
        workers: vec![few, many, shrinking.workers[1]],
        total: computed.total,
        shrinking,
        table,
    })
}

impl<'a> Scene<'a> {
    /// Creates the cluster and waits for it; returns with the number of connected workers.
    async fn set(stage: Stage<'a>) -> Result<((Self, usize), String), Error> {
        let Stage { kubernetes, namespace, image } = stage;
        let clusters = Api::namespaced(kubernetes.client().await?, namespace);
        remove_with_other_images(kubernetes, namespace, &clusters, CLUSTER, &[image; 2]).await?;
        let notebook = Notebook::start(kubernetes, namespace, NOTEBOOK, image).await?;
        let scene = Self { stage, clusters, notebook };
        let Connected { workers } = scene.run(&[CREATE]).await?;
        scene.wait(workers).await?;
        let detail = format!("{CLUSTER} is Ready: a scheduler and {}", counted(workers, "worker"));
        Ok(((scene, workers), detail))
    }

    async fn run<T: serde::de::DeserializeOwned>(&self, scripts: &[&str]) -> Result<T, Error> {
        let Stage { namespace, image, .. } = self.stage;
        self.notebook.run(scripts, Names { namespace, cluster: CLUSTER, image }).await
    }

    /// Waits until the status says that this many workers are ready, as the scheduler does.
    async fn wait(&self, workers: usize) -> Result<(), Error> {
        let what = format!("DaskCluster {CLUSTER:?} Ready with {workers} workers");
        let ready = |cluster: &DaskCluster| {
            let count = cluster.status.as_ref().map(|status| status.ready_replicas);
            let said = clusters::condition(cluster, "Ready").is_some_and(|ready| ready.status == "True");
            said && count == i32::try_from(workers).ok()
        };
        clusters::until(&self.clusters, CLUSTER, &what, READY_PATIENCE, ready).await?;
        Ok(())
    }

    async fn grow(&self, before: usize) -> Result<(usize, String), Error> {
        let Connected { workers } = self.run(&[GROW]).await?;
        self.wait(workers).await?;
        Ok((workers, format!("{before} → {workers} workers connected to the scheduler")))
    }

    async fn shrink(&self) -> Result<(Shrinking, String), Error> {
        let shrinking = self.run::<Shrinking>(&[SCALING, SHRINK]).await?.checked()?;
        let [before, after] = shrinking.workers;
        self.wait(after).await?;
        let Shrinking { tasks, executions, lost, .. } = shrinking;
        let detail = format!(
            "{before} → {after} workers; {tasks} tasks ran {executions} times, {} lost",
            counted(lost, "result")
        );
        Ok((shrinking, detail))
    }

    async fn compute(&self) -> Result<(Computation, String), Error> {
        let computation = self.notebook.pod().compute(CLUSTER, SIZE).await?;
        let n = grouped(SIZE.into());
        let workers = counted(computation.workers, "worker");
        let detail = format!("sum(A·B), {n} × {n} ones each = {} on {workers}", grouped(computation.total));
        Ok((computation, detail))
    }

    async fn dashboard(&self) -> Result<((), String), Error> {
        let title = dashboard::title(self.stage.kubernetes, self.stage.namespace, CLUSTER).await?;
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
