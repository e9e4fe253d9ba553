//! Why a walk could not go on.

use std::io;

/// Any of it: callers only ever print it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kubernetes, the operator's installation, or an object.
    #[error(transparent)]
    Kit(#[from] e2e_tests::Error),
    /// A program, such as kubectl.
    #[error(transparent)]
    Command(#[from] e2e_tests::command::Error),
    /// The local cluster.
    #[error(transparent)]
    Testbed(#[from] testbed::Error),
    /// An image.
    #[error(transparent)]
    Image(#[from] testbed::images::Error),
    /// The audit's pipes broke.
    #[error("failed to talk to the audit")]
    Pipe(#[from] io::Error),
    /// The audit ended.
    #[error("failed to hear from the audit: it ended, saying {said:?}")]
    AuditEnded {
        /// What it wrote to standard error at last.
        said: String,
    },
    /// The audit did not answer.
    #[error("failed to hear from the audit within {seconds} s")]
    AuditSilent {
        /// How long was waited.
        seconds: u64,
    },
    /// The audit answered something else.
    #[error("failed to understand the audit's answer {answer:?}")]
    AuditAnswer {
        /// What it answered.
        answer: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The audit could not do it.
    #[error("failed to audit: {message}")]
    AuditFailed {
        /// What it said.
        message: String,
    },
    /// There is nothing that the step could be done to.
    #[error("failed to find {what}")]
    Absent {
        /// What is not there.
        what: String,
    },
    /// A step of the walk.
    #[error("failed to take step {number}, {step}")]
    Step {
        /// From 1.
        number: usize,
        /// What it is.
        step: String,
        /// Why not.
        source: Box<Self>,
    },
}
