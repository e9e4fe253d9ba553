//! Errors in words.

use std::error::Error;

/// An error with its sources, in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to {0}")]
    struct Failed(&'static str, #[source] Option<Box<Self>>);

    #[test]
    fn each_cause_follows_what_it_caused() {
        assert_eq!(chain(&Failed("write", None)), "failed to write");
        let inner = Failed("connect", Some(Box::new(Failed("resolve", None))));
        let error = Failed("write", Some(Box::new(inner)));
        assert_eq!(chain(&error), "failed to write: failed to connect: failed to resolve");
    }
}
