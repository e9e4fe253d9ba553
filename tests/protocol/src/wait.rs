//! Waiting for a condition with a deadline.

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_millis(50);

/// Looks again and again until `found` says that this is it.
///
/// # Panics
/// With the last look, when it is not within a minute.
pub async fn until<T: Debug>(what: &str, mut look: impl AsyncFnMut() -> T, found: impl Fn(&T) -> bool) -> T {
    let start = Instant::now();
    loop {
        let seen = look().await;
        if found(&seen) {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}: {seen:?}");
        sleep(INTERVAL).await;
    }
}
