//! Label and annotation keys, and which of a user's annotations are handed on.

use std::collections::BTreeMap;

/// Name of the DaskCluster; on everything that belongs to it but user-made groups.
pub const CLUSTER_NAME: &str = "dask.org/cluster-name";
/// What an object is: [`SCHEDULER`], [`WORKER`], [`WORKER_GROUP`] or [`JOB_RUNNER`].
pub const COMPONENT: &str = "dask.org/component";
/// Name of the DaskWorkerGroup; on workers.
pub const WORKER_GROUP_NAME: &str = "dask.org/workergroup-name";
/// Keeps Istio from injecting its proxy, which breaks Dask's raw TCP between workers.
pub const ISTIO_INJECT: &str = "sidecar.istio.io/inject";

/// Component value of the scheduler's Deployment, Pod and Service.
pub const SCHEDULER: &str = "scheduler";
/// Component value of a worker pod.
pub const WORKER: &str = "worker";
/// Component value of a default DaskWorkerGroup.
pub const WORKER_GROUP: &str = "workergroup";
/// Component value of a job's runner pod.
pub const JOB_RUNNER: &str = "job-runner";

/// Annotation on a worker pod: its ordinal in the group, a positive decimal number.
pub const ORDINAL: &str = "kubernetes.dask.org/ordinal";
/// Annotation on a default group: the `spec.worker.replicas` of the DaskCluster that was last handed on to it.
pub const PROPAGATED_REPLICAS: &str = "kubernetes.dask.org/propagated-replicas";
/// Annotation on a default group: digest of the worker template of the DaskCluster that was last handed on to it.
pub const PROPAGATED_TEMPLATE: &str = "kubernetes.dask.org/propagated-template";
/// Annotation on a worker pod and on the scheduler's Deployment: digest of the template that it was made from.
pub const TEMPLATE_HASH: &str = "kubernetes.dask.org/template-hash";
/// Annotation on a worker pod and on a default group: digest of the labels and annotations that it was given last.
pub const METADATA_HASH: &str = "kubernetes.dask.org/metadata-hash";
/// Annotation on the scheduler's Deployment: digest of the preload modules that the cluster's `ConfigMap` holds.
pub const TELEMETRY: &str = "kubernetes.dask.org/telemetry";
/// Annotation on a worker pod and on the scheduler's Deployment: digest of the image whose `dask-worker` or
/// `dask-scheduler` is started as a Python module, because the image lacks the command.
pub const MODULE_COMMAND: &str = "kubernetes.dask.org/module-command";
/// Annotation on a default group: keys of the labels and annotations of the DaskCluster that were last handed on to it.
pub const PROPAGATED_KEYS: &str = "kubernetes.dask.org/propagated-keys";
/// Annotation on the cluster of a job: generation of the job's spec that it was made from.
pub const JOB_GENERATION: &str = "kubernetes.dask.org/job-generation";
/// Annotation on a worker: that it is to be drained and deleted, and why; see [`crate::DrainIntent`].
pub const DRAIN: &str = "kubernetes.dask.org/drain";

/// Annotation on a DaskAutoscaler, of dask-kubernetes: seconds since the epoch before which it does not scale again.
pub const COOLDOWN_UNTIL: &str = "kubernetes.dask.org/cooldown-until";
/// Finalizer of dask-kubernetes, which nobody removes once that operator is gone.
pub const KOPF_FINALIZER: &str = "kopf.zalando.org/KopfFinalizerMarker";

/// Scheduling gate on the runner pod of a job: its program is not started before the job's scheduler can be reached.
pub const SCHEDULER_GATE: &str = "kubernetes.dask.org/scheduler";

const NOT_PROPAGATED: [&str; 3] = ["kopf.zalando.org", "kubectl.kubernetes.io", "kubernetes.dask.org"];

/// The annotations that objects made for a resource inherit from it: all but those of kopf, kubectl and
/// this operator, which describe the resource itself.
#[must_use]
pub fn inherited_annotations(annotations: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| !NOT_PROPAGATED.iter().any(|prefix| key.starts_with(prefix)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookkeeping_annotations_are_not_inherited() {
        let own = BTreeMap::from(
            [
                "kopf.zalando.org/foobar",
                "kubectl.kubernetes.io",
                "kubectl.kubernetes.io/last-applied-configuration",
                "kubernetes.dask.org/propagated-replicas",
                "team.example.org/owner",
            ]
            .map(|key| (key.to_owned(), "x".to_owned())),
        );
        let inherited = inherited_annotations(Some(&own));
        assert_eq!(inherited.keys().collect::<Vec<_>>(), ["team.example.org/owner"]);
    }

    #[test]
    fn absent_annotations_give_none() {
        assert!(inherited_annotations(None).is_empty());
    }
}
