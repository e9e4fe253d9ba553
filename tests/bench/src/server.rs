//! The API server that both sides write to.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;
use testbed::{Cluster, ClusterConfig};
use tokio::time::{Instant, sleep};

/// Longest wait for anything that is not measured.
pub const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// A real API server without controllers and nodes.
#[derive(Debug)]
pub struct Server {
    cluster: Cluster,
}

impl Server {
    /// Starts it afresh, so that no run inherits what an earlier one left, and installs the definitions.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start() -> Result<Self> {
        const NAME: &str = "bench";
        testbed::down(NAME).await.context("failed to remove an earlier API server")?;
        let cluster = Cluster::up(ClusterConfig::api_only(NAME)).await.context("failed to start the API server")?;
        let server = Self { cluster };
        let client = server.client().await?;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for crd in dask_operator_api::crd::all() {
            crds.create(&PostParams::default(), &crd).await.context("failed to create a definition")?;
        }
        let served = async || -> bool {
            let clusters: Api<DaskCluster> = Api::all(client.clone());
            let groups: Api<DaskWorkerGroup> = Api::all(client.clone());
            let one = ListParams::default().limit(1);
            clusters.list(&one).await.is_ok() && groups.list(&one).await.is_ok()
        };
        wait_for("the definitions to be served", served).await?;
        Ok(server)
    }

    /// A client of its own, with the same settings as the operator's.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// Path of the kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.cluster.kubeconfig_path().to_owned()
    }

    /// Makes a namespace.
    ///
    /// # Errors
    /// When it exists.
    pub async fn namespace(&self, name: &str) -> Result<()> {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let namespaces: Api<Namespace> = Api::all(self.client().await?);
        namespaces.create(&PostParams::default(), &namespace).await.context("failed to create a namespace")?;
        Ok(())
    }

    /// Deletes everything that a round made. Clusters go first, so that a running operator makes nothing anew.
    ///
    /// # Errors
    /// When something stays.
    pub async fn clear(&self, namespace: &str) -> Result<()> {
        let client = self.client().await?;
        empty::<DaskCluster>(&client, namespace).await?;
        empty::<DaskWorkerGroup>(&client, namespace).await?;
        empty::<Pod>(&client, namespace).await?;
        empty::<Deployment>(&client, namespace).await?;
        empty::<Service>(&client, namespace).await
    }

    /// Writes that the API server has answered so far, its own leases left out.
    ///
    /// # Errors
    /// When its metrics cannot be read.
    pub async fn writes(&self) -> Result<f64> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let metrics = self.client().await?.request_text(request).await?;
        Ok(metrics.lines().filter(|line| is_write(line)).filter_map(value).sum())
    }

    /// Stops it.
    ///
    /// # Errors
    /// When something stays.
    pub async fn stop(self) -> Result<()> {
        self.cluster.down().await.context("failed to stop the API server")
    }
}

fn is_write(line: &str) -> bool {
    let write = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];
    line.starts_with("apiserver_request_total{")
        && !line.contains("resource=\"leases\"")
        && write.iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
}

fn value(line: &str) -> Option<f64> {
    line.rsplit(' ').next()?.parse().ok()
}

async fn empty<K>(client: &Client, namespace: &str) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let now = DeleteParams::default().grace_period(0);
    wait_for(&format!("every {} to go", K::kind(&())), async || {
        let _ = api.delete_collection(&now, &ListParams::default()).await;
        api.list_metadata(&ListParams::default().limit(1)).await.is_ok_and(|list| list.items.is_empty())
    })
    .await
}

/// Waits until the check holds.
///
/// # Errors
/// When it does not in [`PATIENCE`].
pub async fn wait_for(what: &str, mut check: impl AsyncFnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        anyhow::ensure!(Instant::now() < deadline, "waited {} s in vain for {what}", PATIENCE.as_secs());
        sleep(POLL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_told_from_the_rest() {
        let line = |verb: &str, resource: &str| {
            format!("apiserver_request_total{{code=\"201\",resource=\"{resource}\",verb=\"{verb}\"}} 17")
        };
        assert!(is_write(&line("POST", "pods")) && is_write(&line("PATCH", "daskclusters")));
        assert!(!is_write(&line("LIST", "pods")) && !is_write(&line("PUT", "leases")));
        assert!(!is_write("apiserver_request_duration_seconds_count{verb=\"POST\"} 17"));
        assert_eq!(value(&line("POST", "pods")), Some(17.0));
    }
}
