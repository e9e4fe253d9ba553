//! The baseline: the minimal writes, with no logic. Each object once, one status write per group, two per cluster;
//! no watch, no cache, and of the answers only the UIDs are read.

use std::sync::Arc;

use anyhow::{Context, Result};
use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use futures::future::try_join_all;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{Request, request};
use kube::{Client, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::{IN_FLIGHT, workload};

/// A writer without logic.
#[derive(Clone)]
pub struct RawWriter {
    client: Client,
    turns: Arc<Semaphore>,
}

impl std::fmt::Debug for RawWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawWriter").finish_non_exhaustive()
    }
}

/// What is read of an answer.
#[derive(Deserialize)]
struct Answer {
    metadata: AnswerMetadata,
}

#[derive(Deserialize)]
struct AnswerMetadata {
    uid: String,
}

impl RawWriter {
    /// A writer with [`IN_FLIGHT`] calls at a time.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, turns: Arc::new(Semaphore::new(IN_FLIGHT)) }
    }

    /// Makes everything that belongs to the clusters that come, each as soon as it comes.
    ///
    /// # Errors
    /// When a write fails.
    pub async fn fill(&self, clusters: impl Stream<Item = Result<DaskCluster>>) -> Result<()> {
        let mut clusters = std::pin::pin!(clusters);
        let mut work = JoinSet::new();
        while let Some(cluster) = clusters.next().await {
            let (writer, cluster) = (self.clone(), cluster?);
            work.spawn(async move { writer.fill_cluster(&cluster).await });
        }
        while let Some(done) = work.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Makes everything that belongs to a cluster.
    ///
    /// # Errors
    /// When a write fails.
    pub async fn fill_cluster(&self, cluster: &DaskCluster) -> Result<()> {
        let workers = i64::from(cluster.spec.worker.replicas);
        let name = cluster.name_any();
        self.status::<DaskCluster>(cluster, &name, &workload::cluster_status("Created", workers)).await?;
        let parts = workload::parts(cluster)?;
        self.create::<ConfigMap>(cluster, serde_json::to_vec(&parts.config_map)?).await?;
        self.create::<Service>(cluster, serde_json::to_vec(&parts.service)?).await?;
        self.create::<Deployment>(cluster, serde_json::to_vec(&parts.deployment)?).await?;
        let mut group = parts.group;
        group.metadata.uid =
            Some(self.create::<DaskWorkerGroup>(cluster, serde_json::to_vec(&group)?).await?);
        self.create_workers(cluster, &group, workers).await?;
        self.status::<DaskCluster>(cluster, &name, &workload::cluster_status("Running", workers)).await
    }

    /// Fills an empty group: the pods, and one status write.
    ///
    /// # Errors
    /// When a write fails.
    pub async fn create_workers(
        &self,
        cluster: &DaskCluster,
        group: &DaskWorkerGroup,
        count: i64,
    ) -> Result<()> {
        let pods = workload::workers(cluster, group, count)?;
        try_join_all(pods.map(|pod| self.create::<Pod>(cluster, pod))).await?;
        self.status::<DaskWorkerGroup>(cluster, &group.name_any(), &workload::group_status(count)).await
    }

    /// Creates an object in the namespace of the cluster; returns its UID.
    async fn create<K: Resource<DynamicType = ()>>(
        &self,
        cluster: &DaskCluster,
        json: Vec<u8>,
    ) -> Result<String> {
        self.call::<K>("create", requests::<K>(cluster).create(&PostParams::default(), json)).await
    }

    async fn status<K>(&self, cluster: &DaskCluster, name: &str, status: &impl Serialize) -> Result<()>
    where
        K: Resource<DynamicType = ()>,
    {
        let (params, patch) = (PatchParams::default(), Patch::Merge(status));
        let request = requests::<K>(cluster).patch_subresource("status", name, &params, &patch);
        self.call::<K>("patch the status of", request).await.map(|_| ())
    }

    async fn call<K: Resource<DynamicType = ()>>(
        &self,
        verb: &str,
        request: Result<http::Request<Vec<u8>>, request::Error>,
    ) -> Result<String> {
        let request = request?;
        let _turn = self.turns.acquire().await?;
        let answer: Result<Answer, kube::Error> = self.client.request(request).await;
        Ok(answer.with_context(|| format!("failed to {verb} a {}", K::kind(&())))?.metadata.uid)
    }
}

fn requests<K: Resource<DynamicType = ()>>(cluster: &DaskCluster) -> Request {
    Request::new(K::url_path(&(), cluster.namespace().as_deref()))
}
