//! What must be there before the operator can work: definitions that are new enough, rights, namespaces.
//!
//! The operator does not crash for want of them. It waits, says in its readiness what is missing and how to mend
//! it, and starts by itself.

mod evaluate;
mod inspect;
mod requirements;

use std::collections::BTreeSet;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

pub use evaluate::{Missing, Preflight};
pub use requirements::{EVENT_RIGHT, RIGHTS, Right};

use crate::settings::Settings;
use inspect::{Depth, Inspection, Inspector};

/// Pause between two inspections while something is missing.
const MISSING_INTERVAL: Duration = Duration::from_secs(10);
/// Pause between two inspections while all is well.
const ROUTINE_INTERVAL: Duration = Duration::from_mins(3);

/// What the inspections found. Clones follow the same inspections.
#[derive(Clone, Debug)]
pub struct Findings {
    latest: watch::Receiver<Inspection>,
}

impl Findings {
    /// What is missing now.
    #[must_use]
    pub fn preflight(&self) -> Preflight {
        self.latest.borrow().preflight.clone()
    }

    /// Waits until nothing is missing; returns the namespaces to watch, or `None` for all. Never comes back if the
    /// inspections end before.
    pub async fn complete(&mut self) -> Option<BTreeSet<String>> {
        let complete = self.latest.wait_for(|found| found.preflight.is_fine()).await;
        let namespaces = complete.map(|found| found.namespaces.clone());
        match namespaces {
            Ok(namespaces) => namespaces,
            Err(_) => std::future::pending().await,
        }
    }
}

/// Inspects again and again.
pub struct Inspections {
    inspector: Inspector,
    latest: watch::Sender<Inspection>,
}

impl std::fmt::Debug for Inspections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inspections").field("latest", &self.latest).finish_non_exhaustive()
    }
}

impl Inspections {
    /// Inspections for these settings; they begin with [`Inspections::run`].
    #[must_use]
    pub fn new(client: Client, settings: &Settings) -> (Self, Findings) {
        let not_yet = Missing::new("what the operator needs is not checked yet", "wait a moment");
        let preflight = Preflight { missing: vec![not_yet], advice: Vec::new() };
        let (latest, findings) = watch::channel(Inspection { preflight, namespaces: None });
        let selection = settings.namespaces();
        let inspector = Inspector { client, selection, events: settings.events_enabled };
        (Self { inspector, latest }, Findings { latest: findings })
    }

    /// Inspects for ever: often and closely while something is missing or `troubled` says that a watch fails, else
    /// now and then, by small reads only.
    pub async fn run(self, troubled: impl Fn() -> bool) {
        let mut memory = Memory::default();
        let worried = || !self.latest.borrow().preflight.is_fine() || troubled();
        loop {
            let depth = if worried() { Depth::Full } else { Depth::Quick };
            let found = self.inspector.inspect(depth).await;
            let inspected = Instant::now();
            let before = self.latest.borrow().clone();
            let now = memory.conclude(&before, found, depth);
            log_changes(&before.preflight, &now.preflight);
            if now != before {
                self.latest.send_replace(now);
            }
            loop {
                sleep(MISSING_INTERVAL).await;
                if worried() || inspected.elapsed() >= ROUTINE_INTERVAL {
                    break;
                }
            }
        }
    }
}

/// What an inspection has to know of earlier ones.
#[derive(Debug, Default)]
struct Memory {
    /// The advice of the last close look.
    advice: Vec<Missing>,
    /// Whether an inspection was complete, so that the watches were started.
    started: bool,
    /// The namespaces of that inspection; `None` for all.
    watched: Option<BTreeSet<String>>,
}

impl Memory {
    fn conclude(
        &mut self,
        before: &Inspection,
        found: Result<Inspection, Missing>,
        depth: Depth,
    ) -> Inspection {
        let mut now = match found {
            Ok(found) => found,
            // What was complete stays so while the API server is away: this replica can do nothing about it.
            Err(_) if before.preflight.is_fine() => return before.clone(),
            Err(missing) => {
                let preflight = Preflight { missing: vec![missing], advice: Vec::new() };
                return Inspection { preflight, namespaces: None };
            }
        };
        match depth {
            Depth::Full => self.advice.clone_from(&now.preflight.advice),
            Depth::Quick => now.preflight.advice.clone_from(&self.advice),
        }
        if now.preflight.is_fine() {
            if !std::mem::replace(&mut self.started, true) {
                self.watched.clone_from(&now.namespaces);
            }
            now.preflight.advice.extend(unwatched(self.watched.as_ref(), now.namespaces.as_ref()));
            now.namespaces.clone_from(&self.watched);
        }
        now
    }
}

/// Namespaces that match the patterns and are not watched, because they were created later.
fn unwatched(watched: Option<&BTreeSet<String>>, matching: Option<&BTreeSet<String>>) -> Option<Missing> {
    let new: Vec<&str> = matching?.difference(watched?).map(String::as_str).collect();
    let what = format!("namespaces that match --namespace are not watched: {}", new.join(", "));
    (!new.is_empty())
        .then(|| Missing::new(what, "they were created after the operator was started; restart it"))
}

fn log_changes(before: &Preflight, now: &Preflight) {
    for missing in now.missing.iter().filter(|missing| !before.missing.contains(missing)) {
        warn!(cure = missing.cure, "{}", missing.what);
    }
    for advice in now.advice.iter().filter(|advice| !before.advice.contains(advice)) {
        warn!(consequence = advice.cure, "{}", advice.what);
    }
    if now.is_fine() && !before.is_fine() {
        info!("everything that the operator needs is there");
    }
}

#[cfg(test)]
mod tests;
