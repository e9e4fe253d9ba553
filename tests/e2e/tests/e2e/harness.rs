//! The cluster that all tests share, and a namespace on it for each.

#![expect(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "this is how a test fails")]

use std::{
    any::Any,
    io::Write as _,
    panic::AssertUnwindSafe,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use e2e_tests::{
    Error, Kubernetes, diagnosis, images,
    operator::{self, Image},
};
use futures::FutureExt;
use serde_json::json;
use testbed::{ClusterConfig, chain};
use tokio::sync::{OnceCell, RwLock};

/// Patience for anything that starts a container: seconds alone, more beside other tests on two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

const CLUSTER: &str = "e2e";
/// On every namespace of a test, so that the next run removes what a failed one left.
const LABEL: &str = "dask-operator-e2e";
/// The name under which documented manifests ask for Dask.
const DOCUMENTED_IMAGES: [&str; 1] = ["ghcr.io/dask/dask:latest"];

/// Held by every test; alone by those that break what others need.
static TURN: RwLock<()> = RwLock::const_new(());
static KUBERNETES: OnceCell<Result<Kubernetes, String>> = OnceCell::const_new();

/// A namespace, and the means to act in it.
pub(crate) struct Scenario {
    pub(crate) kubernetes: &'static Kubernetes,
    pub(crate) client: kube::Client,
    pub(crate) namespace: String,
}

/// Runs a test beside others.
pub(crate) async fn shared(name: &str, test: impl AsyncFnOnce(&Scenario) -> Result<(), Error>) {
    let Some(kubernetes) = kubernetes().await else { return };
    let _turn = TURN.read().await;
    Scenario::run(kubernetes, name, test).await;
}

/// Runs a test alone.
pub(crate) async fn alone(name: &str, test: impl AsyncFnOnce(&Scenario) -> Result<(), Error>) {
    let Some(kubernetes) = kubernetes().await else { return };
    let _turn = TURN.write().await;
    Scenario::run(kubernetes, name, test).await;
}

/// Runs a test alone that changes what all tests need; `restore` puts that back, whatever happened.
pub(crate) async fn alone_then(
    name: &str,
    test: impl AsyncFnOnce(&Scenario) -> Result<(), Error>,
    restore: impl AsyncFnOnce(&Kubernetes) -> Result<(), Error>,
) {
    alone(name, async |scenario| {
        let outcome = AssertUnwindSafe(test(scenario)).catch_unwind().await;
        restore(scenario.kubernetes).await?;
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
    .await;
}

/// The shared cluster with images and operator; `None`, with the reason printed, where nodes cannot run.
async fn kubernetes() -> Option<&'static Kubernetes> {
    if let Err(missing) = testbed::requirements::check_nodes() {
        // Not a macro: the output of tests that pass is swallowed.
        let _ = writeln!(std::io::stderr(), "skipped: {missing}");
        return None;
    }
    let prepared = KUBERNETES.get_or_init(async || prepare().await.map_err(|error| chain(&error))).await;
    Some(prepared.as_ref().unwrap_or_else(|error| panic!("the shared cluster cannot be prepared: {error}")))
}

fn config() -> ClusterConfig {
    ClusterConfig::with_nodes(CLUSTER, 2).with_fast_node_failure()
}

async fn prepare() -> Result<Kubernetes, Error> {
    let (kubernetes, operator_image) = tokio::join!(Kubernetes::local(config()), images::operator());
    let (kubernetes, operator_image) = (kubernetes?, operator_image?);
    let leftovers = format!("delete namespaces --selector {LABEL} --wait=false");
    kubernetes.kubectl(&leftovers).run().await?;
    let dask =
        [images::dask(&[]).await?, images::dask(&DOCUMENTED_IMAGES).await?, images::dask_today().await?];
    for archive in [&operator_image].into_iter().chain(&dask) {
        kubernetes.load(archive).await?;
    }
    install_operator(&kubernetes).await?;
    Ok(kubernetes)
}

/// Installs the operator of this source tree, whose image the nodes have.
pub(crate) async fn install_operator(kubernetes: &Kubernetes) -> Result<(), Error> {
    let archive = images::operator().await?;
    let version = archive.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    operator::install(kubernetes, &Image::parse(testbed::images::OPERATOR), version.as_deref()).await
}

impl Scenario {
    async fn run(
        kubernetes: &'static Kubernetes,
        name: &str,
        test: impl AsyncFnOnce(&Self) -> Result<(), Error>,
    ) {
        let scenario = Self::new(kubernetes, name).await.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let outcome = AssertUnwindSafe(test(&scenario)).catch_unwind().await;
        if let Ok(Ok(())) = outcome {
            let delete = format!("delete namespace {} --wait=false", scenario.namespace);
            kubernetes.kubectl(&delete).run().await.expect("the namespace can be deleted");
            return;
        }
        scenario.fail(outcome).await;
    }

    async fn new(kubernetes: &'static Kubernetes, name: &str) -> Result<Self, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let namespace = format!("{name}-{:x}", now.as_millis());
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {LABEL: name}},
        });
        kubernetes.kubectl("create -f -").input(object.to_string()).run().await?;
        Ok(Self { kubernetes, client: kubernetes.client().await?, namespace })
    }

    /// Prints what is to be seen in the namespace, which stays, and fails.
    #[expect(clippy::print_stderr, reason = "shown by the test runner, because the test fails")]
    async fn fail(&self, outcome: Result<Result<(), Error>, Box<dyn Any + Send>>) {
        let sections = diagnosis::diagnose(self.kubernetes, &self.namespace).await;
        eprintln!("{}", diagnosis::render(&sections));
        eprintln!("look further with: export KUBECONFIG={}", self.kubernetes.kubeconfig().display());
        // The next test needs every node, dead or not.
        if let Err(error) = Kubernetes::local(config()).await {
            eprintln!("{}", chain(&error));
        }
        match outcome {
            Ok(result) => panic!("in namespace {}: {}", self.namespace, chain(&result.unwrap_err())),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
