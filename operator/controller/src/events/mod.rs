//! Kubernetes Events: what the operator tells a person about an object.
//!
//! Publishing never waits. What passes the [`gate`] gets in the [`queue`]: no repetition, and no flood. One task sends it,
//! of each namespace in turn.

mod gate;
mod object;
mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dask_operator_api::Reason;
use dask_operator_api::conditions::truncated;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as KubernetesEvent;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, info};

use crate::fair::Namespace;
use crate::leader::Leadership;
use crate::settings::EventLevel;
use crate::telemetry::Metrics;
use gate::{Gate, Verdict};
use queue::{Queue, Waiting};

/// Events that are sent at a time, each of another namespace: one in which no Event can be created in time, such as one
/// with an admission webhook that hangs, holds up itself alone.
const DELIVERIES: usize = 8;

/// Severity of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// News.
    Normal,
    /// A person should look.
    Warning,
}

/// Something to tell about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Severity.
    pub type_: EventType,
    /// Why.
    pub reason: Reason,
    /// What the operator did or tried, in `PascalCase`.
    pub action: &'static str,
    /// The same words as in the condition; longer ones are cut.
    pub message: String,
}

/// Which Events are published, and in whose name.
#[derive(Clone, Debug)]
pub struct EventSettings {
    /// Whether any are.
    pub enabled: bool,
    /// The least severity.
    pub level: EventLevel,
    /// Name of this replica.
    pub reporter: String,
}

/// Where Events are put. Clones share one queue.
#[derive(Clone, Debug)]
pub struct EventSink {
    shared: Arc<Shared>,
    /// Wakes the task; it ends when the last of them is dropped.
    wake: mpsc::Sender<()>,
    settings: Arc<EventSettings>,
    leadership: Leadership,
    metrics: Metrics,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Events that are neither sent nor given up.
    open: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    gate: Gate,
    queue: Queue,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink {
    /// Starts the task that hands Events to `deliver`, one at a time of each namespace. It ends when all sinks are
    /// dropped.
    pub fn start<F, Fut, E>(
        settings: EventSettings,
        leadership: Leadership,
        metrics: Metrics,
        deliver: F,
    ) -> (Self, JoinHandle<()>)
    where
        F: Fn(KubernetesEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let (wake, woken) = mpsc::channel(1);
        let shared = Arc::new(Shared { state: Mutex::default(), open: watch::Sender::new(0) });
        let sink = Self { shared, wake, settings: Arc::new(settings), leadership, metrics };
        let (shared, settings) = (sink.shared.clone(), sink.settings.clone());
        let task = tokio::spawn(deliver_all(shared, woken, settings, sink.metrics.clone(), deliver));
        (sink, task)
    }

    /// Tells of an object, if Events are on, this process leads and it was not told already.
    pub fn publish(&self, object: ObjectReference, mut event: Event) {
        let silent = self.settings.level == EventLevel::Warning && event.type_ == EventType::Normal;
        if !self.settings.enabled || silent || !self.leadership.is_leader() {
            return;
        }
        let namespace: Namespace = object.namespace.as_deref().unwrap_or_default().into();
        let end = truncated(&event.message).len();
        event.message.truncate(end);
        event.message.shrink_to_fit();
        let mut state = self.shared.state();
        if !state.queue.has_room(&namespace) {
            self.metrics.event(Outcome::QueueFull);
            return;
        }
        match state.gate.admit(&namespace, &object, &event, Instant::now()) {
            Verdict::Duplicate => self.metrics.event(Outcome::Duplicate),
            Verdict::RateLimited => self.metrics.event(Outcome::RateLimited),
            Verdict::Admitted => {
                self.shared.open.send_modify(|open| *open += 1);
                state.queue.push(Waiting { namespace, object, event });
                drop(state);
                // If that is full, the task is about to wake.
                let _ = self.wake.try_send(());
            }
        }
    }

    /// Waits until everything that was published was sent or dropped, but not longer than `limit`.
    pub async fn flush(&self, limit: Duration) {
        let mut open = self.shared.open.subscribe();
        if tokio::time::timeout(limit, open.wait_for(|open| *open == 0)).await.is_err() {
            info!(?limit, "stopped before all Events were sent");
        }
    }
}

/// What became of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::EnumIter)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// The API server took it.
    Published,
    /// The same was told about the same object a short time ago.
    Duplicate,
    /// Too many were told in a short time.
    RateLimited,
    /// Too many waited to be sent.
    QueueFull,
    /// The API server did not take it.
    Failed,
}

async fn deliver_all<F, Fut, E>(
    shared: Arc<Shared>,
    mut woken: mpsc::Receiver<()>,
    settings: Arc<EventSettings>,
    metrics: Metrics,
    deliver: F,
) where
    F: Fn(KubernetesEvent) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let mut deliveries: JoinSet<Delivered<E>> = JoinSet::new();
    let mut number = 0_u64;
    loop {
        while deliveries.len() < DELIVERIES {
            let Some(Waiting { namespace, object, event }) = shared.state().queue.take() else { break };
            let event = object::event(&object, &event, &settings.reporter, Timestamp::now(), number);
            number += 1;
            let delivery = deliver(event);
            deliveries
                .spawn(async move { Delivered { namespace, object: object.name, result: delivery.await } });
        }
        let delivered = tokio::select! {
            Some(delivered) = deliveries.join_next() => delivered,
            wake = woken.recv() => if wake.is_some() { continue } else { return },
        };
        // A delivery that panicked, which none does, would keep its namespace for ever.
        let Ok(Delivered { namespace, object, result }) = delivered else { return };
        shared.state().queue.sent(&namespace);
        shared.open.send_modify(|open| *open -= 1);
        metrics.event(match result {
            Ok(()) => Outcome::Published,
            Err(error) => {
                debug!(?object, %error, "failed to publish an Event");
                Outcome::Failed
            }
        });
    }
}

/// What became of the call for an Event.
struct Delivered<E> {
    namespace: Namespace,
    object: Option<String>,
    result: Result<(), E>,
}

#[cfg(test)]
mod tests;
