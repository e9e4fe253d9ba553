//! A layer in the operator's client that records every request and spoils those that a plan names.

mod answer;
mod call;
mod plans;
mod service;
mod watches;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

pub use answer::Refusal;
pub use call::{Call, Resource, listed};
pub use plans::every_nth_write;

use watches::{Blackout, WatchControl};

/// What happens to one request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// It is sent and answered.
    None,
    /// It fails without being sent.
    FailBeforeSending,
    /// It is sent and carried out; the caller gets an error.
    LoseReply,
    /// It is not sent; the caller gets this answer.
    Refuse(Refusal),
    /// It is sent, and the answer comes this much later.
    DelayReply(Duration),
    /// It is sent and carried out; the caller, and every request from then on, gets an error.
    Crash,
    /// The body of a watch ends after so many chunks.
    EndWatchAfter(usize),
    /// The chunks of a watch pass only in the last `open` of every `period`.
    HoldBackWatch {
        /// Length of a round.
        period: Duration,
        /// For how long of it chunks pass.
        open: Duration,
    },
}

type Plan = dyn Fn(&Call) -> Fault + Send + Sync;

/// The recorder and spoiler of one client's requests; clones share their state.
#[derive(Clone)]
pub struct Faults {
    shared: Arc<Shared>,
}

struct Shared {
    plan: Mutex<Arc<Plan>>,
    log: Mutex<Log>,
    dead: AtomicBool,
    crashed: watch::Sender<bool>,
    watches: watch::Sender<WatchControl>,
    blackout: Mutex<Blackout>,
}

#[derive(Default)]
struct Log {
    calls: Vec<Call>,
    writes: usize,
    spoiled: usize,
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").field("calls", &self.log().calls.len()).finish_non_exhaustive()
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::recorder()
    }
}

impl Faults {
    /// Records only.
    #[must_use]
    pub fn recorder() -> Self {
        Self::plan(|_| Fault::None)
    }

    /// Spoils the requests for which the plan says so.
    pub fn plan(plan: impl Fn(&Call) -> Fault + Send + Sync + 'static) -> Self {
        let shared = Shared {
            plan: Mutex::new(Arc::new(plan)),
            log: Mutex::default(),
            dead: AtomicBool::new(false),
            crashed: watch::channel(false).0,
            watches: watch::channel(WatchControl::default()).0,
            blackout: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Replaces the plan; the numbers of requests and writes go on.
    pub fn set_plan(&self, plan: impl Fn(&Call) -> Fault + Send + Sync + 'static) {
        *self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(plan);
    }

    /// All requests so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.log().calls.clone()
    }

    /// All requests so far that change something, but Events and Leases.
    #[must_use]
    pub fn writes(&self) -> Vec<Call> {
        self.log().calls.iter().filter(|call| call.write.is_some()).cloned().collect()
    }

    /// Number of [`Faults::writes`].
    #[must_use]
    pub fn write_count(&self) -> usize {
        self.log().writes
    }

    /// How many requests were spoiled.
    #[must_use]
    pub fn spoiled(&self) -> usize {
        self.log().spoiled
    }

    /// What was used of the API, as RBAC names it: `(verb, group, resource or resource/subresource)`. What was
    /// forbidden was asked in case it is allowed.
    #[must_use]
    pub fn rights_used(&self) -> BTreeSet<(String, String, String)> {
        let log = self.log();
        let carried_out = log.calls.iter().filter(|call| call.status != Some(403));
        let resources = carried_out.filter_map(|call| Some((call, call.resource.as_ref()?)));
        resources
            .map(|(call, resource)| (call.verb.to_owned(), resource.group.clone(), resource.path()))
            .collect()
    }

    /// From now on every request fails, as if the process had no network.
    pub fn kill(&self) {
        self.shared.dead.store(true, Ordering::SeqCst);
        self.cut_watches();
    }

    /// Returns when a planned crash has happened.
    pub async fn crashed(&self) {
        let mut crashed = self.shared.crashed.subscribe();
        // The sender lives as long as `self`.
        let _ = crashed.wait_for(|crashed| *crashed).await;
    }

    /// Ends every watch that is open, as a restarted API server does.
    pub fn cut_watches(&self) {
        self.shared.watches.send_modify(|control| control.epoch += 1);
    }

    /// Keeps everything that watches bring from the caller until [`Faults::release_watches`].
    pub fn hold_watches(&self) {
        self.shared.watches.send_modify(|control| control.held = true);
    }

    /// Lets pass what was held back.
    pub fn release_watches(&self) {
        self.shared.watches.send_modify(|control| control.held = false);
    }

    /// Ends every watch, and refuses to start new ones and to list until [`Faults::end_blackout`].
    pub fn begin_blackout(&self) {
        *self.blackout() = Blackout::Now;
        self.cut_watches();
    }

    /// Lets lists pass again; a watch that starts without a new list gets 410 Gone.
    pub fn end_blackout(&self) {
        *self.blackout() = Blackout::Over(BTreeSet::new());
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn blackout(&self) -> MutexGuard<'_, Blackout> {
        self.shared.blackout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_dead(&self) -> bool {
        self.shared.dead.load(Ordering::SeqCst)
    }

    /// Numbers and records a request; returns its place in the log and what happens to it.
    fn begin(&self, mut call: Call) -> (usize, Fault) {
        let plan = self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut log = self.log();
        if call.is_write() {
            log.writes += 1;
            call.write = Some(log.writes);
        }
        call.number = log.calls.len() + 1;
        let blackout = self.blackout().answer(&call);
        let fault = blackout.map_or_else(|| plan(&call), Fault::Refuse);
        if fault != Fault::None {
            log.spoiled += 1;
            call.spoiled = true;
        }
        log.calls.push(call);
        (log.calls.len() - 1, fault)
    }

    fn note_body(&self, index: usize, body: Value) {
        if let Some(call) = self.log().calls.get_mut(index) {
            call.body = body;
        }
    }

    fn note_status(&self, index: usize, status: u16) {
        if let Some(call) = self.log().calls.get_mut(index) {
            call.status = Some(status);
        }
    }

    fn crash(&self) {
        self.shared.dead.store(true, Ordering::SeqCst);
        self.shared.crashed.send_replace(true);
    }
}
