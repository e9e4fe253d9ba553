//! Waiting for a condition, with a deadline; on failure the last state that was seen is shown.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::fault::{Faults, listed};

/// How long anything may take. Two busy cores make everything slow; what is stuck takes longer than this.
pub const PATIENCE: Duration = Duration::from_mins(2);

const INTERVAL: Duration = Duration::from_millis(100);

/// Looks until `look` answers `Ok`, and returns that; panics with the last `Err` after [`PATIENCE`].
pub async fn wait_for<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    wait_at_most(PATIENCE, what, look).await
}

/// As [`wait_for`], with another deadline.
pub async fn wait_at_most<T>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > deadline => {
                panic!("{what}: not within {} s; last seen: {seen}", deadline.as_secs())
            }
            Err(_) => sleep(INTERVAL).await,
        }
    }
}

/// Waits until an operator has written nothing for a second: longer than it spaces writes of one status.
pub async fn wait_until_quiet(faults: &Faults) {
    let mut last = (faults.write_count(), Instant::now());
    wait_for("no write for a second", async || {
        if faults.write_count() != last.0 {
            last = (faults.write_count(), Instant::now());
        }
        check(last.1.elapsed() > Duration::from_secs(1), || {
            listed(faults.writes().last().map(std::slice::from_ref).unwrap_or_default())
        })
    })
    .await;
}

/// Checks again and again for `period` that `look` answers `Ok`.
pub async fn holds_for(period: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<(), String>) {
    let start = Instant::now();
    loop {
        if let Err(seen) = look().await {
            panic!("{what}: no longer after {:.1} s: {seen}", start.elapsed().as_secs_f32());
        }
        if start.elapsed() >= period {
            return;
        }
        sleep(INTERVAL).await;
    }
}

/// `Ok` if the condition holds, else what was seen instead.
///
/// # Errors
/// When the condition does not hold.
pub fn check(holds: bool, seen: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(seen()) }
}
