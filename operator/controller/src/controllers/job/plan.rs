//! What is to be done for a job.

use std::time::Duration;

use dask_operator_api::{DaskCluster, JobStatus, Reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::controllers::Obstacle;

/// What brings a job nearer to its end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobPlan {
    /// The next step.
    pub step: Step,
    /// Why something that is missing is not made.
    pub obstacle: Option<Obstacle>,
    /// When to look again without being woken.
    pub requeue_after: Option<Duration>,
}

/// The next step of a job.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Step {
    /// Nothing, until something happens.
    #[default]
    Wait,
    /// What is missing is created: first the cluster, then the runner.
    Create {
        /// The cluster.
        cluster: Option<Box<DaskCluster>>,
        /// The runner pod.
        runner: Option<Box<Pod>>,
    },
    /// The program of the runner may start: its scheduling gate is taken off.
    StartRunner {
        /// UID of the runner.
        uid: String,
    },
    /// The cluster is deleted, then the final status written.
    Finish {
        /// UID of the cluster, if it is still there.
        cluster: Option<String>,
        /// How the job ended; `None` if the status says so already.
        ending: Option<Ending>,
    },
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// [`JobStatus::Successful`] or [`JobStatus::Failed`].
    pub status: JobStatus,
    /// When the runner had started, if it had.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Timestamp,
    /// Whether it is to be made sure first that the runner is gone: the watch of pods may be behind that of jobs.
    pub vanished: bool,
    /// Why, for the Event.
    pub reason: Reason,
    /// The same in words.
    pub message: String,
}
