//! What is measured.

pub mod against_python;
mod burst;
mod create_clusters;
pub mod drains;
pub mod first_result;
pub mod links;
mod memory;
pub mod noisy_neighbour;
mod pod_end;
mod running;
mod scale_up;

pub use create_clusters::create_clusters;
pub use memory::memory_and_rest;
pub use running::time_to_running;
pub use scale_up::scale_up;

use anyhow::Result;
use dask_operator_api::DaskCluster;

use crate::bench::Bench;
use crate::driver;

/// A cluster without workers, when the operator has made everything for it.
async fn empty_cluster(bench: &Bench, namespace: &str) -> Result<DaskCluster> {
    let cluster = driver::create_empty_cluster(&bench.server.client, namespace).await?;
    bench.settle(&bench.server.operator).await?;
    Ok(cluster)
}
