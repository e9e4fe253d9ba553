//! This operator and that of dask-kubernetes on one API server with Kubernetes' own controllers and fake nodes, one
//! after the other.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use dask_operator_api::{ClusterPhase, DaskCluster};
use futures::TryStreamExt;
use kube::Api;
use kube::api::ListParams;
use testbed::ClusterConfig;
use tokio::time::{Instant, sleep};

use super::burst::{Burst, Maker, PODS};
use crate::driver;
use crate::fake_nodes::FakeNodes;
use crate::operator::Operator;
use crate::python_operator::Installation;
use crate::raw_writer::RawWriter;
use crate::results::{Bar, Figure, Measurement};
use crate::server::Server;

/// Name of the API server.
pub const CLUSTER: &str = "bench-python";

const CLUSTERS: usize = 50;
const WORKERS: i32 = 2;
/// Phases that have not changed for this long stay as they are.
const STILL: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(500);

/// The figures of this file.
pub const FIGURES: [Figure; 2] = [Figure::ScaleUpVsDaskKubernetes, Figure::RunningFiftyAtOnce];

/// Rate of worker pods from 0 to 200, beside which a writer without logic is shown, and how many of 50 clusters that
/// are created at once reach Running.
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
    // What this machine can do: nobody is faster than a writer that does nothing else.
    let writer = RawWriter::new(server.raw_writer.client().await?);
    let raw = Burst::measure(&server, "raw", Maker::RawWriter(&writer)).await.context("raw writer")?;

    server.replace_definitions(&installation.definitions()?).await?;
    let operator = installation.start(&server.operator.kubeconfig, log).await?;
    let theirs = Side::measure(&server, "python").await.context("dask-kubernetes")?;
    drop((operator, nodes));
    server.stop().await?;

    println!("{}", side_by_side(&ours, &theirs, &raw));
    #[expect(clippy::cast_precision_loss, reason = "50")]
    let (running, all) = (ours.running as f64, CLUSTERS as f64);
    Ok([
        Measurement::new(
            Figure::ScaleUpVsDaskKubernetes,
            ours.burst.rate(),
            "pods/s",
            theirs.burst.rate(),
            Bar::RatioAtLeast(50.0),
        ),
        Measurement::new(Figure::RunningFiftyAtOnce, running, "clusters", all, Bar::RatioAtLeast(1.0)),
    ])
}

/// What was measured of an operator.
#[derive(Clone, Copy, Debug)]
struct Side {
    burst: Burst,
    /// Clusters that reached Running.
    running: usize,
}

fn side_by_side(ours: &Side, theirs: &Side, raw: &Burst) -> String {
    let row = |what: &str, ours: String, theirs: String, raw: String| {
        format!("{what:<36} {ours:>16} {theirs:>16} {raw:>16}\n")
    };
    let bursts =
        |what: &str, of: fn(&Burst) -> String| row(what, of(&ours.burst), of(&theirs.burst), of(raw));
    [
        row("", "this operator".into(), "dask-kubernetes".into(), "raw writer".into()),
        bursts(&format!("0 to {PODS} pods"), |burst| format!("{:.2} s", burst.created)),
        bursts("", |burst| format!("{:.1} pods/s", burst.rate())),
        bursts("all of them ready", |burst| format!("{:.2} s", burst.ready)),
        row(
            &format!("of {CLUSTERS} clusters at once Running"),
            ours.running.to_string(),
            theirs.running.to_string(),
            "-".into(),
        ),
    ]
    .concat()
}

impl Side {
    async fn measure(server: &Server, name: &str) -> Result<Self> {
        let burst = Burst::measure(server, name, Maker::Operator).await.context("scale-up")?;
        let running = at_once(server, &format!("{name}-running")).await.context("clusters at once")?;
        Ok(Self { burst, running })
    }
}

/// How many clusters are Running when nothing changes any more.
async fn at_once(server: &Server, namespace: &str) -> Result<usize> {
    server.create_namespace_for_pods(namespace).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_all_sides() {
        let burst = |created| Burst { created, ready: created + 1.0 };
        let side = |created, running| Side { burst: burst(created), running };
        let text = side_by_side(&side(0.5, 50), &side(40.0, 23), &burst(0.4));
        for line in ["400.0 pods/s       5.0 pods/s     500.0 pods/s", "50               23                -"]
        {
            assert!(text.contains(line), "{text}");
        }
    }
}
