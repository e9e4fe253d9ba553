//! This operator and that of dask-kubernetes on one API server with Kubernetes' own controllers and fake nodes, one
//! after the other.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dask_operator_api::{ClusterPhase, DaskCluster, DaskWorkerGroup};
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use testbed::ClusterConfig;
use tokio::time::{Instant, sleep};

use crate::audit_log;
use crate::driver;
use crate::fake_nodes::FakeNodes;
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
pub async fn against_python(program: &Path, log: &Path) -> Result<[Measurement; 2]> {
    let installation = Installation::find().await?;
    // kube-controller-manager, which makes the pods of the other side, with the 20 requests/s that users have.
    let config = ClusterConfig::api_only(CLUSTER).with_controller_manager().with_audit_log();
    let server = Server::launch(config).await?;
    let nodes = FakeNodes::start(&server).await?;

    let operator = Operator::start(program, &server.operator.kubeconfig, log).await?;
    let ours = Side::measure(&server, "ours").await.context("this operator")?;
    drop(operator);

    server.replace_definitions(&installation.definitions()?).await?;
    let operator = installation.start(&server.operator.kubeconfig, log).await?;
    let theirs = Side::measure(&server, "python").await.context("dask-kubernetes")?;
    drop((operator, nodes));
    server.stop().await?;

    println!("{}", side_by_side(&ours, &theirs));
    let rate = |side: &Side| f64::from(PODS) / side.created;
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
    /// Seconds until the last of the pods was there.
    created: f64,
    /// Seconds until the last of them was ready on a fake node.
    ready: f64,
    /// Clusters that reached Running.
    running: usize,
}

fn side_by_side(ours: &Side, theirs: &Side) -> String {
    let row = |what: &str, ours: String, theirs: String| format!("{what:<44} {ours:>12} {theirs:>16}\n");
    let seconds = |seconds: f64| format!("{seconds:.2} s");
    let rate = |seconds: f64| format!("{:.1} pods/s", f64::from(PODS) / seconds);
    [
        row("", "this operator".into(), "dask-kubernetes".into()),
        row(&format!("0 to {PODS} pods"), seconds(ours.created), seconds(theirs.created)),
        row("", rate(ours.created), rate(theirs.created)),
        row("all of them ready", seconds(ours.ready), seconds(theirs.ready)),
        row(
            &format!("of {CLUSTERS} clusters at once Running"),
            ours.running.to_string(),
            theirs.running.to_string(),
        ),
    ]
    .concat()
}

impl Side {
    async fn measure(server: &Server, name: &str) -> Result<Self> {
        let (created, ready) = scale_up(server, &format!("{name}-scale")).await.context("scale-up")?;
        let running = at_once(server, &format!("{name}-running")).await.context("clusters at once")?;
        Ok(Self { created, ready, running })
    }
}

/// Seconds from the write that asks for the pods until all were there, and until all were seen to be ready.
async fn scale_up(server: &Server, namespace: &str) -> Result<(f64, f64)> {
    prepare(server, namespace).await?;
    let created: Vec<DaskCluster> =
        driver::create_clusters(&server.client, namespace, 1, 0, 1).try_collect().await?;
    let cluster = created.first().context("no cluster")?;
    let groups: Api<DaskWorkerGroup> = Api::namespaced(server.client.clone(), namespace);
    let group = format!("{}-default", cluster.name_any());
    let pods: Api<Pod> = Api::namespaced(server.client.clone(), namespace);
    // The scheduler's pod is the last of what an empty cluster has.
    wait_for("group and scheduler", async || {
        let scheduler =
            pods.list_metadata(&ListParams::default()).await.is_ok_and(|list| list.items.len() == 1);
        scheduler && groups.get_opt(&group).await.is_ok_and(|group| group.is_some())
    })
    .await?;
    let workers = usize::try_from(PODS)?;
    let all = workers + 1;
    let observer = Observer::of_workers(&server.client, namespace).await?;
    // The API server runs on this machine and has the same clock.
    let (start, wish) = (Instant::now(), Timestamp::now());
    driver::scale(&server.client, cluster, PODS).await?;
    observer.wait(workers).await?;
    wait_for("all pods to be ready", async || {
        let there = pods.list(&ListParams::default()).await;
        there.is_ok_and(|list| list.items.iter().filter(|pod| is_running(pod)).count() == all)
    })
    .await?;
    let ready = start.elapsed().as_secs_f64();
    let creations = audit_log::creations(&server.audit_log(), namespace)?;
    ensure!(creations.len() >= all, "{} of {all} creations were logged", creations.len());
    let last = creations.last().context("no pods")?;
    let created = last.duration_since(wish).as_secs_f64();
    server.clear(namespace).await?;
    Ok((created, ready))
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
}

/// How many clusters are Running when nothing changes any more.
async fn at_once(server: &Server, namespace: &str) -> Result<usize> {
    prepare(server, namespace).await?;
    driver::create_clusters(&server.client, namespace, CLUSTERS, WORKERS, CLUSTERS)
        .try_for_each(async |_| Ok(()))
        .await?;
    let clusters: Api<DaskCluster> = Api::namespaced(server.client.clone(), namespace);
    let (mut before, mut since) = (Vec::new(), Instant::now());
    let running = loop {
        let there = clusters.list(&ListParams::default()).await?.items;
        let mut phases: Vec<_> =
            there.iter().map(|c| c.status.as_ref().and_then(|status| status.phase)).collect();
        phases.sort_by_key(|phase| format!("{phase:?}"));
        let running = phases.iter().filter(|phase| **phase == Some(ClusterPhase::Running)).count();
        if phases != before {
            (before, since) = (phases, Instant::now());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_both_sides() {
        let side = |created, running| Side { created, ready: created + 1.0, running };
        let text = side_by_side(&side(0.5, 50), &side(40.0, 23));
        for line in ["400.0 pods/s       5.0 pods/s", "50               23"] {
            assert!(text.contains(line), "{text}");
        }
    }
}
