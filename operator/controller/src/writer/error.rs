//! Why a call did not succeed.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use kube::core::Status;
use thiserror::Error;

use super::refusal::{Refusal, classify_refusal};
use crate::backoff::ErrorClass;
use crate::cluster_cache::ObjectKey;

/// What a call was to do to which object; reads as `create Pod ns/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The verb, as in RBAC.
    pub verb: &'static str,
    /// Kind of the object.
    pub kind: Cow<'static, str>,
    /// Namespace and name of the object.
    pub key: ObjectKey,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.verb, self.kind, self.key)
    }
}

/// Why a call did not succeed.
#[derive(Debug, Error)]
pub enum WriteError {
    /// Another process leads; nothing was sent.
    #[error("failed to {0}: this process does not lead")]
    NotLeading(Target),
    /// The object cannot be written as JSON; nothing was sent.
    #[error("failed to encode an object")]
    Encode(#[from] serde_json::Error),
    /// The request cannot be made; nothing was sent.
    #[error("failed to build the request to {target}")]
    Request {
        /// What was to be done.
        target: Target,
        /// What is wrong with it.
        #[source]
        source: Box<kube::core::request::Error>,
    },
    /// The API server will not do this; somebody has to change something.
    #[error("failed to {target}")]
    Refused {
        /// What was to be done.
        target: Target,
        /// What the user has to know.
        #[source]
        refusal: Refusal,
    },
    /// The API server is busy.
    #[error("failed to {target}: the API server is too busy")]
    Throttled {
        /// What was to be done.
        target: Target,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The object has changed since it was read, or is not the one that was meant.
    #[error("failed to {target}: it was changed meanwhile")]
    Conflict {
        /// What was to be done.
        target: Target,
    },
    /// The object, its namespace or its kind does not exist.
    #[error("failed to {target}: {message}")]
    NotFound {
        /// What was to be done.
        target: Target,
        /// The API server's words.
        message: String,
    },
    /// The namespace is being deleted.
    #[error("failed to {target}: the namespace is being deleted")]
    NamespaceTerminating {
        /// What was to be done.
        target: Target,
    },
    /// The call may have been carried out or not.
    #[error("failed to {target}, which may have happened nevertheless")]
    Unanswered {
        /// What was to be done.
        target: Target,
        /// What came instead of an answer.
        #[source]
        source: NoAnswer,
    },
}

/// What came instead of an answer.
#[derive(Debug, Error)]
pub enum NoAnswer {
    /// Nothing in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The lease was lost while the call was under way; waiting on could write in another leader's time.
    #[error("this process stopped leading meanwhile")]
    LeaseLost,
    /// The connection failed.
    #[error("failed to talk to the API server")]
    Transport(#[source] Box<kube::Error>),
    /// An error of the server, which does not say whether the call was carried out.
    #[error("the API server answered {code}: {message}")]
    Server {
        /// HTTP status code.
        code: u16,
        /// Its words.
        message: String,
    },
    /// An answer that is not the object.
    #[error("failed to read the answer")]
    Unreadable(#[source] serde_json::Error),
}

impl WriteError {
    /// The error behind a status that is not a success; `retry_after` is from the header.
    pub(super) fn from_status(target: Target, status: &Status, retry_after: Option<Duration>) -> Self {
        if let Some(refusal) = classify_refusal(&target, status) {
            return Self::Refused { target, refusal };
        }
        let message = status.message.clone();
        match status.code {
            403 => Self::NamespaceTerminating { target },
            404 => Self::NotFound { target, message },
            409 => Self::Conflict { target },
            429 => {
                let in_body = status.details.as_ref().map(|details| details.retry_after_seconds);
                let in_body = in_body.filter(|seconds| *seconds > 0).map(|s| Duration::from_secs(s.into()));
                Self::Throttled { target, retry_after: retry_after.or(in_body) }
            }
            code => Self::Unanswered { target, source: NoAnswer::Server { code, message } },
        }
    }

    /// How soon it is worth another try.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Conflict { .. } => ErrorClass::Conflict,
            Self::Throttled { retry_after, .. } => ErrorClass::Throttled(*retry_after),
            Self::NotLeading(_) | Self::NotFound { .. } | Self::Unanswered { .. } => ErrorClass::Transient,
            Self::Encode(_)
            | Self::Request { .. }
            | Self::Refused { .. }
            | Self::NamespaceTerminating { .. } => ErrorClass::Refused,
        }
    }

    /// The same as one of a few words, for metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::NotLeading(_) => "not_leading",
            Self::Encode(_) | Self::Request { .. } => "not_sent",
            Self::Refused { .. } => "refused",
            Self::Throttled { .. } => "throttled",
            Self::Conflict { .. } => "conflict",
            Self::NotFound { .. } => "not_found",
            Self::NamespaceTerminating { .. } => "namespace_terminating",
            Self::Unanswered { .. } => "unanswered",
        }
    }
}
