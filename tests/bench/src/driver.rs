//! The user: creates clusters and asks for workers. It does the same for both sides.

use anyhow::{Context, Result};
use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use futures::{Stream, StreamExt, stream};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::workload;

/// Clusters that are created at a time when their rate is measured: enough that the driver is not waited for.
pub const IN_FLIGHT: usize = 8;

/// Creates clusters, `at_once` of them at a time, and yields each when its creation was answered.
pub fn create_clusters(
    client: &Client,
    namespace: &str,
    count: usize,
    workers: i32,
    at_once: usize,
) -> impl Stream<Item = Result<DaskCluster>> + use<> {
    let clusters: Api<DaskCluster> = Api::namespaced(client.clone(), namespace);
    let namespace = namespace.to_owned();
    stream::iter(0..count)
        .map(move |number| {
            let cluster = workload::cluster(&namespace, &format!("bench-{number:03}"), workers);
            let clusters = clusters.clone();
            async move { Ok(clusters.create(&PostParams::default(), &cluster?).await?) }
        })
        .buffer_unordered(at_once)
}

/// Creates a cluster without workers.
///
/// # Errors
/// When the write fails.
pub async fn create_empty_cluster(client: &Client, namespace: &str) -> Result<DaskCluster> {
    Box::pin(create_clusters(client, namespace, 1, 0, 1)).next().await.context("no cluster")?
}

/// Asks for a number of workers.
///
/// # Errors
/// When the write fails.
pub async fn scale(client: &Client, cluster: &DaskCluster, workers: i32) -> Result<DaskWorkerGroup> {
    let groups: Api<DaskWorkerGroup> =
        Api::namespaced(client.clone(), &cluster.namespace().unwrap_or_default());
    let patch = json!({"spec": {"worker": {"replicas": workers}}});
    let name = format!("{}-default", cluster.name_any());
    Ok(groups.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?)
}
