//! The worker group that every cluster has.

use dask_operator_api::labels::PROPAGATED_REPLICAS;
use dask_operator_api::{ClusterName, DaskCluster, DaskWorkerGroup, DaskWorkerGroupSpec};
use kube::ResourceExt;

use crate::pods::metadata;

/// The default group, as it is created. Later on it has a life of its own: clients scale it, not the cluster.
#[must_use]
pub fn default_group(cluster: &DaskCluster, name: &ClusterName) -> DaskWorkerGroup {
    let worker = cluster.spec.worker.clone();
    let mut group = DaskWorkerGroup::new(
        &name.default_group(),
        DaskWorkerGroupSpec { cluster: cluster.name_any(), worker },
    );
    group.metadata = metadata::of_default_group(cluster, &name.default_group());
    group.annotations_mut().insert(PROPAGATED_REPLICAS.to_owned(), cluster.spec.worker.replicas.to_string());
    group
}
