//! Errors in words.

use std::error::Error;

/// An error with all its causes, in one line.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_told_with_its_causes() {
        let cause = std::io::Error::other("disk full");
        let error = crate::Error::Remove { path: "/x".into(), source: cause };
        assert_eq!(chain(&error), "failed to remove /x: disk full");
    }
}
