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
    /// Workers are created when the pod of their scheduler exists, so that they do not take its room; the runner of a job
    /// is started when the scheduler can be reached.
    WaitingForScheduler,
    /// Workers are created when the runner of their job exists, so that they do not take its room.
    WaitingForRunner,
    /// An object of an earlier owner with the same name has to go first.
    WaitingForDeletion,

    /// The name cannot be used for the objects that must be derived from it.
    InvalidName,
    /// The wanted number of workers is negative, or more than a group may have.
    InvalidReplicas,
    /// The object does not fit its definition, or is larger than the operator reads.
    Unreadable,
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

    /// The scheduler's Service selects no pod of the scheduler.
    ServiceSelectsNothing,
    /// The scheduler's Service has no port that leads to the scheduler.
    ServicePortMissing,

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
    /// Pods of workers are ready, but the scheduler knows no worker of them.
    WorkersNotJoined,
    /// A pod runs, but its startup or readiness probe has failed for long.
    NotReady,

    /// Workers were added.
    ScaledUp,
    /// Workers were removed.
    ScaledDown,
    /// A worker was replaced, because it had failed, was of an older template, or got no tasks any more.
    WorkerReplaced,

    /// Workers finish their tasks and hand over their data before they go.
    Draining,
    /// The number of workers is the wanted one.
    AtDesiredSize,
    /// The scheduler protects a worker that should go: it takes part in a shuffle, or runs a task that left the pool.
    WorkerProtected,
    /// The scheduler refuses to retire a worker that should go: it holds an actor, or nobody can take its data.
    DrainRefused,
    /// A worker was not drained in time and is kept.
    DrainTimedOut,
    /// A worker was deleted although it was not drained, because its time had run out.
    DrainForced,
    /// The scheduler's answer about a worker that should go is awaited.
    DrainUnconfirmed,

    /// The scheduler answers, by the operations of the telemetry module.
    Telemetry,
    /// The scheduler answers, by the operations that every Dask has.
    StandardOperations,
    /// The scheduler does not answer; nothing is decided on what it would say.
    SchedulerUnreachable,
    /// The scheduler answers what cannot be understood.
    SchedulerGarbled,
    /// The scheduler answers more than the operator reads.
    SchedulerAnswerTooLarge,
    /// There is no running scheduler to ask.
    SchedulerNotRunning,
    /// Several pods of the scheduler run, and it cannot be told which of them the workers have joined.
    SeveralSchedulers,
    /// All workers have stopped taking tasks because their memory is full.
    AllWorkersPaused,
    /// The scheduler process is another one than before.
    SchedulerRestarted,
    /// The scheduler process ended by itself, without an error.
    SchedulerExited,
    /// The scheduler process is the one that the cluster began with.
    StateKept,
    /// A worker of an earlier scheduler did not join the new one and is replaced.
    WorkerStranded,

    /// Running pods are those of the templates.
    UpToDate,
    /// Workers are being replaced because their template was edited.
    TemplateChanged,
    /// Workers of an older template stay until they are deleted, as `update.strategy` says.
    UpdatedOnDelete,
    /// The scheduler's template was edited; `update.scheduler` says when it is restarted.
    SchedulerOutdated,

    /// The cluster was deleted because it had been idle for `idleTimeout`.
    IdleTimeout,
    /// The autoscaler changed the number of workers.
    Autoscaled,
    /// The autoscaler sees no need for a change.
    TargetReached,
    /// The autoscaler waits until its last change has had time to work.
    CoolingDown,
    /// The wanted number is outside of the autoscaler's bounds, and the bound was taken.
    Bounded,

    /// The autoscaler's bounds contradict each other.
    InvalidBounds,
    /// Another autoscaler acts on the same cluster.
    AutoscalerConflict,

    /// A job was seen.
    JobCreated,
    /// The selector of a job's Service named another cluster, and names the job's own now.
    SelectorCorrected,
    /// The program of a job's runner was started.
    RunnerStarted,
    /// A job was edited after its objects had been made, which changes nothing.
    EditIgnored,
    /// A job's runner ended well.
    JobSucceeded,
    /// A job's runner failed.
    JobFailed,

    /// Objects that the Python operator had made were taken over.
    TakenOver,

    /// A command that the image lacks is started as a Python module instead.
    CommandReplaced,
    /// The preload modules are there for every pod that is made.
    ModulesStored,
    /// Pods run without the preload modules, because of what the user wrote.
    ModulesNotLoaded,
    /// A job's main container ended, and another one keeps its pod, and so the job, from ending.
    RunnerKeptOpen,
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
                | Self::WaitingForScheduler
                | Self::WaitingForRunner
                | Self::WaitingForDeletion
                | Self::ScaledUp
                | Self::ScaledDown
                | Self::WorkerReplaced
                | Self::Draining
                | Self::AtDesiredSize
                | Self::WorkerProtected
                | Self::DrainUnconfirmed
                | Self::Telemetry
                | Self::StandardOperations
                | Self::SchedulerNotRunning
                | Self::StateKept
                | Self::UpToDate
                | Self::TemplateChanged
                | Self::UpdatedOnDelete
                | Self::SchedulerOutdated
                | Self::IdleTimeout
                | Self::Autoscaled
                | Self::TargetReached
                | Self::CoolingDown
                | Self::Bounded
                | Self::JobCreated
                | Self::SelectorCorrected
                | Self::RunnerStarted
                | Self::JobSucceeded
                | Self::TakenOver
                | Self::CommandReplaced
                | Self::ModulesStored
                | Self::ModulesNotLoaded
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
