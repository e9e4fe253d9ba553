//! What the links to many idle schedulers cost.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use dask_operator_api::DaskCluster;
use dask_protocol::fake::FakeScheduler;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::bench::Bench;
use crate::driver;
use crate::operator::Operator;
use crate::processes::memory;
use crate::results::{Bar, Figure, Measurement};
use crate::scheduler_pods;
use crate::wait::wait_for;

/// Most of one core that the links may take together.
const CORES_LIMIT: f64 = 0.1;
/// Most bytes that each link may add.
const LINK_LIMIT: f64 = 20e3;
/// Port of Dask's schedulers.
pub const PORT: u16 = 8786;

/// The figures of this file.
pub const FIGURES: [Figure; 2] = [Figure::LinksIdleCores, Figure::RssPerLink];

/// CPU and memory of links to idle schedulers: what an operator takes more than one that asks no scheduler.
///
/// # Errors
/// When the operator ends, or a scheduler is not reached.
#[expect(clippy::print_stdout, reason = "a bench prints what it measures")]
pub async fn links(bench: &mut Bench) -> Result<[Measurement; 2]> {
    let count = usize::from(bench.size.links);
    let namespace = bench.next_namespace().await?;
    let operator = bench.start_operator().await?;
    let clusters: Vec<DaskCluster> =
        driver::create_clusters(&bench.server.client, &namespace, count, 0, driver::IN_FLIGHT)
            .try_collect()
            .await?;
    let schedulers = start_schedulers(bench, &namespace, &clusters).await?;
    drop(operator);

    let without = Idle::measure(bench, "none", 0).await?;
    let with = Idle::measure(bench, "direct", count).await?;
    drop(schedulers);
    bench.server.clear(&namespace).await?;
    let cores = with.cores - without.cores;
    let each = (with.resident - without.resident) / f64::from(bench.size.links);
    println!(
        "links: {count} of them, {:.3} cores and {:.1} MB with, {:.3} cores and {:.1} MB without\n",
        with.cores,
        with.resident / 1e6,
        without.cores,
        without.resident / 1e6
    );
    Ok([
        Measurement::new(Figure::LinksIdleCores, cores, "cores", CORES_LIMIT, Bar::AtMostBaseline),
        Measurement::new(Figure::RssPerLink, each, "bytes", LINK_LIMIT, Bar::AtMostBaseline),
    ])
}

/// What an operator takes while nothing happens.
#[derive(Clone, Copy, Debug)]
struct Idle {
    cores: f64,
    resident: f64,
}

impl Idle {
    async fn measure(bench: &Bench, access: &str, answering: usize) -> Result<Self> {
        let operator = bench.start_operator_with(access).await?;
        let answer = format!("dask_operator_scheduler_links{{state=\"answering\"}} {answering}\n");
        wait_for("all schedulers to answer", async || {
            operator.metrics().await.is_ok_and(|text| text.contains(&answer))
        })
        .await?;
        bench.settle(&bench.server.operator).await?;
        sleep(bench.size.settle).await;
        let cores = Self::cores(bench, &operator, bench.size.rest).await?;
        Ok(Self { cores, resident: memory(operator.pid())?.resident })
    }

    async fn cores(bench: &Bench, operator: &Operator, time: Duration) -> Result<f64> {
        let processes = bench.server.processes.with_operator(Some(operator.pid()));
        let before = processes.cpu_seconds()?;
        sleep(time).await;
        let used = processes.cpu_seconds()? - before;
        Ok(used.operator / time.as_secs_f64())
    }
}

/// A scheduler for each cluster that speaks Dask's protocol, and whose pod says where it is.
async fn start_schedulers(
    bench: &Bench,
    namespace: &str,
    clusters: &[DaskCluster],
) -> Result<Vec<FakeScheduler>> {
    let pods: Api<Pod> = Api::namespaced(bench.server.client.clone(), namespace);
    wait_for("the pods of all schedulers", async || {
        let there = pods.list_metadata(&ListParams::default()).await;
        there.is_ok_and(|list| list.items.len() == clusters.len())
    })
    .await?;
    let starts = clusters.iter().zip(1_u16..).map(|(cluster, number)| {
        let pods = pods.clone();
        async move {
            let address = address(number);
            let scheduler = FakeScheduler::start_at(&format!("{address}:{PORT}"))
                .await
                .with_context(|| format!("failed to listen on {address}:{PORT}"))?;
            let name = scheduler_pods::name(&format!("{}-scheduler", cluster.name_any()));
            pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(runs_at(address))).await?;
            anyhow::Ok(scheduler)
        }
    });
    stream::iter(starts).buffer_unordered(driver::IN_FLIGHT).try_collect().await
}

/// Every address of 127.0.0.0/8 is this machine.
fn address(number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 77, high, low)
}

/// The status of a scheduler's pod that runs at this address.
#[must_use]
pub fn runs_at(address: Ipv4Addr) -> Value {
    let now = "2026-01-01T00:00:00Z";
    let container = json!({
        "name": "scheduler", "image": "dask", "imageID": "", "ready": true, "started": true, "restartCount": 0,
        "state": {"running": {"startedAt": now}},
    });
    json!({"status": {
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": now,
        "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [container],
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheduler_has_an_address_of_its_own() {
        assert_eq!(address(1), Ipv4Addr::new(127, 77, 0, 1));
        assert_eq!(address(1_000), Ipv4Addr::new(127, 77, 3, 232));
    }

    #[test]
    fn its_pod_says_where_it_is() {
        assert_eq!(runs_at(address(7))["status"]["podIP"], "127.77.0.7");
    }
}
