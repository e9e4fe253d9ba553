//! Why a scheduler or worker could not be asked.

use std::{fmt, io, time::Duration};

/// What was being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Opening the TCP connection.
    Connect,
    /// Agreeing on TLS.
    Tls,
    /// Exchanging the first messages.
    Handshake,
    /// Calling this operation of the peer.
    Call(String),
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => formatter.write_str("connect"),
            Self::Tls => formatter.write_str("agree on TLS"),
            Self::Handshake => formatter.write_str("shake hands"),
            Self::Call(op) => write!(formatter, "call {op}"),
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody accepts connections there.
    #[error("failed to connect to {peer}")]
    Connect {
        /// Host and port.
        peer: String,
        /// What the system answered.
        source: io::Error,
    },
    /// No answer in time. It may be busy: no sign of idleness nor of failure.
    #[error("failed to {step} within {} s", after.as_secs_f64())]
    Timeout {
        /// During what.
        step: Step,
        /// The deadline.
        after: Duration,
    },
    /// The answer began to come, and did not end in time.
    #[error("failed to {step}: the answer did not end within {} s", after.as_secs_f64())]
    TooSlow {
        /// During what.
        step: Step,
        /// The deadline, from its first large part.
        after: Duration,
    },
    /// The connection broke. A peer that speaks another protocol, or wants TLS, closes it too.
    #[error("failed to {step}: connection lost")]
    Closed {
        /// During what.
        step: Step,
        /// What the system answered.
        source: io::Error,
    },
    /// The answer is longer than this client reads. A legitimate one can be: a list of too many workers.
    #[error("failed to {step}: the answer has more than {limit} {what}")]
    TooLarge {
        /// During what.
        step: Step,
        /// What there is too much of.
        what: &'static str,
        /// How much would be allowed.
        limit: u64,
    },
    /// What came is no message of Dask's.
    #[error("failed to {step}: not a valid message")]
    Garbled {
        /// During what.
        step: Step,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The peer raised an exception.
    #[error("failed to call {op}: {exception_text}")]
    Remote {
        /// Which operation.
        op: String,
        /// The exception as Python shows it, such as `KeyError('x')`; cut, and without control characters.
        exception_text: String,
    },
    /// An answer in a form that this client does not understand.
    #[error("failed to call {op}: expected {expected}")]
    Unsupported {
        /// Which operation.
        op: String,
        /// What the answer should have been.
        expected: &'static str,
    },
    /// Dask would choose workers itself if none were named: never sent.
    #[error("failed to call {op}: no workers named")]
    NoWorkers {
        /// Which operation.
        op: String,
    },
    /// An earlier call on this connection failed half-way.
    #[error("failed to call {op}: connection is unusable after an earlier failure")]
    Unusable {
        /// Which operation.
        op: String,
    },
}

impl Error {
    /// Whether the peer raised this kind of exception, such as `TypeError`.
    #[must_use]
    pub fn is_exception(&self, kind: &str) -> bool {
        match self {
            Self::Remote { exception_text, .. } => {
                exception_text.strip_prefix(kind).is_some_and(|rest| rest.starts_with('('))
            }
            _ => false,
        }
    }

    /// Whether the answer did not come in time: unknown, so change nothing.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::TooSlow { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> Error {
        Error::Remote { op: "identity".into(), exception_text: text.into() }
    }

    #[test]
    fn exceptions_are_told_apart_by_their_whole_name() {
        let error = remote("TypeError(\"unexpected keyword argument 'n_workers'\")");
        assert!(error.is_exception("TypeError") && !error.is_exception("Type"));
        assert!(!error.is_exception("ValueError") && !error.is_timeout());
        let unusable = Error::Unusable { op: "x".into() };
        assert!(!unusable.is_exception("TypeError"));
    }

    #[test]
    fn text_says_what_failed_and_not_the_source() {
        let step = Step::Call("retire_workers".into());
        let timeout = Error::Timeout { step: step.clone(), after: Duration::from_millis(1500) };
        assert_eq!(timeout.to_string(), "failed to call retire_workers within 1.5 s");
        assert!(timeout.is_timeout());
        let closed = Error::Closed { step: Step::Handshake, source: io::Error::other("broken pipe") };
        assert_eq!(closed.to_string(), "failed to shake hands: connection lost");
        assert_eq!(std::error::Error::source(&closed).unwrap().to_string(), "broken pipe");
        assert_eq!(Step::Connect.to_string(), "connect");
        assert_eq!(Step::Tls.to_string(), "agree on TLS");
    }
}
