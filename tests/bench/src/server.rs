//! The API server that both sides write to.

use std::fmt::Debug;

use anyhow::{Context, Result, ensure};
use dask_operator_api::{ClusterPhase, DaskCluster, DaskWorkerGroup};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use testbed::{Cluster, ClusterConfig};

use crate::accounts::{self, Account};
use crate::observer::WORKERS;
use crate::processes::Processes;
use crate::scheduler_pods::SchedulerPods;
use crate::wait::wait_for;

/// A real API server.
pub struct Server {
    cluster: Cluster,
    /// The administrator's client: of the driver and the observer.
    pub client: Client,
    /// Who the raw writer is.
    pub raw_writer: Account,
    /// Who the operator is.
    pub operator: Account,
    /// Its processes.
    pub processes: Processes,
    /// In place of controllers, if there are none.
    _scheduler_pods: Option<SchedulerPods>,
}

impl Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// How many objects there are in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Clusters, all of which are Running.
    pub clusters: usize,
    /// Worker pods.
    pub pods: usize,
}

impl Server {
    /// Starts one without controllers and nodes.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_without_controllers(ClusterConfig::api_only(name)).await
    }

    /// Starts one whose only controller makes the pods of schedulers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_without_controllers(config: ClusterConfig) -> Result<Self> {
        let server = Self::launch(config).await?;
        let schedulers = SchedulerPods::make(server.client.clone());
        Ok(Self { _scheduler_pods: Some(schedulers), ..server })
    }

    /// Starts it afresh, so that no run inherits what an earlier one left, and installs the definitions.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn launch(config: ClusterConfig) -> Result<Self> {
        testbed::down(&config.name).await.context("failed to remove an earlier API server")?;
        let cluster = Cluster::up(config).await.context("failed to start the API server")?;
        let client = accounts::client(cluster.kubeconfig_path()).await?;
        install_definitions(&client).await?;
        let account = async |name: &str| {
            Account::create(&client, cluster.kubeconfig_path(), cluster.state_dir(), name)
                .await
                .with_context(|| format!("failed to make the account {name}"))
        };
        let (raw_writer, operator) = (account("bench-raw-writer").await?, account("bench-operator").await?);
        let processes = Processes::of_server(cluster.state_dir())?;
        Ok(Self { cluster, client, raw_writer, operator, processes, _scheduler_pods: None })
    }

    /// Where its files are.
    #[must_use]
    pub fn state_dir(&self) -> &std::path::Path {
        self.cluster.state_dir()
    }

    /// The log of every request, if the configuration asks for it.
    #[must_use]
    pub fn audit_log(&self) -> std::path::PathBuf {
        self.cluster.audit_log_path()
    }

    /// Imports an image archive on every node.
    ///
    /// # Errors
    /// When a node refuses it.
    pub async fn load_image(&self, archive: &std::path::Path) -> Result<()> {
        Ok(self.cluster.load_image(archive).await?)
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &std::path::Path {
        self.cluster.kubeconfig_path()
    }

    /// Replaces the definitions with those of a folder.
    ///
    /// # Errors
    /// When the API server refuses them.
    pub async fn replace_definitions(&self, folder: &std::path::Path) -> Result<()> {
        let output = tokio::process::Command::new(testbed::tools::path("kubectl")?)
            .args(["replace", "--filename"])
            .arg(folder)
            .env("KUBECONFIG", self.kubeconfig())
            .output()
            .await?;
        ensure!(output.status.success(), "kubectl replace: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Waits until the last pod of a namespace is gone.
    ///
    /// # Errors
    /// When one stays.
    pub async fn pods_are_gone(&self, namespace: &str) -> Result<()> {
        wait_for("the last pod to go", async || {
            self.count::<Pod>(namespace).await.is_ok_and(|count| count == 0)
        })
        .await
    }

    /// Makes a namespace.
    ///
    /// # Errors
    /// When it exists.
    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .context("failed to create a namespace")?;
        Ok(())
    }

    /// Makes a namespace and waits until controllers have made what its pods need.
    ///
    /// # Errors
    /// When it exists, or the controllers do nothing.
    pub async fn create_namespace_for_pods(&self, name: &str) -> Result<()> {
        self.create_namespace(name).await?;
        let accounts: Api<ServiceAccount> = self.api(name);
        wait_for("the default service account", async || {
            accounts.get_opt("default").await.is_ok_and(|account| account.is_some())
        })
        .await
    }

    /// Checks that a namespace holds exactly what it should, and that the statuses say so: nothing missing, nothing
    /// twice.
    ///
    /// # Errors
    /// When something is missing or too much.
    pub async fn verify(&self, namespace: &str, expected: Census) -> Result<()> {
        let Census { clusters: count, pods } = expected;
        let counts = [
            ("Services", self.count::<Service>(namespace).await?, count),
            ("Deployments", self.count::<Deployment>(namespace).await?, count),
            ("DaskWorkerGroups", self.count::<DaskWorkerGroup>(namespace).await?, count),
            ("worker Pods", self.count_those::<Pod>(namespace, WORKERS).await?, pods),
        ];
        for (kind, found, expected) in counts {
            ensure!(found == expected, "{found} {kind} instead of {expected}");
        }
        let clusters = self.list::<DaskCluster>(namespace).await?;
        let running = |cluster: &&DaskCluster| {
            cluster.status.as_ref().is_some_and(|status| status.phase == Some(ClusterPhase::Running))
        };
        let found = clusters.iter().filter(running).count();
        ensure!(found == count, "{found} DaskClusters are Running instead of {count}");
        let groups = self.list::<DaskWorkerGroup>(namespace).await?;
        let told = |group: &DaskWorkerGroup| group.status.as_ref().map(|status| status.replicas);
        let wrong = groups.iter().find(|group| told(group) != Some(group.spec.worker.replicas));
        if let Some(group) = wrong {
            anyhow::bail!(
                "the status of group {} says {:?} workers instead of {}",
                group.name_any(),
                told(group),
                group.spec.worker.replicas
            );
        }
        Ok(())
    }

    /// Deletes everything that a round made. Clusters go first, so that a running operator makes nothing anew.
    ///
    /// # Errors
    /// When something stays.
    pub async fn clear(&self, namespace: &str) -> Result<()> {
        self.empty::<DaskCluster>(namespace).await?;
        self.empty::<DaskWorkerGroup>(namespace).await?;
        self.empty::<Pod>(namespace).await?;
        self.empty::<Deployment>(namespace).await?;
        self.empty::<Service>(namespace).await?;
        self.empty::<Event>(namespace).await
    }

    /// Stops it.
    ///
    /// # Errors
    /// When something stays.
    pub async fn stop(self) -> Result<()> {
        self.cluster.down().await.context("failed to stop the API server")
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn count<K>(&self, namespace: &str) -> Result<usize>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        self.count_those::<K>(namespace, "").await
    }

    async fn count_those<K>(&self, namespace: &str, labels: &str) -> Result<usize>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let params = ListParams::default().labels(labels);
        Ok(self.api::<K>(namespace).list_metadata(&params).await?.items.len())
    }

    async fn list<K>(&self, namespace: &str) -> Result<Vec<K>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        Ok(self.api::<K>(namespace).list(&ListParams::default()).await?.items)
    }

    async fn empty<K>(&self, namespace: &str) -> Result<()>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
    {
        let api = self.api::<K>(namespace);
        let now = DeleteParams::default().grace_period(0);
        let one = ListParams::default().limit(1);
        wait_for(&format!("every {} to go", K::kind(&())), async || {
            // One that was deleted by somebody else meanwhile ends the call; the next one takes the rest.
            let _ = api.delete_collection(&now, &ListParams::default()).await;
            api.list_metadata(&one).await.is_ok_and(|list| list.items.is_empty())
        })
        .await
    }
}

async fn install_definitions(client: &Client) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in dask_operator_api::crd::all() {
        let created = definitions.create(&PostParams::default(), &definition).await;
        created.with_context(|| format!("failed to create {}", definition.name_any()))?;
    }
    let one = ListParams::default().limit(1);
    let clusters: Api<DaskCluster> = Api::all(client.clone());
    let groups: Api<DaskWorkerGroup> = Api::all(client.clone());
    wait_for("the definitions to be served", async || {
        clusters.list(&one).await.is_ok() && groups.list(&one).await.is_ok()
    })
    .await
}
