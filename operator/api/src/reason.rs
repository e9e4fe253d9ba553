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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use strum::IntoEnumIterator;

    use super::*;

    #[test]
    fn the_api_server_takes_every_reason() {
        // The API server's pattern for reasons is ^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$.
        for reason in Reason::iter() {
            let word = reason.to_string();
            assert!(word.chars().all(|c| c.is_ascii_alphanumeric()) && word.len() <= 128, "{word}");
            assert!(word.starts_with(|c: char| c.is_ascii_uppercase()), "{word}");
        }
    }

    #[test]
    fn a_reason_is_one_word_for_one_thing() {
        let words: HashSet<String> = Reason::iter().map(|reason| reason.to_string()).collect();
        assert_eq!(words.len(), Reason::iter().count());
        for reason in Reason::iter() {
            assert_eq!(reason.to_string().parse(), Ok(reason));
        }
    }

    #[test]
    fn what_a_user_must_mend_is_a_problem() {
        for problem in
            [Reason::ImagePullFailed, Reason::Unschedulable, Reason::QuotaExceeded, Reason::InvalidName]
        {
            assert!(problem.is_problem(), "{problem}");
        }
        for normal in [Reason::AllReady, Reason::Starting, Reason::ScaledUp, Reason::ScaledToZero] {
            assert!(!normal.is_problem(), "{normal}");
        }
    }
}
