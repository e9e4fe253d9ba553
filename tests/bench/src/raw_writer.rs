//! The baseline: the minimal writes, with no logic.

use anyhow::Result;
use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::{IN_FLIGHT, workload};

/// Creates clusters with all their objects: each object once, one status write per group, two per cluster.
///
/// # Errors
/// When a write fails.
pub async fn create_clusters(client: &Client, namespace: &str, count: usize, workers: i32) -> Result<()> {
    let create = PostParams::default();
    stream::iter(0..count)
        .map(async |number| -> Result<()> {
            let clusters: Api<DaskCluster> = Api::namespaced(client.clone(), namespace);
            let groups: Api<DaskWorkerGroup> = Api::namespaced(client.clone(), namespace);
            let cluster = workload::cluster(namespace, &format!("bench-{number:03}"), workers)?;
            let cluster = clusters.create(&create, &cluster).await?;
            status(&clusters, &cluster.name_any(), &workload::cluster_status("Created")).await?;
            let parts = workload::parts(&cluster)?;
            Api::namespaced(client.clone(), namespace).create(&create, &parts.service).await?;
            Api::namespaced(client.clone(), namespace).create(&create, &parts.deployment).await?;
            let group = groups.create(&create, &parts.group).await?;
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            for pod in workload::workers(&cluster, &group, workers.into())? {
                pods.create(&create, &pod).await?;
            }
            status(&groups, &group.name_any(), &workload::group_status(workers.into())).await?;
            status(&clusters, &cluster.name_any(), &workload::cluster_status("Running")).await
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}

/// Fills an empty group: its new number, the pods, one status write.
///
/// # Errors
/// When a write fails.
pub async fn scale_up(client: &Client, namespace: &str, cluster: &DaskCluster, count: i32) -> Result<()> {
    let groups: Api<DaskWorkerGroup> = Api::namespaced(client.clone(), namespace);
    let group = set_replicas(&groups, &format!("{}-default", cluster.name_any()), count).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let create = PostParams::default();
    stream::iter(workload::workers(cluster, &group, count.into())?)
        .map(async |pod| pods.create(&create, &pod).await.map(|_| ()))
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<()>()
        .await?;
    status(&groups, &group.name_any(), &workload::group_status(count.into())).await
}

/// Asks for a number of workers.
///
/// # Errors
/// When the write fails.
pub async fn set_replicas(groups: &Api<DaskWorkerGroup>, name: &str, count: i32) -> Result<DaskWorkerGroup> {
    let patch = json!({"spec": {"worker": {"replicas": count}}});
    Ok(groups.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?)
}

async fn status<K>(api: &Api<K>, name: &str, status: &serde_json::Value) -> Result<()>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}
