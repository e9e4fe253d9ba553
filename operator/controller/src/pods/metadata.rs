//! Labels, annotations and owners of generated objects.

use std::collections::BTreeMap;

use dask_operator_api::labels::{self, inherited_annotations};
use dask_operator_api::{DaskCluster, DaskJob, DaskWorkerGroup, TemplateMetadata};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};

use crate::digest;

type Map = BTreeMap<String, String>;

/// Metadata of an object that belongs to the scheduler: cluster < template < base labels.
#[must_use]
pub fn of_scheduler(cluster: &DaskCluster, name: &str) -> ObjectMeta {
    let base = base_labels(&cluster.name_any(), labels::SCHEDULER);
    of_child(cluster, name, cluster.spec.scheduler.metadata.as_ref(), &base)
}

/// Metadata of the default group: cluster < worker template < base labels.
#[must_use]
pub fn of_default_group(cluster: &DaskCluster, name: &str) -> ObjectMeta {
    let mut base = base_labels(&cluster.name_any(), labels::WORKER_GROUP);
    base.remove(labels::ISTIO_INJECT);
    of_child(cluster, name, cluster.spec.worker.metadata.as_ref(), &base)
}

/// Metadata of the ConfigMap of a cluster: no component, by which clients count objects.
#[must_use]
pub fn of_config(cluster: &DaskCluster, name: &str) -> ObjectMeta {
    let base = Map::from([(labels::CLUSTER_NAME.to_owned(), cluster.name_any())]);
    of_child(cluster, name, None, &base)
}

/// Metadata of a job's cluster: job < template < the cluster's name.
#[must_use]
pub fn of_job_cluster(job: &DaskJob, name: &str) -> ObjectMeta {
    let base = Map::from([(labels::CLUSTER_NAME.to_owned(), name.to_owned())]);
    of_child(job, name, job.spec.cluster.metadata.as_ref(), &base)
}

/// Metadata of a job's runner: job < template < base labels.
#[must_use]
pub fn of_runner(job: &DaskJob, name: &str) -> ObjectMeta {
    of_child(job, name, job.spec.job.metadata.as_ref(), &base_labels(&job.name_any(), labels::JOB_RUNNER))
}

fn of_child<K: Resource<DynamicType = ()>>(
    cluster: &K,
    name: &str,
    template: Option<&TemplateMetadata>,
    base: &Map,
) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: cluster.namespace(),
        labels: Some(layered(&[Some(cluster.labels()), template_labels(template), Some(base)])),
        annotations: annotations(cluster.meta(), template),
        owner_references: owner(cluster).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Metadata of a worker pod: cluster < group < worker template < base labels; the annotations of the
/// cluster reach only its default group, through the group's own.
#[must_use]
pub fn of_worker(group: &DaskWorkerGroup, cluster: &DaskCluster, name: &str, ordinal: &str) -> ObjectMeta {
    let template = group.spec.worker.metadata.as_ref();
    let mut base = base_labels(&cluster.name_any(), labels::WORKER);
    base.insert(labels::WORKER_GROUP_NAME.to_owned(), group.name_any());
    let mut annotations = annotations(group.meta(), template).unwrap_or_default();
    let labels =
        layered(&[Some(cluster.labels()), Some(group.labels()), template_labels(template), Some(&base)]);
    annotations.insert(labels::METADATA_HASH.to_owned(), digest(&labels, &annotations));
    annotations.insert(labels::ORDINAL.to_owned(), ordinal.to_owned());
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: group.namespace(),
        labels: Some(labels),
        annotations: Some(annotations),
        owner_references: owner(group).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}

/// Digest of labels and annotations, to see that they were edited.
#[must_use]
pub fn digest(labels: &Map, annotations: &Map) -> String {
    let lines =
        |map: &Map| map.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n");
    digest::of_text(&format!("{}\n\n{}", lines(labels), lines(annotations)))
}

/// The reference that makes an object a child of `owner`; `None` while the owner is not stored.
#[must_use]
pub fn owner<K: Resource<DynamicType = ()>>(owner: &K) -> Option<OwnerReference> {
    owner
        .controller_owner_ref(&())
        .map(|reference| OwnerReference { block_owner_deletion: Some(true), ..reference })
}

fn base_labels(cluster: &str, component: &str) -> Map {
    [(labels::CLUSTER_NAME, cluster), (labels::COMPONENT, component), (labels::ISTIO_INJECT, "false")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn template_labels(template: Option<&TemplateMetadata>) -> Option<&Map> {
    template.and_then(|metadata| metadata.labels.as_ref())
}

fn annotations(parent: &ObjectMeta, template: Option<&TemplateMetadata>) -> Option<Map> {
    let inherited = inherited_annotations(parent.annotations.as_ref());
    let own = inherited_annotations(template.and_then(|metadata| metadata.annotations.as_ref()));
    let all = layered(&[Some(&inherited), Some(&own)]);
    (!all.is_empty()).then_some(all)
}

/// The maps laid over each other: a later one wins.
fn layered(layers: &[Option<&Map>]) -> Map {
    layers.iter().flatten().flat_map(|map| map.iter()).map(|(k, v)| (k.clone(), v.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster() -> DaskCluster {
        serde_json::from_value(json!({
            "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster",
            "metadata": {
                "name": "simple", "namespace": "ns", "uid": "cluster-uid",
                "labels": {"test-label": "cluster", "team": "a"},
                "annotations": {"test-annotation": "x", "kopf.zalando.org/foobar": "no"},
            },
            "spec": {
                "scheduler": {
                    "metadata": {"labels": {"test-label": "scheduler"}, "annotations": {"scheduler-note": "y"}},
                    "spec": {"containers": [{"name": "scheduler"}]}, "service": {},
                },
                "worker": {
                    "metadata": {"labels": {"worker-sublabel": "w"}, "annotations": {"worker-note": "z"}},
                    "spec": {"containers": [{"name": "worker"}]},
                },
            },
        }))
        .unwrap()
    }

    fn group(labels: &serde_json::Value) -> DaskWorkerGroup {
        serde_json::from_value(json!({
            "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup",
            "metadata": {"name": "simple-gpu", "namespace": "ns", "uid": "group-uid", "labels": labels},
            "spec": {"cluster": "simple", "worker": {"spec": {"containers": [{"name": "worker"}]}}},
        }))
        .unwrap()
    }

    fn map(pairs: &[(&str, &str)]) -> Map {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn scheduler_objects() {
        let meta = of_scheduler(&cluster(), "simple-scheduler");
        assert_eq!(
            meta.labels.unwrap(),
            map(&[
                ("dask.org/cluster-name", "simple"),
                ("dask.org/component", "scheduler"),
                ("sidecar.istio.io/inject", "false"),
                ("team", "a"),
                ("test-label", "scheduler"),
            ])
        );
        assert_eq!(
            meta.annotations.clone().unwrap(),
            map(&[("scheduler-note", "y"), ("test-annotation", "x")])
        );
        let owner = &meta.owner_references.unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("DaskCluster", "cluster-uid"));
        assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
    }

    #[test]
    fn default_group() {
        let meta = of_default_group(&cluster(), "simple-default");
        assert_eq!(
            meta.labels.unwrap(),
            map(&[
                ("dask.org/cluster-name", "simple"),
                ("dask.org/component", "workergroup"),
                ("team", "a"),
                ("test-label", "cluster"),
                ("worker-sublabel", "w"),
            ])
        );
        assert_eq!(meta.annotations.clone().unwrap(), map(&[("test-annotation", "x"), ("worker-note", "z")]));
    }

    #[test]
    fn cluster_and_runner_of_a_job() {
        let job: DaskJob = serde_json::from_value(json!({
            "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskJob",
            "metadata": {
                "name": "job", "namespace": "ns", "uid": "job-uid",
                "labels": {"team": "a", "level": "job"},
                "annotations": {"note": "job", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
            },
            "spec": {
                "cluster": {
                    "metadata": {"labels": {"level": "cluster"}, "annotations": {"note": "cluster"}},
                    "spec": cluster().spec,
                },
                "job": {
                    "metadata": {"labels": {"level": "runner"}, "annotations": {"more": "x"}},
                    "spec": {"containers": [{"name": "job"}]},
                },
            },
        }))
        .unwrap();
        let meta = of_job_cluster(&job, "job");
        let labels = [("dask.org/cluster-name", "job"), ("level", "cluster"), ("team", "a")];
        assert_eq!(meta.labels.unwrap(), map(&labels));
        assert_eq!(meta.annotations.unwrap(), map(&[("note", "cluster")]));
        let meta = of_runner(&job, "job-runner");
        assert_eq!(
            meta.labels.unwrap(),
            map(&[
                ("dask.org/cluster-name", "job"),
                ("dask.org/component", "job-runner"),
                ("level", "runner"),
                ("sidecar.istio.io/inject", "false"),
                ("team", "a"),
            ])
        );
        assert_eq!(meta.annotations.unwrap(), map(&[("more", "x"), ("note", "job")]));
        assert_eq!(meta.owner_references.unwrap()[0].kind, "DaskJob");
    }

    #[test]
    fn worker_of_another_group_takes_the_clusters_labels_but_not_its_annotations() {
        let group = group(&json!({"team": "b"}));
        let meta = of_worker(&group, &cluster(), "simple-gpu-worker-1", "1");
        assert_eq!(
            meta.labels.unwrap(),
            map(&[
                ("dask.org/cluster-name", "simple"),
                ("dask.org/component", "worker"),
                ("dask.org/workergroup-name", "simple-gpu"),
                ("sidecar.istio.io/inject", "false"),
                ("team", "b"),
                ("test-label", "cluster"),
            ])
        );
        let annotations = meta.annotations.unwrap();
        let keys: Vec<&str> = annotations.keys().map(String::as_str).collect();
        assert_eq!(keys, [labels::METADATA_HASH, labels::ORDINAL]);
        assert_eq!(meta.owner_references.unwrap()[0].kind, "DaskWorkerGroup");
    }

    #[test]
    fn digests_tell_labels_from_annotations_and_keys_from_values() {
        let (none, one) = (map(&[]), map(&[("a", "b")]));
        let digests = [digest(&none, &none), digest(&one, &none), digest(&none, &one), digest(&one, &one)];
        let different: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(different.len(), 4);
        assert_ne!(digest(&map(&[("a", "1\nb=2")]), &none), digest(&map(&[("a", "1"), ("b", "2")]), &none));
    }
}
