//! How the watches do. Pure: `now` is an argument.

use std::time::{Duration, Instant};

/// A watch that failed tries again at most this long after; the longest pause of kube's back-off is 30 s and a
/// connection may take as long to fail. A failure that is not followed by another in this time is over.
const FAILURES_REPEAT: Duration = Duration::from_secs(90);

/// How one watch does.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchHealth {
    /// Kind that it watches.
    pub kind: &'static str,
    /// The one namespace that it watches; `None` for all.
    pub namespace: Option<String>,
    /// Whether it has delivered its first list.
    pub ready: bool,
    /// Seconds since the API server sent anything on it; it sends a bookmark about every minute. Since the start,
    /// if it has not sent anything yet.
    pub seconds_since_activity: f64,
    /// Since how many seconds it fails, while it does.
    pub seconds_failing: Option<f64>,
    /// The last failure, while it fails.
    pub last_error: Option<String>,
}

/// The state of all watches.
#[derive(Debug, Default)]
pub(super) struct Health {
    watches: Vec<State>,
}

#[derive(Debug)]
struct State {
    kind: &'static str,
    namespace: Option<String>,
    ready: bool,
    activity: Instant,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    since: Instant,
    last: Instant,
    error: String,
}

impl Health {
    /// Adds a watch that starts now; returns its number.
    pub(super) fn add(&mut self, kind: &'static str, namespace: Option<&str>, now: Instant) -> usize {
        let namespace = namespace.map(str::to_owned);
        self.watches.push(State { kind, namespace, ready: false, activity: now, failure: None });
        self.watches.len() - 1
    }

    /// The API server accepted the watch. Whether it works remains to be seen.
    pub(super) fn started(&mut self, number: usize, now: Instant) {
        self.watches[number].activity = now;
    }

    /// The API server sent something on this watch.
    pub(super) fn active(&mut self, number: usize, now: Instant) {
        self.watches[number].activity = now;
        self.watches[number].failure = None;
    }

    /// The watch delivered a complete list.
    pub(super) fn listed(&mut self, number: usize) {
        self.watches[number].ready = true;
    }

    /// The watch failed and will try again.
    pub(super) fn failed(&mut self, number: usize, error: String, now: Instant) {
        let running = self.watches[number].failure.take().filter(|failure| failure.repeats(now));
        let since = running.map_or(now, |failure| failure.since);
        self.watches[number].failure = Some(Failure { since, last: now, error });
    }

    pub(super) fn report(&self, now: Instant) -> Vec<WatchHealth> {
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs_f64();
        let report = |watch: &State| {
            let failure = watch.failure.as_ref().filter(|failure| failure.repeats(now));
            WatchHealth {
                kind: watch.kind,
                namespace: watch.namespace.clone(),
                ready: watch.ready,
                seconds_since_activity: seconds(watch.activity),
                seconds_failing: failure.map(|failure| seconds(failure.since)),
                last_error: failure.map(|failure| failure.error.clone()),
            }
        };
        self.watches.iter().map(report).collect()
    }
}

impl Failure {
    fn repeats(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < FAILURES_REPEAT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(health: &Health, now: Instant) -> WatchHealth {
        let mut report = health.report(now);
        assert_eq!(report.len(), 1);
        report.remove(0)
    }

    #[test]
    fn a_watch_is_as_fresh_as_its_last_sign_of_life() {
        let (mut health, start) = (Health::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let watch = health.add("Pod", Some("ns"), start);
        assert!(!one(&health, start).ready);
        health.active(watch, after(5));
        health.listed(watch);
        let expected = WatchHealth {
            kind: "Pod",
            namespace: Some("ns".to_owned()),
            ready: true,
            seconds_since_activity: 7.0,
            seconds_failing: None,
            last_error: None,
        };
        assert_eq!(one(&health, after(12)), expected);
    }

    #[test]
    fn failures_count_from_the_first_until_a_sign_of_life() {
        let (mut health, start) = (Health::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let watch = health.add("Pod", None, start);
        health.failed(watch, "refused".to_owned(), after(10));
        health.started(watch, after(50));
        health.failed(watch, "timed out".to_owned(), after(60));
        let report = one(&health, after(70));
        assert_eq!((report.seconds_failing, report.last_error.as_deref()), (Some(60.0), Some("timed out")));
        health.active(watch, after(71));
        assert_eq!(one(&health, after(72)).seconds_failing, None);
    }

    #[test]
    fn a_failure_that_does_not_repeat_is_over() {
        let (mut health, start) = (Health::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let watch = health.add("Pod", None, start);
        health.failed(watch, "refused".to_owned(), after(0));
        assert_eq!(one(&health, after(89)).seconds_failing, Some(89.0));
        assert_eq!(one(&health, after(90)).seconds_failing, None);
        health.failed(watch, "refused".to_owned(), after(200));
        assert_eq!(one(&health, after(205)).seconds_failing, Some(5.0));
    }
}
