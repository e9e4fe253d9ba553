//! What is remembered of each watched object: only the fields that decisions read.

use std::sync::Arc;

use dask_operator_api::Reason;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceSpec;

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

/// The scheduler's Deployment.
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
    /// Whether `spec.strategy.type` is `Recreate`.
    pub recreates: bool,
    /// Message of the condition `ReplicaFailure` while its status is True: why no pod can be made.
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
