//! The Deployment that keeps one scheduler pod alive.

use dask_operator_api::{ClusterName, DaskCluster};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::pods::{metadata, probes};

/// The scheduler's Deployment.
///
/// Its strategy is `Recreate`: clients refuse to work while two schedulers of one cluster run.
#[must_use]
pub fn scheduler_deployment(cluster: &DaskCluster, name: &ClusterName) -> Deployment {
    let meta = metadata::of_scheduler(cluster, &name.scheduler());
    let mut pod = cluster.spec.scheduler.spec.clone();
    probes::add_to_scheduler(&mut pod, &cluster.spec.scheduler.service);
    Deployment {
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            selector: LabelSelector { match_labels: meta.labels.clone(), ..LabelSelector::default() },
            strategy: Some(DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: meta.labels.clone(),
                    annotations: meta.annotations.clone(),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod),
            },
            ..DeploymentSpec::default()
        }),
        metadata: meta,
        status: None,
    }
}
