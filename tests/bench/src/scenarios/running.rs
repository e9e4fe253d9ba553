//! How soon a new cluster is Running.

use std::collections::HashMap;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use kube::ResourceExt;
use tokio::time::Instant;

use crate::bench::Bench;
use crate::driver;
use crate::observer::Observer;
use crate::results::{Bar, Figure, Measurement};
use crate::server::Census;
use crate::statistics::{median, percentile};

/// Longest time that dask-kubernetes' client can wait for phase Running without trouble, in seconds.
const LIMIT: f64 = 1.0;

/// Time from the answer to the creation of a cluster until its phase is seen to be Running, of clusters that are
/// created all at once: the 99th percentile.
///
/// # Errors
/// When a round fails.
#[expect(clippy::print_stdout, reason = "a bench prints what it measures")]
pub async fn time_to_running(bench: &mut Bench) -> Result<Measurement> {
    let mut seconds = Vec::new();
    for _ in 0..bench.size.repetitions {
        let namespace = bench.next_namespace().await?;
        let operator = bench.start_operator().await?;
        seconds.extend(one_round(bench, &namespace).await?);
        drop(operator);
        bench.server.clear(&namespace).await?;
    }
    let of = |percent| percentile(&seconds, percent).context("no cluster was created");
    let (p99, longest) = (of(99.0)?, of(100.0)?);
    let middle = median(&seconds).context("no cluster was created")?;
    println!(
        "running-p99: {} clusters, {} at once: median {middle:.2} s, p99 {p99:.2} s, longest {longest:.2} s\n",
        seconds.len(),
        bench.size.at_once
    );
    Ok(Measurement::new(Figure::RunningP99, p99, "s", LIMIT, Bar::AtMostBaseline))
}

async fn one_round(bench: &Bench, namespace: &str) -> Result<Vec<f64>> {
    let (count, workers, client) = (bench.size.at_once, bench.size.workers, &bench.server.client);
    let observer = Observer::of_running_clusters(client, namespace).await?;
    let running = tokio::spawn(observer.wait(count));
    let created: HashMap<String, Instant> = driver::create_clusters(client, namespace, count, workers, count)
        .map_ok(|cluster| (cluster.name_any(), Instant::now()))
        .try_collect()
        .await?;
    let running = running.await??;
    bench.settle(&bench.server.operator).await?;
    let pods = count * usize::try_from(workers)?;
    bench.server.verify(namespace, Census { clusters: count, pods }).await?;
    let since = |(name, answered): (&String, &Instant)| {
        let seen = running.get(name).with_context(|| format!("cluster {name} was not seen"))?;
        Ok(seen.saturating_duration_since(*answered).as_secs_f64())
    };
    created.iter().map(since).collect()
}
