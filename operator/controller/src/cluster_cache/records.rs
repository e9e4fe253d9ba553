//! What is remembered of each watched object: only the fields that decisions read.

use std::collections::BTreeMap;
use std::sync::Arc;

use dask_operator_api::conditions::truncated;
use dask_operator_api::labels::{COMPONENT, WORKER};
use dask_operator_api::{DrainIntent, Reason, labels};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::pods::form::Image;

/// Most bytes of a UID or digest that are kept.
const MAX_IDENTIFIER: usize = 128;

/// A pod of a Dask cluster. Thousands are kept, so it is small.
#[derive(Clone, Debug, PartialEq)]
pub struct PodRecord {
    /// Name of the pod.
    pub name: Box<str>,
    /// UID of the pod.
    pub uid: Box<str>,
    /// `metadata.resourceVersion`; later versions of an object have greater ones.
    pub resource_version: u64,
    /// UID of the controlling owner.
    pub owner_uid: Option<Arc<str>>,
    /// Ordinal of a worker in its group; `None` on pods of the Python operator and on schedulers.
    pub ordinal: Option<i64>,
    /// Digest of the template it was made from; `None` on pods of the Python operator and on schedulers.
    pub template_hash: Option<Arc<str>>,
    /// Digest of the labels and annotations it was given last; `None` as with `template_hash`.
    pub metadata_hash: Option<Arc<str>>,
    /// That it is to be drained, and why.
    pub drain: Option<Box<DrainIntent>>,
    /// Node it was given to.
    pub node: Option<Arc<str>>,
    /// Its IP address, once it has one.
    pub ip: Option<Box<str>>,
    /// Its addresses of the other family, if the network has both; Dask's workers may use any.
    pub other_ips: Box<[Box<str>]>,
    /// Whether a container of it runs: from then on it may hold data.
    pub running: bool,
    /// `metadata.creationTimestamp`, in whole seconds.
    pub created: Timestamp,
    /// Where the pod is in its life.
    pub state: PodState,
    /// When it became ready, while it is.
    pub ready_since: Option<Timestamp>,
    /// What is wrong with it, in words for a person; names the pod.
    pub problem: Option<Box<PodProblem>>,
    /// Restarts of its containers, summed.
    pub restarts: i32,
    /// How a container that was restarted had ended, in words that name the pod; kept while the pod is well
    /// again, so that a restart does not go unseen.
    pub last_termination: Option<Box<PodProblem>>,
    /// In which form it was made, and what is known of its start.
    pub startup: Startup,
    /// When a container ended for good that may have been its worker, while others run that may be Dask's, too.
    pub worker_ended: Option<Timestamp>,
}

/// In which form a pod was made, and what is known of its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// Whether it mounts the preload modules.
    pub modules: bool,
    /// The image for whose lack of a command the pod was made with the Python module.
    pub module_command: Option<Image>,
    /// Its Dask container ended, or cannot start, because this image lacks the command `dask-scheduler` or `dask-worker`.
    pub command_missing: Option<Image>,
    /// Since when it is on its node without a container that ever ran, and nothing in its status says why.
    pub waiting_since: Option<Timestamp>,
    /// Since when a container of it runs and is not ready, and nothing in its status says why.
    pub unready_since: Option<Timestamp>,
}

impl PodRecord {
    /// Whether it works or will work: it has not ended and is not on its way out.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state <= PodState::Ready
    }

    /// All its IP addresses.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.ip.iter().chain(&self.other_ips).map(AsRef::as_ref)
    }
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PodState {
    /// Not on a node yet.
    Pending,
    /// On a node, not ready.
    Starting,
    /// Ready.
    Ready,
    /// Ended, and will not start again.
    Failed,
    /// Deletion was asked for.
    Terminating,
}

/// What is wrong with a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodProblem {
    /// The reason that goes into condition, Event and metric.
    pub reason: Reason,
    /// One sentence that names the pod and, where it can, the cure.
    pub message: String,
}

/// A pod of a Dask cluster that is neither scheduler nor worker: in general the runner of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerRecord {
    /// Name of the pod.
    pub name: Box<str>,
    /// UID of the pod.
    pub uid: Box<str>,
    /// UID of the controlling owner.
    pub owner_uid: Option<Arc<str>>,
    /// Deletion was asked for.
    pub terminating: bool,
    /// It is not started before the scheduler can be reached: it has [`labels::SCHEDULER_GATE`].
    pub gated: bool,
    /// How far it is.
    pub phase: RunnerPhase,
    /// When its first container started; for one that ended without, when the kubelet took it.
    pub started: Option<Timestamp>,
    /// When its last container ended, once the pod has ended.
    pub ended: Option<Timestamp>,
    /// What is wrong with it, in words for a person.
    pub problem: Option<PodProblem>,
    /// As [`Startup::waiting_since`].
    pub waiting_since: Option<Timestamp>,
}

/// How far a runner is: the pod's own phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunnerPhase {
    /// Its containers have not started.
    Pending,
    /// They have, and may be started again.
    Running,
    /// All ended well.
    Succeeded,
    /// All ended, at least one not well, or the pod was taken from its node.
    Failed,
}

impl RunnerPhase {
    /// Whether the pod has ended for good.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// The Deployment of a scheduler, or of a worker that the Python operator made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentRecord {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: u64,
    /// UID of the controlling owner.
    pub owner_uid: Option<String>,
    /// Deletion was asked for.
    pub terminating: bool,
    /// Digest of the preload modules that the cluster's ConfigMap holds, if it was ever written.
    pub telemetry: Option<String>,
    /// Digest of the scheduler's template that it was made from; `None` on one of the Python operator.
    pub template_hash: Option<String>,
    /// Annotation `kubernetes.dask.org/metadata-hash` of a scheduler's.
    pub metadata_hash: Option<String>,
    /// The image for whose lack of a command the scheduler is started as a Python module.
    pub module_command: Option<Image>,
    /// Whether it is a worker of the Python operator, by its label `dask.org/component`.
    pub worker: bool,
    /// `status.replicas`: its pods, whether they can be told from others or not.
    pub replicas: i32,
    /// Whether `spec.strategy.type` is `Recreate`.
    pub recreates: bool,
    /// Labels that it gives to its pods; `None` for a worker, whose labels nobody selects.
    pub pod_labels: Option<BTreeMap<String, String>>,
    /// Why no pod can be made, in the API server's words.
    pub replica_failure: Option<String>,
}

/// The scheduler's Service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceRecord {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: u64,
    /// UID of the controlling owner.
    pub owner_uid: Option<String>,
    /// Deletion was asked for.
    pub terminating: bool,
    /// Its spec, with the API server's defaults.
    pub spec: ServiceSpec,
    /// Whether its load balancer has an address.
    pub has_ingress: bool,
}

impl From<&Deployment> for DeploymentRecord {
    fn from(deployment: &Deployment) -> Self {
        let metadata = &deployment.metadata;
        let annotation = |key: &str| metadata.annotations.as_ref()?.get(key).map(String::as_str);
        let digest = |key: &str| annotation(key).map(|digest| identifier(digest).to_owned());
        let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.type_.as_deref());
        let mut conditions = deployment.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let failure = conditions.find(|condition| makes_no_pods(condition));
        let worker = metadata.labels.iter().flatten().any(|(key, value)| key == COMPONENT && value == WORKER);
        let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: resource_version(metadata),
            owner_uid: controller_uid(metadata),
            terminating: metadata.deletion_timestamp.is_some(),
            pod_labels: template.and_then(|template| template.labels.clone()).filter(|_| !worker),
            telemetry: digest(labels::TELEMETRY),
            template_hash: digest(labels::TEMPLATE_HASH),
            metadata_hash: digest(labels::METADATA_HASH),
            module_command: annotation(labels::MODULE_COMMAND).and_then(Image::from_annotation),
            worker,
            replicas: deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0),
            recreates: strategy == Some("Recreate"),
            replica_failure: failure
                .map(|condition| truncated(condition.message.as_deref().unwrap_or_default()).to_owned()),
        }
    }
}

/// Whether the condition says that no pod, or no `ReplicaSet` for it, can be made. Reason of the latter is that of
/// `FailedRSCreateReason` in `k8s.io/kubernetes/pkg/controller/deployment/util`; that a Deployment takes its time, which
/// is `Progressing` as well, has other causes that the pod itself tells.
fn makes_no_pods(condition: &DeploymentCondition) -> bool {
    let reason = condition.reason.as_deref();
    match (condition.type_.as_str(), condition.status.as_str()) {
        ("ReplicaFailure", "True") => true,
        ("Progressing", "False") => matches!(reason, Some("ReplicaSetCreateError" | "FailedCreate")),
        _ => false,
    }
}

impl From<Service> for ServiceRecord {
    fn from(service: Service) -> Self {
        let metadata = &service.metadata;
        let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: resource_version(metadata),
            owner_uid: controller_uid(metadata),
            terminating: metadata.deletion_timestamp.is_some(),
            has_ingress: balancer.is_some_and(|b| b.ingress.as_ref().is_some_and(|list| !list.is_empty())),
            name: service.metadata.name.unwrap_or_default(),
            spec: service.spec.unwrap_or_default(),
        }
    }
}

/// An object's resource version as a number; 0 when it has none. Greater is later for objects of one kind, as
/// Kubernetes guarantees since 1.35 and etcd always did.
#[must_use]
pub fn resource_version(metadata: &ObjectMeta) -> u64 {
    version_number(metadata.resource_version.as_deref())
}

/// The same for the text alone.
#[must_use]
pub fn version_number(version: Option<&str>) -> u64 {
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// As much of a UID or digest as is kept: theirs have 64 bytes at most, but anyone may write longer ones.
pub(super) fn identifier(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_IDENTIFIER)]
}

fn controller_uid(metadata: &ObjectMeta) -> Option<String> {
    let mut owners = metadata.owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true)).map(|owner| identifier(&owner.uid).to_owned())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn deployment(object: Value) -> DeploymentRecord {
        DeploymentRecord::from(&serde_json::from_value::<Deployment>(object).unwrap())
    }

    fn service(object: Value) -> ServiceRecord {
        ServiceRecord::from(serde_json::from_value::<Service>(object).unwrap())
    }

    fn metadata() -> Value {
        json!({
            "name": "c-scheduler", "namespace": "ns", "uid": "u", "resourceVersion": "9",
            "annotations": {labels::TELEMETRY: "t", labels::TEMPLATE_HASH: "h", labels::METADATA_HASH: "m",
                            labels::MODULE_COMMAND: Image::new("dask:1").to_annotation()},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "other"},
                {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "cluster", "controller": true},
            ],
        })
    }

    #[test]
    fn a_whole_deployment() {
        let record = deployment(json!({
            "metadata": metadata(),
            "spec": {"selector": {}, "strategy": {"type": "Recreate"},
                     "template": {"metadata": {"labels": {"app": "x"}}}},
            "status": {"conditions": [
                {"type": "Available", "status": "False", "message": "no"},
                {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"},
            ]},
        }));
        let expected = DeploymentRecord {
            name: "c-scheduler".to_owned(),
            uid: "u".to_owned(),
            resource_version: 9,
            owner_uid: Some("cluster".to_owned()),
            terminating: false,
            telemetry: Some("t".to_owned()),
            template_hash: Some("h".to_owned()),
            metadata_hash: Some("m".to_owned()),
            module_command: Some(Image::new("dask:1")),
            worker: false,
            replicas: 0,
            recreates: true,
            pod_labels: Some(BTreeMap::from([("app".to_owned(), "x".to_owned())])),
            replica_failure: Some("exceeded quota: q".to_owned()),
        };
        assert_eq!(record, expected);
    }

    #[rstest]
    #[case(json!({"spec": {"selector": {}, "strategy": {"type": "RollingUpdate"}, "template": {}}}))]
    #[case(json!({"status": {"conditions": [{"type": "ReplicaFailure", "status": "False", "message": "past"}]}}))]
    #[case(json!({"status": {"conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "slow"},
        {"type": "Progressing", "status": "True", "reason": "ReplicaSetCreateError", "message": "past"}]}}))]
    #[case(json!({}))]
    fn a_deployment_without_recreate_and_failure(#[case] object: Value) {
        let record = deployment(object);
        assert_eq!((record.recreates, record.replica_failure), (false, None));
    }

    #[test]
    fn a_replica_set_that_cannot_be_made() {
        let words = "Failed to create new replica set \"c-scheduler-5c689d\": replicasets.apps \"c-scheduler-5c689d\" is \
                     forbidden: exceeded quota: q, requested: count/replicasets.apps=1";
        let conditions = json!([
            {"type": "Available", "status": "False"},
            {"type": "Progressing", "status": "False", "reason": "ReplicaSetCreateError", "message": words},
        ]);
        let record = deployment(json!({"status": {"conditions": conditions}}));
        assert_eq!(record.replica_failure.as_deref(), Some(words));
    }

    #[test]
    fn texts_of_others_take_little_room() {
        let long = "x".repeat(200_000);
        let record = deployment(json!({
            "metadata": {
                "annotations": {labels::TELEMETRY: long, labels::TEMPLATE_HASH: long, labels::METADATA_HASH: long},
                "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n", "uid": long, "controller": true}],
            },
            "status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": long}]},
        }));
        let digests = [record.telemetry, record.template_hash, record.metadata_hash];
        let texts = digests.into_iter().chain([record.owner_uid, record.replica_failure]);
        let kept: usize = texts.flatten().map(|text| text.len()).sum();
        assert!(kept < 2_000, "{kept}");
    }

    #[test]
    fn a_worker_of_the_python_operator() {
        let record = deployment(json!({
            "metadata": {"name": "g-worker-1", "labels": {"dask.org/component": "worker"}},
            "status": {"replicas": 1},
        }));
        assert_eq!((record.worker, record.replicas), (true, 1));
    }

    #[test]
    fn a_whole_service() {
        let record = service(json!({
            "metadata": metadata(),
            "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"name": "tcp-comm", "port": 8786}]},
        }));
        assert_eq!(
            (record.name.as_str(), record.uid.as_str(), record.resource_version),
            ("c-scheduler", "u", 9)
        );
        assert_eq!(record.owner_uid.as_deref(), Some("cluster"));
        assert_eq!(record.spec.cluster_ip.as_deref(), Some("10.0.0.1"));
        assert!(!record.terminating && !record.has_ingress);
    }

    #[rstest]
    #[case(json!({"status": {"loadBalancer": {}}}), false)]
    #[case(json!({"status": {"loadBalancer": {"ingress": []}}}), false)]
    #[case(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}), true)]
    fn the_load_balancer_has_an_address(#[case] object: Value, #[case] expected: bool) {
        assert_eq!(service(object).has_ingress, expected);
    }
}
