//! The API server that all tests of a run share.

use std::path::PathBuf;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::Condition;
use kube::{Client, Config, ResourceExt};
use testbed::{Cluster, ClusterConfig};
use tokio::sync::OnceCell;

use crate::namespace::{self, Namespace};
use crate::wait::{check, wait_for};

/// Name of the shared cluster; it outlives the tests, and the next run finds it again.
const SHARED: &str = "integration";

/// Requests per second of the controllers: with their own 20 the tests would measure the controllers.
const CONTROLLER_QPS: u32 = 400;

/// A kube-apiserver that runs, and how to reach it as administrator.
#[derive(Clone, Debug)]
pub struct ApiServer {
    config: Config,
    kubeconfig: PathBuf,
    name: String,
}

static SHARED_SERVER: OnceCell<ApiServer> = OnceCell::const_new();

impl ApiServer {
    /// The server of all tests, with kube-controller-manager and our CRDs.
    pub async fn shared() -> &'static Self {
        SHARED_SERVER
            .get_or_init(|| async {
                let config = ClusterConfig::api_only(SHARED).with_controller_manager();
                let server = Self::up(config.with_controller_qps(CONTROLLER_QPS)).await;
                server.apply_crds().await;
                namespace::sweep(&server.client()).await;
                server
            })
            .await
    }

    /// A server of one test, empty; for what concerns the whole cluster. [`ApiServer::down`] ends it.
    pub async fn own(test: &str) -> Self {
        let config = ClusterConfig::api_only(format!("integration-{test}")).with_controller_manager();
        // What an interrupted run left is not empty.
        testbed::down(&config.name).await.expect("the old cluster can be taken down");
        Self::up(config.with_controller_qps(CONTROLLER_QPS)).await
    }

    async fn up(config: ClusterConfig) -> Self {
        let cluster = Cluster::up(config).await.unwrap_or_else(|error| panic!("{}", testbed::chain(&error)));
        let kubeconfig = cluster.kubeconfig_path().to_owned();
        let parsed = Kubeconfig::read_from(&kubeconfig).expect("the kubeconfig can be read");
        let options = KubeConfigOptions::default();
        let mut config =
            Config::from_custom_kubeconfig(parsed, &options).await.expect("the kubeconfig is whole");
        // Injected faults and real refusals must reach the caller.
        config.default_retry = false;
        Self { config, kubeconfig, name: cluster.name().to_owned() }
    }

    /// Ends a server of one test.
    pub async fn down(self) {
        testbed::down(&self.name).await.expect("the cluster can be taken down");
    }

    /// A client with all rights, for the runtime that calls this.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::try_from(self.config.clone()).expect("the kubeconfig makes a client")
    }

    /// How to connect as administrator.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Path of the administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &std::path::Path {
        &self.kubeconfig
    }

    /// A new namespace, for one test alone; `test` becomes part of its name.
    pub async fn namespace(&self, test: &str) -> Namespace {
        Namespace::create(self, test).await
    }

    /// Applies the committed definitions and waits until they are served.
    pub async fn apply_crds(&self) {
        for crd in crds() {
            self.apply_crd(&crd).await;
        }
    }

    /// Applies a definition, taking it over from whoever applied it before, and waits until it is served.
    pub async fn apply_crd(&self, crd: &CustomResourceDefinition) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client());
        let name = crd.name_any();
        let params = PatchParams::apply("integration-tests").force();
        api.patch(&name, &params, &Patch::Apply(crd)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        wait_for(&format!("{name} is served"), async || {
            let stored = api.get(&name).await.map_err(|error| error.to_string())?;
            check(is_crd_established().matches_object(Some(&stored)), || format!("{:?}", stored.status))
        })
        .await;
    }
}

/// The definitions in the folder `crds`.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let folder = testbed::workspace::root().join("crds");
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let crds: Vec<CustomResourceDefinition> = files
        .map(|file| {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect();
    assert_eq!(crds.len(), 4, "definitions in {}", folder.display());
    crds
}
