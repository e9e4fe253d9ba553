//! The worker group that every cluster has.

use dask_operator_api::labels::{METADATA_HASH, PROPAGATED_KEYS, PROPAGATED_REPLICAS, PROPAGATED_TEMPLATE};
use dask_operator_api::{ClusterName, DaskCluster, DaskWorkerGroup, DaskWorkerGroupSpec};
use kube::ResourceExt;
use serde_json::json;

use crate::digest;
use crate::pods::metadata;

/// The default group, as it is created. Later on it has a life of its own: clients scale it, not the cluster. What
/// was handed on to it from the cluster is kept in annotations.
#[must_use]
pub fn default_group(cluster: &DaskCluster, name: &ClusterName) -> DaskWorkerGroup {
    let worker = cluster.spec.worker.clone();
    let mut group = DaskWorkerGroup::new(
        &name.default_group(),
        DaskWorkerGroupSpec { cluster: cluster.name_any(), worker },
    );
    group.metadata = metadata::of_default_group(cluster, &name.default_group());
    let keys = json!({
        "labels": group.labels().keys().collect::<Vec<_>>(),
        "annotations": group.annotations().keys().collect::<Vec<_>>(),
    });
    let labels = metadata::digest(group.labels(), group.annotations());
    let template = (&group.spec.worker.metadata, &group.spec.worker.spec);
    let template = digest::of_json(&template).unwrap_or_default();
    let annotations = group.annotations_mut();
    annotations.insert(METADATA_HASH.to_owned(), labels);
    annotations.insert(PROPAGATED_KEYS.to_owned(), keys.to_string());
    annotations.insert(PROPAGATED_REPLICAS.to_owned(), cluster.spec.worker.replicas.to_string());
    annotations.insert(PROPAGATED_TEMPLATE.to_owned(), template);
    group
}
