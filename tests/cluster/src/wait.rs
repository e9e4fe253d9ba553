//! Waiting for a condition with a deadline.

use std::{
    env,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// Environment variable by which every patience is multiplied, for machines that are slow by nature, such as emulated
/// ones: a whole number from 1 to 100.
const VARIABLE: &str = "DASK_TESTBED_PATIENCE";

/// Between two looks: short beside a process start, long beside the cost of a look.
const INTERVAL: Duration = Duration::from_millis(30);

/// How long [`until`] waits on this machine for what elsewhere takes `usual` at most.
pub(crate) fn patience(usual: Duration) -> Duration {
    static FACTOR: OnceLock<u32> = OnceLock::new();
    usual * *FACTOR.get_or_init(|| factor(env::var(VARIABLE).ok().as_deref()))
}

fn factor(text: Option<&str>) -> u32 {
    text.and_then(|text| text.trim().parse().ok()).filter(|factor| (1..=100).contains(factor)).unwrap_or(1)
}

/// Looks until `condition` holds; `false` when it did not within the [`patience`] for `usual`.
pub(crate) fn until(usual: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let patience = patience(usual);
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_when_the_condition_holds_or_patience_ends() {
        let mut looks = 0;
        assert!(until(Duration::from_mins(1), || {
            looks += 1;
            looks == 3
        }));
        assert_eq!(looks, 3);
        assert!(!until(Duration::ZERO, || false));
    }

    #[rstest::rstest]
    #[case(None, 1)]
    #[case(Some("6"), 6)]
    #[case(Some("0"), 1)]
    #[case(Some("101"), 1)]
    #[case(Some("soon"), 1)]
    fn only_a_sensible_factor_counts(#[case] text: Option<&str>, #[case] expected: u32) {
        assert_eq!(factor(text), expected);
    }
}
