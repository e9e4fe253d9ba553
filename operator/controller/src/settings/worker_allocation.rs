//! Values of `--worker-batch-size` and `--worker-batch-delay`, written as in Dask's configuration.

use std::time::Duration;

use thiserror::Error;

/// Number of workers created at once; `None` for no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize(pub Option<usize>);

/// A value that is not understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum InvalidAllocation {
    #[error("a batch needs at least one worker: give a number from 1 on, or null for no limit")]
    BatchSize,
    #[error("the delay must be a number of seconds, 0 or more, as 0.5")]
    Delay,
}

pub(super) fn batch_size(text: &str) -> Result<BatchSize, InvalidAllocation> {
    if is_null(text) {
        return Ok(BatchSize(None));
    }
    let size = text.trim().parse().ok().filter(|size| *size > 0);
    size.map(|size| BatchSize(Some(size))).ok_or(InvalidAllocation::BatchSize)
}

pub(super) fn delay(text: &str) -> Result<Duration, InvalidAllocation> {
    if is_null(text) {
        return Ok(Duration::ZERO);
    }
    let seconds: f64 = text.trim().parse().map_err(|_| InvalidAllocation::Delay)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| InvalidAllocation::Delay)
}

/// Dask reads variables as Python literals or YAML.
fn is_null(text: &str) -> bool {
    matches!(text.trim(), "" | "None" | "null" | "~")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("20", Some(20))]
    #[case(" 1 ", Some(1))]
    #[case("None", None)]
    #[case("null", None)]
    #[case("", None)]
    fn batch_sizes(#[case] text: &str, #[case] size: Option<usize>) {
        assert_eq!(batch_size(text), Ok(BatchSize(size)));
    }

    #[rstest]
    #[case("0")]
    #[case("-3")]
    #[case("many")]
    #[case("2.5")]
    fn no_batch_sizes(#[case] text: &str) {
        assert_eq!(batch_size(text), Err(InvalidAllocation::BatchSize));
    }

    #[rstest]
    #[case("0", 0)]
    #[case("10", 10_000)]
    #[case("0.25", 250)]
    #[case("null", 0)]
    fn delays(#[case] text: &str, #[case] milliseconds: u64) {
        assert_eq!(delay(text), Ok(Duration::from_millis(milliseconds)));
    }

    #[rstest]
    #[case("-1")]
    #[case("10s")]
    #[case("NaN")]
    #[case("inf")]
    fn no_delays(#[case] text: &str) {
        assert_eq!(delay(text), Err(InvalidAllocation::Delay));
    }
}
