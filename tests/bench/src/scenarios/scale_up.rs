//! One big cluster: rate of its worker pods.

use anyhow::Result;

use super::empty_cluster;
use crate::bench::Bench;
use crate::driver;
use crate::observer::Observer;
use crate::pairs::Subject;
use crate::raw_writer::RawWriter;
use crate::results::{Figure, Measurement};
use crate::server::Census;

/// Rate of worker pods of one group, from the write that asks for them until all exist.
///
/// # Errors
/// When a round fails.
pub async fn scale_up(bench: &mut Bench) -> Result<Measurement> {
    let pods = bench.size.pods;
    let count = usize::try_from(pods)?;
    let expected = Census { clusters: 1, pods: count };

    let raw = async |bench: &Bench, namespace: &str| {
        let client = &bench.server.client;
        let writer = RawWriter::new(bench.server.raw_writer.client().await?);
        let cluster = driver::create_empty_cluster(client, namespace).await?;
        writer.fill_cluster(&cluster).await?;
        let observer = Observer::of_workers(client, namespace).await?;
        let work = async {
            let group = driver::scale(client, &cluster, pods).await?;
            writer.create_workers(&cluster, &group, pods.into()).await
        };
        bench.time(None, namespace, (observer, count), expected, work).await
    };
    let operator = async |bench: &Bench, namespace: &str| {
        let client = &bench.server.client;
        let operator = bench.start_operator().await?;
        let cluster = empty_cluster(bench, namespace).await?;
        let observer = Observer::of_workers(client, namespace).await?;
        let work = async { driver::scale(client, &cluster, pods).await.map(|_| ()) };
        bench.time(Some(&operator), namespace, (observer, count), expected, work).await
    };
    let subject = Subject { name: Figure::ScaleUp, unit: "pods/s", objects: count, per: ("pod", count) };
    Box::pin(bench.compare(subject, raw, operator)).await
}
