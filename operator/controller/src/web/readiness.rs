//! Whether the operator can do its work, and what is in the way. Leading is not part of it.

use std::fmt;

use crate::cluster_cache::WatchHealth;
use crate::preflight::Preflight;

/// A watch that has failed for so many seconds is in the way; shorter failures mend themselves.
const FAILING: f64 = 60.0;

/// What the readiness probe answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// What is in the way, and how to mend it; empty when ready.
    pub obstacles: Vec<String>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

impl Readiness {
    /// Judges the state of the operator. Pure. `complete` says whether all watches have delivered their first
    /// list; `notice` is the election's.
    #[must_use]
    pub fn of(
        preflight: &Preflight,
        watches: &[WatchHealth],
        complete: bool,
        notice: Option<String>,
    ) -> Self {
        let mut obstacles: Vec<String> = preflight.missing.iter().map(ToString::to_string).collect();
        for watch in watches {
            let place = watch
                .namespace
                .as_ref()
                .map_or("all namespaces".to_owned(), |name| format!("namespace {name}"));
            match (&watch.last_error, watch.seconds_failing) {
                (Some(error), Some(seconds)) if seconds >= FAILING || !watch.ready => obstacles.push(format!(
                    "the watch of {} in {place} has failed for {seconds:.0} s and is tried again: {error}",
                    watch.kind
                )),
                _ if !watch.ready => obstacles.push(format!("waiting for the first list of {} in {place}", watch.kind)),
                _ => {}
            }
        }
        if obstacles.is_empty() && !complete {
            obstacles.push("the watches are being started".to_owned());
        }
        let notes = preflight.advice.iter().map(ToString::to_string).chain(notice).collect();
        Self { obstacles, notes }
    }

    /// Whether nothing is in the way.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.obstacles.is_empty()
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.is_ready() { "ready" } else { "not ready" })?;
        self.obstacles.iter().try_for_each(|obstacle| writeln!(f, "- {obstacle}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Missing;

    fn watch(ready: bool, failing: Option<f64>) -> WatchHealth {
        WatchHealth {
            kind: "Pod",
            namespace: Some("team-a".to_owned()),
            ready,
            seconds_since_activity: 1.0,
            seconds_failing: failing,
            last_error: failing.map(|_| "pods is forbidden".to_owned()),
        }
    }

    fn missing(what: &str) -> Missing {
        Missing { what: what.to_owned(), cure: "install it".to_owned() }
    }

    #[test]
    fn ready_with_notes() {
        let preflight = Preflight { missing: Vec::new(), advice: vec![missing("no right to create events")] };
        let readiness = Readiness::of(&preflight, &[watch(true, None)], true, Some("no lease".to_owned()));
        assert!(readiness.is_ready());
        assert_eq!(
            readiness.to_string(),
            "ready\nnote: no right to create events: install it\nnote: no lease\n"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let preflight = Preflight { missing: vec![missing("a definition")], advice: Vec::new() };
        let readiness = Readiness::of(&preflight, &[], false, None);
        assert_eq!(readiness.to_string(), "not ready\n- a definition: install it\n");
    }

    #[test]
    fn before_the_first_lists_it_is_not_ready() {
        let fine = Preflight::default();
        assert_eq!(Readiness::of(&fine, &[], false, None).obstacles, ["the watches are being started"]);
        let waiting = Readiness::of(&fine, &[watch(false, None)], false, None);
        assert_eq!(waiting.obstacles, ["waiting for the first list of Pod in namespace team-a"]);
        let failing = Readiness::of(&fine, &[watch(false, Some(3.0))], false, None);
        assert!(
            failing.obstacles[0].contains("failed for 3 s") && failing.obstacles[0].contains("forbidden")
        );
    }

    #[test]
    fn a_watch_may_fail_for_a_while() {
        let fine = Preflight::default();
        assert!(Readiness::of(&fine, &[watch(true, Some(59.0))], true, None).is_ready());
        assert!(!Readiness::of(&fine, &[watch(true, Some(60.0))], true, None).is_ready());
    }
}
