//! The one list of reasons. A reason is the same word in a condition, an Event and a metric label.

use strum::{Display, EnumIter, EnumString, IntoStaticStr};

/// Why something is as it is, or what the operator did.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Display, EnumIter, EnumString, IntoStaticStr,
)]
pub enum Reason {
    /// All is as wanted.
    AllReady,
    /// Pods exist and are coming up.
    Starting,
    /// The wanted number of workers is zero.
    ScaledToZero,
    /// Pods are being created or removed to reach the wanted number.
    Scaling,
    /// The operator has only just seen the object.
    Accepted,
    /// The scheduler's load balancer has no address yet.
    WaitingForLoadBalancer,
    /// An object of an earlier owner with the same name has to go first.
    WaitingForDeletion,

    /// The name cannot be used for the objects that must be derived from it.
    InvalidName,
    /// The API server refused a pod as invalid.
    InvalidPod,
    /// An admission plugin, webhook or policy refused an object.
    AdmissionRefused,
    /// A `ResourceQuota` left no room.
    QuotaExceeded,
    /// The operator lacks a right.
    Forbidden,
    /// The cluster that a group names does not exist.
    ClusterNotFound,
    /// An object with the wanted name belongs to somebody else.
    NameTaken,

    /// The image cannot be pulled.
    ImagePullFailed,
    /// No node can take the pod.
    Unschedulable,
    /// A container cannot be created, for example because a `ConfigMap` or Secret is missing.
    ContainerCannotStart,
    /// A container keeps crashing.
    CrashLoop,
    /// A container ran out of memory.
    OutOfMemory,
    /// A pod ended with a non-zero exit code.
    PodFailed,
    /// A pod was evicted, preempted or its node went away.
    PodLost,
    /// A worker process ended by itself.
    WorkerExited,
    /// A pod runs but its readiness probe fails.
    NotReady,

    /// Workers were added.
    ScaledUp,
    /// Workers were removed.
    ScaledDown,
    /// A worker was replaced.
    WorkerReplaced,
}

impl Reason {
    /// Whether a person should look: such reasons are announced by a Warning Event.
    #[must_use]
    pub fn is_problem(self) -> bool {
        !matches!(
            self,
            Self::AllReady
                | Self::Starting
                | Self::ScaledToZero
                | Self::Scaling
                | Self::Accepted
                | Self::WaitingForLoadBalancer
                | Self::WaitingForDeletion
                | Self::ScaledUp
                | Self::ScaledDown
                | Self::WorkerReplaced
        )
    }
}
