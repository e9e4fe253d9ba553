//! Waiting for a condition with a deadline.

use std::time::{Duration, Instant};

/// Between two looks: short beside a process start, long beside the cost of a look.
const INTERVAL: Duration = Duration::from_millis(30);

/// Looks until `condition` holds; `false` when it did not within `patience`.
pub(crate) fn until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
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
}
