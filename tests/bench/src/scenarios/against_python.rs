//! This operator and that of dask-kubernetes on one API server with kube-controller-manager, one after the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dask_operator_api::{ClusterPhase, DaskCluster, DaskWorkerGroup};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use testbed::ClusterConfig;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::driver;
use crate::observer::Observer;
use crate::operator::Operator;
use crate::python_operator::Installation;
use crate::results::{Bar, Figure, Measurement};
use crate::server::Server;
use crate::wait::wait_for;

/// Name of the API server.
pub const CLUSTER: &str = "bench-python";

const PODS: i32 = 200;
const CLUSTERS: usize = 50;
const WORKERS: i32 = 2;
/// kube-controller-manager makes the pods of the other side: at its default of 20 requests/s it would be what is
/// measured.
const CONTROLLER_QPS: u32 = 1_000;
/// Phases that have not changed for this long stay as they are.
const STILL: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(500);

/// The figures of this file.
pub const FIGURES: [Figure; 2] = [Figure::ScaleUpVsDaskKubernetes, Figure::RunningFiftyAtOnce];

/// Rate of worker pods from 0 to 200, and how many of 50 clusters that are created at once reach Running.
///
/// # Errors
/// When a side does not do its work.
#[expect(clippy::print_stdout, reason = "a bench prints what it measures")]
pub async fn against_python(program: &Path, log: PathBuf) -> Result<[Measurement; 2]> {
    let installation = Installation::find().await?;
    let config =
        ClusterConfig::api_only(CLUSTER).with_controller_manager().with_controller_qps(CONTROLLER_QPS);
    let server = Server::launch(config).await?;

    let operator = Operator::start(program, &server.operator.kubeconfig, &log).await?;
    let ours = Side::measure(&server, "ours").await.context("this operator")?;
    drop(operator);

    use_definitions(&server, &installation.definitions()?).await?;
    let operator = installation.start(&server.operator.kubeconfig, &log).await?;
    let theirs = Side::measure(&server, "python").await.context("dask-kubernetes")?;
    drop(operator);
    server.stop().await?;

    println!(
        "scale-up-vs-dask-kubernetes: 0 to {PODS} pods in {:.2} s, dask-kubernetes in {:.1} s",
        ours.seconds, theirs.seconds
    );
    println!("running-50-at-once: {} of {CLUSTERS}, dask-kubernetes {}\n", ours.running, theirs.running);
    let rate = |side: &Side| f64::from(PODS) / side.seconds;
    #[expect(clippy::cast_precision_loss, reason = "50")]
    let (running, all) = (ours.running as f64, CLUSTERS as f64);
    Ok([
        Measurement::new(
            Figure::ScaleUpVsDaskKubernetes,
            rate(&ours),
            "pods/s",
            rate(&theirs),
            Bar::RatioAtLeast(50.0),
        ),
        Measurement::new(Figure::RunningFiftyAtOnce, running, "clusters", all, Bar::RatioAtLeast(1.0)),
    ])
}

#[derive(Clone, Copy, Debug)]
struct Side {
    seconds: f64,
    running: usize,
}

impl Side {
    async fn measure(server: &Server, name: &str) -> Result<Self> {
        let seconds = scale_up(server, &format!("{name}-scale")).await.context("scale-up")?;
        let running = at_once(server, &format!("{name}-running")).await.context("clusters at once")?;
        Ok(Self { seconds, running })
    }
}

/// Seconds from the write that asks for the pods until all were seen.
async fn scale_up(server: &Server, namespace: &str) -> Result<f64> {
    prepare(server, namespace).await?;
    let created: Vec<DaskCluster> =
        driver::create_clusters(&server.client, namespace, 1, 0, 1).try_collect().await?;
    let cluster = created.first().context("no cluster")?;
    let groups: Api<DaskWorkerGroup> = Api::namespaced(server.client.clone(), namespace);
    let group = format!("{}-default", cluster.name_any());
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(server.client.clone(), namespace);
    // The scheduler's pod is the last of what an empty cluster has.
    wait_for("group and scheduler", async || {
        let scheduler =
            pods.list_metadata(&ListParams::default()).await.is_ok_and(|list| list.items.len() == 1);
        scheduler && groups.get_opt(&group).await.is_ok_and(|group| group.is_some())
    })
    .await?;
    let observer = Observer::of_pods(&server.client, namespace).await?;
    let start = Instant::now();
    driver::scale(&server.client, cluster, PODS).await?;
    let seen = observer.wait(usize::try_from(PODS)? + 1).await?;
    let last = seen.values().max().context("no pods")?;
    let seconds = last.saturating_duration_since(start).as_secs_f64();
    server.clear(namespace).await?;
    Ok(seconds)
}

/// How many clusters are Running when nothing changes any more.
async fn at_once(server: &Server, namespace: &str) -> Result<usize> {
    prepare(server, namespace).await?;
    driver::create_clusters(&server.client, namespace, CLUSTERS, WORKERS, CLUSTERS)
        .try_for_each(async |_| Ok(()))
        .await?;
    let clusters: Api<DaskCluster> = Api::namespaced(server.client.clone(), namespace);
    let (mut last, mut since) = (Vec::new(), Instant::now());
    let running = loop {
        let list = clusters.list(&ListParams::default()).await?.items;
        let mut phases: Vec<_> =
            list.iter().map(|c| c.status.as_ref().and_then(|status| status.phase)).collect();
        phases.sort_by_key(|phase| format!("{phase:?}"));
        let running = phases.iter().filter(|phase| **phase == Some(ClusterPhase::Running)).count();
        if phases != last {
            (last, since) = (phases, Instant::now());
        }
        if running == CLUSTERS || since.elapsed() >= STILL {
            break running;
        }
        sleep(POLL).await;
    };
    server.clear(namespace).await?;
    Ok(running)
}

/// A namespace in which pods can be made.
async fn prepare(server: &Server, namespace: &str) -> Result<()> {
    server.create_namespace(namespace).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(server.client.clone(), namespace);
    wait_for("the default service account", async || {
        accounts.get_opt("default").await.is_ok_and(|account| account.is_some())
    })
    .await
}

/// Replaces the definitions with those of dask-kubernetes.
async fn use_definitions(server: &Server, folder: &Path) -> Result<()> {
    let output = Command::new(testbed::tools::path("kubectl")?)
        .args(["apply", "--server-side", "--force-conflicts", "--filename"])
        .arg(folder)
        .env("KUBECONFIG", server.kubeconfig())
        .output()
        .await?;
    ensure!(output.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
