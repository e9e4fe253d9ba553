//! Whether the process is alive: it gets time to run, and its watches hear from the API server or try to.
//!
//! Only what a restart can mend makes it unhealthy. An API server that is away, or refuses, is not among that.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use crate::cluster_cache::WatchHealth;

/// How often the runtime shows that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// A runtime that has not run a task for so long hangs.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A watch that neither heard anything for so long nor fails, has died. Watches are bookmarked about every minute
/// and end by themselves within five.
const LONGEST_SILENCE: Duration = Duration::from_mins(10);

/// Beats as long as the runtime of the operator gets its tasks done.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    origin: Instant,
    last: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { origin: Instant::now(), last: Arc::default() }
    }
}

impl Heartbeat {
    /// Beats for ever.
    pub async fn beat(self) {
        loop {
            self.last.store(millis(self.origin.elapsed()), Ordering::Relaxed);
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Time since the last beat.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.origin.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What the health probe answers; `now` is what kopf's answers too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The time.
    pub now: Timestamp,
    /// What a restart should mend; empty in health.
    pub problems: Vec<String>,
}

impl Health {
    /// Judges the state of the process. Pure.
    #[must_use]
    pub fn of(now: Timestamp, pause: Duration, watches: &[WatchHealth]) -> Self {
        let mut problems = Vec::new();
        if pause > LONGEST_PAUSE {
            problems.push(format!("no task was run for {} s", pause.as_secs()));
        }
        let dead = |watch: &&WatchHealth| {
            watch.seconds_failing.is_none() && watch.seconds_since_activity > LONGEST_SILENCE.as_secs_f64()
        };
        problems.extend(watches.iter().filter(dead).map(|watch| {
            format!("the watch of {} is dead: silent for {:.0} s", watch.kind, watch.seconds_since_activity)
        }));
        Self { now, problems }
    }

    /// Whether there are no problems.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(silent: f64, failing: Option<f64>) -> WatchHealth {
        WatchHealth {
            kind: "Pod",
            namespace: None,
            ready: true,
            seconds_since_activity: silent,
            seconds_failing: failing,
            last_error: failing.map(|_| "refused".to_owned()),
        }
    }

    fn problems(pause: u64, watches: &[WatchHealth]) -> Vec<String> {
        Health::of(Timestamp::UNIX_EPOCH, Duration::from_secs(pause), watches).problems
    }

    #[test]
    fn before_any_watch_and_with_fresh_ones_all_is_well() {
        assert_eq!(problems(0, &[]), [""; 0]);
        assert_eq!(problems(1, &[watch(70.0, None)]), [""; 0]);
    }

    #[test]
    fn an_api_server_that_is_away_is_no_reason_to_restart() {
        assert_eq!(problems(1, &[watch(4_000.0, Some(3_900.0))]), [""; 0]);
    }

    #[test]
    fn a_dead_watch_and_a_stuck_runtime_are() {
        assert_eq!(
            problems(1, &[watch(5.0, None), watch(601.0, None)]),
            ["the watch of Pod is dead: silent for 601 s"]
        );
        assert_eq!(problems(61, &[]), ["no task was run for 61 s"]);
    }

    #[tokio::test]
    async fn the_heart_beats_while_tasks_run() {
        let heartbeat = Heartbeat::default();
        let beating = tokio::spawn(heartbeat.clone().beat());
        let deadline = Instant::now() + Duration::from_secs(10);
        while heartbeat.last.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < deadline, "no second beat");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(heartbeat.pause() < LONGEST_PAUSE);
        beating.abort();
    }
}
