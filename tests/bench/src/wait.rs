//! Waiting with a deadline.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(50);

/// Waits until the check holds.
///
/// # Errors
/// When it does not in [`PATIENCE`].
pub async fn wait_for(what: &str, mut check: impl AsyncFnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !check().await {
        anyhow::ensure!(Instant::now() < deadline, "waited {} s in vain for {what}", PATIENCE.as_secs());
        sleep(POLL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_check_holds_or_patience_does() {
        let mut left = 3;
        let countdown = async || {
            left -= 1;
            left == 0
        };
        wait_for("the countdown", countdown).await.unwrap();
        let error = wait_for("a miracle", async || false).await.unwrap_err();
        assert_eq!(error.to_string(), "waited 120 s in vain for a miracle");
    }
}
