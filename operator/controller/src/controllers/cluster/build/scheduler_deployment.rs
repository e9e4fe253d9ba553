//! The Deployment that keeps one scheduler pod alive.

use std::collections::BTreeMap;

use dask_operator_api::{ClusterName, DaskCluster, labels};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::digest;
use crate::pods::form::{self, PodForm};
use crate::pods::invocation::Role;
use crate::pods::{metadata, probes, telemetry};

/// Digest of the labels and annotations that the user gave the scheduler alone.
#[must_use]
pub fn metadata_hash(cluster: &DaskCluster) -> String {
    digest::of_json(&cluster.spec.scheduler.metadata).unwrap_or_default()
}

/// The scheduler's Deployment.
///
/// Its strategy is `Recreate`: clients refuse to work while two schedulers of one cluster run.
#[must_use]
pub fn scheduler_deployment(cluster: &DaskCluster, name: &ClusterName, form: PodForm) -> Deployment {
    let meta = metadata::of_scheduler(cluster, &name.scheduler());
    let mut pod = cluster.spec.scheduler.spec.clone();
    let hash = digest::of_json(&pod).unwrap_or_default();
    let mut bookkeeping = BTreeMap::from([
        (labels::TEMPLATE_HASH.to_owned(), hash),
        (labels::METADATA_HASH.to_owned(), metadata_hash(cluster)),
    ]);
    if let Some(image) = form.lacking {
        form::use_module(&mut pod, Role::Scheduler, image);
        bookkeeping.insert(labels::MODULE_COMMAND.to_owned(), image.to_annotation());
    }
    probes::add_to_scheduler(&mut pod, &cluster.spec.scheduler.service);
    if form.telemetry.is_on() {
        telemetry::add_to_scheduler(&mut pod, name.as_str());
        bookkeeping.insert(labels::TELEMETRY.to_owned(), telemetry::modules_digest().to_owned());
    }
    let annotations = meta.annotations.clone().unwrap_or_default().into_iter().chain(bookkeeping).collect();
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
        metadata: ObjectMeta { annotations: Some(annotations), ..meta },
        status: None,
    }
}
