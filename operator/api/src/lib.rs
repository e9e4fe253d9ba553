//! The API of the Dask operator: the custom resources of group `kubernetes.dask.org/v1` and the vocabulary
//! that every other crate shares (names, labels, conditions, reasons).
//!
//! The four kinds are a strict superset of those of `dask-kubernetes` 2026.3.0, so that its manifests and
//! clients work unchanged. This crate has no client and no clock.

pub mod address;
pub mod autoscaler;
pub mod cluster;
pub mod conditions;
pub mod crd;
pub mod drain;
pub mod duration;
pub mod group;
pub mod job;
pub mod labels;
pub mod names;
mod pod_spec;
pub mod quantity;
pub mod reason;
pub mod update;

pub use autoscaler::{DaskAutoscaler, DaskAutoscalerSpec, DaskAutoscalerStatus};
pub use cluster::{
    ClusterPhase, DaskCluster, DaskClusterSpec, DaskClusterStatus, GroupCounts, MAX_REPLICAS, SchedulerSpec,
    SchedulerStatus, TemplateMetadata, WorkerSpec,
};
pub use conditions::{ConditionType, Conditions};
pub use drain::DrainIntent;
pub use duration::Duration;
pub use group::{DaskWorkerGroup, DaskWorkerGroupSpec, DaskWorkerGroupStatus, WorkerFailures};
pub use job::{DaskJob, DaskJobSpec, DaskJobStatus, JobClusterTemplate, JobRunnerSpec, JobStatus};
pub use names::{ClusterName, GroupName, InvalidName};
pub use reason::Reason;
pub use update::{DrainTimeoutAction, SchedulerUpdate, UpdatePolicy, UpdateStrategy};

/// API group of all kinds.
pub const GROUP: &str = "kubernetes.dask.org";
/// The one served and stored version.
pub const VERSION: &str = "v1";
