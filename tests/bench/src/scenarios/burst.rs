//! One cluster grows from 0 to 200 workers on an API server with Kubernetes' own controllers and fake nodes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use tokio::time::{Instant, sleep};

use crate::audit_log;
use crate::driver;
use crate::observer::Observer;
use crate::raw_writer::RawWriter;
use crate::server::Server;
use crate::statistics::median;
use crate::wait::wait_for;

/// How many workers are asked for.
pub(super) const PODS: i32 = 200;

/// A burst of this operator takes less than a second, in which a busy machine shows.
const ROUNDS: usize = 3;
/// Between the last object of an empty cluster and the wish for workers, so that whatever its creation sets in motion
/// is at rest.
const REST: Duration = Duration::from_secs(2);

/// Who makes the pods.
#[derive(Clone, Copy, Debug)]
pub(super) enum Maker<'a> {
    /// An operator that runs.
    Operator,
    /// The writer without logic, which makes all parts of the cluster, too.
    RawWriter(&'a RawWriter),
}

/// Seconds since the write that asks for the pods.
#[derive(Clone, Copy, Debug)]
pub(super) struct Burst {
    /// Until the last of the pods was created.
    pub(super) created: f64,
    /// Until the last of them was ready on a fake node.
    pub(super) ready: f64,
}

impl Burst {
    /// The medians of some rounds, each in a namespace of its own.
    pub(super) async fn measure(server: &Server, side: &str, maker: Maker<'_>) -> Result<Self> {
        let mut rounds = Vec::new();
        for round in 1..=ROUNDS {
            rounds.push(one(server, &format!("{side}-scale-{round}"), maker).await?);
        }
        let of = |pick: fn(&Self) -> f64| {
            median(&rounds.iter().map(pick).collect::<Vec<_>>()).context("no rounds")
        };
        Ok(Self { created: of(|round| round.created)?, ready: of(|round| round.ready)? })
    }

    /// Pods that were created a second.
    pub(super) fn rate(&self) -> f64 {
        f64::from(PODS) / self.created
    }
}

async fn one(server: &Server, namespace: &str, maker: Maker<'_>) -> Result<Burst> {
    server.create_namespace_for_pods(namespace).await?;
    let cluster = empty_cluster(server, namespace, maker).await?;
    let pods: Api<Pod> = Api::namespaced(server.client.clone(), namespace);
    let workers = usize::try_from(PODS)?;
    let all = workers + 1;
    let observer = Observer::of_workers(&server.client, namespace).await?;
    sleep(REST).await;
    // The API server runs on this machine and has the same clock.
    let (start, wish) = (Instant::now(), Timestamp::now());
    let group = driver::scale(&server.client, &cluster, PODS).await?;
    if let Maker::RawWriter(writer) = maker {
        writer.create_workers(&cluster, &group, PODS.into()).await?;
    }
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
    Ok(Burst { created, ready })
}

/// A cluster without workers, when all that it has is there.
async fn empty_cluster(server: &Server, namespace: &str, maker: Maker<'_>) -> Result<DaskCluster> {
    let cluster = driver::create_empty_cluster(&server.client, namespace).await?;
    if let Maker::RawWriter(writer) = maker {
        Box::pin(writer.fill_cluster(&cluster)).await?;
    }
    let groups: Api<DaskWorkerGroup> = Api::namespaced(server.client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(server.client.clone(), namespace);
    let group = format!("{}-default", cluster.name_any());
    // The scheduler's pod is the last of what an empty cluster has.
    wait_for("group and scheduler", async || {
        let scheduler =
            pods.list_metadata(&ListParams::default()).await.is_ok_and(|list| list.items.len() == 1);
        scheduler && groups.get_opt(&group).await.is_ok_and(|group| group.is_some())
    })
    .await?;
    Ok(cluster)
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"))
}
