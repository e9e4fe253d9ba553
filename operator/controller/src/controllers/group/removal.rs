//! What is done to a worker that goes.

use std::sync::Arc;

use dask_operator_api::Reason;

use super::misfits::Misfit;
use crate::cluster_cache::records::PodRecord;

/// A worker to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// What is deleted.
    pub object: Object,
    /// Its name, which is the worker's.
    pub name: String,
    /// Its UID: an object made again under the same name is spared.
    pub uid: String,
    /// The one version that may be deleted; `None` for any.
    pub version: Option<u64>,
    /// Why it goes.
    pub cause: Cause,
}

/// The kind of object that a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A pod of ours.
    Pod,
    /// A Deployment of the Python operator.
    Deployment,
}

/// Why a worker is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It had failed, rather than being one too many.
    Failed,
    /// One too many, and nothing of it runs.
    Idle,
    /// The scheduler confirmed that nothing is left on it.
    Drained,
    /// There is no scheduler that could know of anything on it.
    SchedulerGone,
    /// It is of an older template, and nothing of it runs.
    Outdated,
    /// It cannot start, and its replacement is made otherwise.
    Misfit(Misfit),
    /// Its time to drain has run out; what is lost, in words.
    Forced(String),
}

impl Removal {
    /// The deletion of a pod that ended.
    pub(super) fn of_ended(pod: &PodRecord) -> Self {
        // One that was to go anyway did not fail.
        let cause = if pod.drain.is_some() { Cause::Drained } else { Cause::Failed };
        Self {
            object: Object::Pod,
            name: pod.name.to_string(),
            uid: pod.uid.to_string(),
            // What only the scheduler could say is true of the pod that it was asked about.
            version: pod.worker_ended.map(|_| pod.resource_version),
            cause,
        }
    }

    /// Whether it had failed.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        self.cause == Cause::Failed
    }
}

/// A pod to mark, so that it is drained and then deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct Marking {
    /// The pod, in the version for which this was decided.
    pub pod: Arc<PodRecord>,
    /// Why it has to go.
    pub reason: Reason,
}

/// What keeps a group from its wanted size, or brings it there: the condition `Scaling`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The reason.
    pub reason: Reason,
    /// The message; names a worker where it can.
    pub message: String,
}

impl Finding {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
