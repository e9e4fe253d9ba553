//! Many small clusters: rate of all their objects.

use anyhow::Result;
use futures::TryStreamExt;

use crate::bench::Bench;
use crate::driver;
use crate::observer::Observer;
use crate::pairs::Subject;
use crate::raw_writer::RawWriter;
use crate::results::{Figure, Measurement};
use crate::server::Census;

/// Objects of a cluster besides its workers: Service, Deployment, default group.
const PARTS: usize = 3;

/// Rate at which clusters come into being with all their objects, from the first creation until every object exists.
///
/// # Errors
/// When a round fails.
pub async fn create_clusters(bench: &mut Bench) -> Result<Measurement> {
    let (clusters, workers) = (bench.size.clusters, bench.size.workers);
    let pods = clusters * usize::try_from(workers)?;
    let children = clusters * PARTS + pods;
    let expected = Census { clusters, pods };
    let create = |bench: &Bench, namespace: &str| {
        driver::create_clusters(&bench.server.client, namespace, clusters, workers, driver::IN_FLIGHT)
    };

    let raw = async |bench: &Bench, namespace: &str| {
        let writer = RawWriter::new(bench.server.raw_writer.client().await?);
        let observer = Observer::of_children(&bench.server.client, namespace).await?;
        let work = writer.fill(create(bench, namespace));
        bench.time(None, namespace, (observer, children), expected, work).await
    };
    let operator = async |bench: &Bench, namespace: &str| {
        let operator = bench.start_operator().await?;
        let observer = Observer::of_children(&bench.server.client, namespace).await?;
        let work = create(bench, namespace).try_for_each(async |_| Ok(()));
        bench.time(Some(&operator), namespace, (observer, children), expected, work).await
    };
    let objects = clusters + children;
    let subject =
        Subject { name: Figure::CreateClusters, unit: "objects/s", objects, per: ("cluster", clusters) };
    bench.compare(subject, raw, operator).await
}
