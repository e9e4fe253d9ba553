//! Kubernetes Events: what the operator tells a person about an object.
//!
//! Publishing never waits. One task sends what passes the [`gate`]: no repetition, and no flood.

mod gate;
mod object;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dask_operator_api::Reason;
use dask_operator_api::conditions::truncated;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as KubernetesEvent;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{debug, info};

use crate::leader::Leadership;
use crate::settings::EventLevel;
use crate::telemetry::Metrics;
use gate::{Gate, Verdict};

/// Events that may wait to be sent; more are dropped and counted.
const QUEUE_LENGTH: usize = 256;

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
    queue: mpsc::Sender<Message>,
    settings: Arc<EventSettings>,
    leadership: Leadership,
    metrics: Metrics,
}

#[derive(Debug)]
enum Message {
    Publish(Box<(ObjectReference, Event)>),
    Flush(oneshot::Sender<()>),
}

impl EventSink {
    /// Starts the task that hands Events to `deliver`, one at a time. It ends when all sinks are dropped.
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
        let (queue, messages) = mpsc::channel(QUEUE_LENGTH);
        let sink = Self { queue, settings: Arc::new(settings), leadership, metrics };
        let task = tokio::spawn(deliver_all(messages, sink.settings.clone(), sink.metrics.clone(), deliver));
        (sink, task)
    }

    /// Tells of an object, if Events are on, this process leads and it was not told already.
    pub fn publish(&self, object: ObjectReference, event: Event) {
        let silent = self.settings.level == EventLevel::Warning && event.type_ == EventType::Normal;
        if !self.settings.enabled || silent || !self.leadership.is_leader() {
            return;
        }
        if self.queue.try_send(Message::Publish(Box::new((object, event)))).is_err() {
            self.metrics.event(Outcome::QueueFull);
        }
    }

    /// Waits until everything published so far was sent or dropped, but not longer than `limit`.
    pub async fn flush(&self, limit: Duration) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                let _ = flushed.await;
            }
        };
        if tokio::time::timeout(limit, flush).await.is_err() {
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
    mut messages: mpsc::Receiver<Message>,
    settings: Arc<EventSettings>,
    metrics: Metrics,
    deliver: F,
) where
    F: Fn(KubernetesEvent) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: std::error::Error,
{
    let mut gate = Gate::default();
    let sent = AtomicU64::new(0);
    while let Some(message) = messages.recv().await {
        let (object, mut event) = match message {
            Message::Publish(publish) => *publish,
            Message::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        event.message = truncated(&event.message).to_owned();
        let outcome = match gate.admit(&object, &event, Instant::now()) {
            Verdict::Duplicate => Outcome::Duplicate,
            Verdict::RateLimited => Outcome::RateLimited,
            Verdict::Admitted => {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                let event = object::event(&object, &event, &settings.reporter, Timestamp::now(), number);
                match deliver(event).await {
                    Ok(()) => Outcome::Published,
                    Err(error) => {
                        debug!(object = ?object.name, %error, "failed to publish an Event");
                        Outcome::Failed
                    }
                }
            }
        };
        metrics.event(outcome);
    }
}

#[cfg(test)]
mod tests;
