//! Whether a restart would help.

use crate::cluster_cache::WatchHealth;

/// Silence after which a watch must have been started anew, or at least have failed: it is ended after 250 s.
const LONGEST_SILENCE: f64 = 600.0;

/// The watches that neither hear from the API server nor know that they fail: their task is stuck.
///
/// A watch that fails is no reason to restart: a new process could not reach the API server either.
pub(super) fn stuck(watches: &[WatchHealth]) -> Vec<&'static str> {
    let silent = |watch: &&WatchHealth| watch.seconds_since_activity > LONGEST_SILENCE && watch.last_error.is_none();
    watches.iter().filter(silent).map(|watch| watch.kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(seconds_since_activity: f64, last_error: Option<&str>) -> WatchHealth {
        WatchHealth {
            kind: "Pod",
            namespace: None,
            ready: true,
            seconds_since_activity,
            seconds_failing: None,
            last_error: last_error.map(str::to_owned),
        }
    }

    #[test]
    fn only_silence_without_a_reason_is_unhealthy() {
        assert_eq!(stuck(&[watch(60.0, None), watch(250.0, None)]), [""; 0]);
        assert_eq!(stuck(&[watch(3600.0, Some("connection refused"))]), [""; 0]);
        assert_eq!(stuck(&[watch(60.0, None), watch(601.0, None)]), ["Pod"]);
    }
}
