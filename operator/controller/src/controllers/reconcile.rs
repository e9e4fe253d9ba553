//! What the reconciliations of all kinds share: errors, status writes, announcements, and the loop itself.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::Controller;
use kube::runtime::controller::{Action, Config, Error as ControllerError};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::announce::{Announcement, announcements, milestones_of_cluster, milestones_of_job};
use super::obstacle::Obstacle;
use super::status_writer::{StatusMemory, Urgency};
use crate::backoff::ErrorClass;
use crate::cluster_cache::{ObjectKey, Triggers};
use crate::context::Context;
use crate::error_chain::chain;
use crate::writer::WriteError;

/// Reconciliations of one kind that run at a time, for each call that may be under way: enough that each of many objects
/// that come at once shows soon that it was seen; no more, since the loop looks at all that run whenever one goes on.
const RECONCILIATIONS_PER_CALL: usize = 2;
/// The runner of kube takes whatever is given to it: the [`Triggers`] give no more than may run, and choose fairly. Of
/// those that wait for it, the runner would choose at random.
const UNLIMITED: u16 = 0;

/// Why a reconciliation stopped; it is tried again.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// A write did not succeed.
    #[error("failed to apply the plan")]
    Write(#[from] WriteError),
    /// A generated object cannot be written as JSON.
    #[error("failed to serialise the worker template")]
    Template(#[from] serde_json::Error),
}

impl ReconcileError {
    /// Whether the reconciled object itself is gone, which its watch is about to tell.
    pub(super) fn means_gone(&self, kind: &str, object: &ObjectKey) -> bool {
        matches!(self, Self::Write(WriteError::NotFound { target, .. })
            if target.kind == kind && target.key == *object)
    }
}

impl From<&ReconcileError> for ErrorClass {
    fn from(error: &ReconcileError) -> Self {
        match error {
            ReconcileError::Write(error) => error.class(),
            ReconcileError::Template(_) => Self::Refused,
        }
    }
}

/// A status with conditions.
pub trait Status: Clone + Default + PartialEq + Serialize + Send + Sync + 'static {
    /// Its conditions.
    fn conditions(&self) -> &[Condition];

    /// What a person likes to see of an object that comes on well, when this status follows another.
    fn milestones(&self, _before: &Self) -> Vec<Announcement> {
        Vec::new()
    }
}

impl Status for dask_operator_api::DaskClusterStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn milestones(&self, before: &Self) -> Vec<Announcement> {
        milestones_of_cluster(before, self)
    }
}

/// Exactly five keys: clients compare the whole object.
impl Status for dask_operator_api::DaskJobStatus {
    fn conditions(&self) -> &[Condition] {
        &[]
    }

    fn milestones(&self, before: &Self) -> Vec<Announcement> {
        milestones_of_job(before, self)
    }
}

impl Status for dask_operator_api::autoscaler::DaskAutoscalerStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

impl Status for dask_operator_api::DaskWorkerGroupStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }
}

/// The current time in whole seconds, as statuses hold it.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The refusal in `error` as an obstacle, or the error itself if it is worth another try soon.
///
/// # Errors
/// Every error but a refusal.
pub fn refusal(error: WriteError) -> Result<Obstacle, WriteError> {
    match error {
        WriteError::Refused { refusal, .. } => Ok(Obstacle::new(refusal.reason, refusal.message)),
        other => Err(other),
    }
}

/// Writes a status if it changed and its turn has come; returns how long to wait if it has not.
///
/// Changes that a person should know are announced first: an Event told twice is better than one never told.
///
/// # Errors
/// When the write fails.
pub async fn write_status<K, S>(
    ctx: &Context,
    memory: &StatusMemory<S>,
    object: &K,
    previous: &S,
    next: S,
    urgency: Urgency,
) -> Result<Option<Duration>, WriteError>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    S: Status,
{
    write_status_and_tell(ctx, memory, object, previous, next, urgency, || {}).await
}

/// As [`write_status`]; `tell` announces what other objects are told when this status is written.
///
/// # Errors
/// When the write fails.
pub async fn write_status_and_tell<K, S>(
    ctx: &Context,
    memory: &StatusMemory<S>,
    object: &K,
    previous: &S,
    next: S,
    urgency: Urgency,
    tell: impl FnOnce(),
) -> Result<Option<Duration>, WriteError>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    S: Status,
{
    let Some(patch) = crate::writer::merge_patch_between(previous, &next)? else { return Ok(None) };
    let key = ObjectKey::of(object);
    let uid = object.uid().unwrap_or_default();
    let started = Instant::now();
    if let Some(wait) = memory.wait(&key, &uid, urgency.interval(), started) {
        return Ok(Some(wait));
    }
    let changes = announcements(previous.conditions(), next.conditions());
    for news in changes.into_iter().chain(next.milestones(previous)) {
        ctx.announce(object, &news);
    }
    tell();
    let version = ctx.writer.patch_status::<K>(&key, &patch, urgency.lane()).await?;
    memory.written(&key, &uid, version, next, Instant::now());
    Ok(None)
}

/// Runs a controller until `shutdown`: one reconciliation at a time per object, only while leading.
pub async fn run<K, F, Fut>(
    store: Store<K>,
    triggers: Triggers,
    ctx: Arc<Context>,
    shutdown: CancellationToken,
    forget: impl Fn(&Context, &ObjectKey) + Send + Sync + 'static,
    reconcile: F,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<Context>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
{
    let reconcile = Arc::new(reconcile);
    let stopped = (ctx.clone(), triggers.clone());
    let limit = usize::from(ctx.settings.max_in_flight).saturating_mul(RECONCILIATIONS_PER_CALL);
    let turns = triggers.turns(limit).map(|key| key.object_ref());
    let all = all_when_leading(&ctx, &triggers, store.clone());
    Controller::for_stream(stream::pending(), store)
        .with_config(Config::default().concurrency(UNLIMITED))
        .reconcile_on(stream::select(turns, all))
        .graceful_shutdown_on(shutdown.cancelled_owned())
        .run(
            move |object, ctx| in_turn(object, ctx, triggers.clone(), reconcile.clone()),
            |object, error, ctx| {
                let kind = K::kind(&());
                let key = ObjectKey::of(&*object);
                let pause = ctx.backoff.next(&kind, &key, error.into());
                debug!(%kind, object = %key, ?pause, error = %chain(error), "reconciliation will be tried again");
                Action::requeue(pause)
            },
            ctx,
        )
        .for_each(move |result| {
            match result {
                Err(ControllerError::ObjectNotFound(gone)) => {
                    let key = ObjectKey::new(gone.namespace.clone().unwrap_or_default(), gone.name.as_str());
                    let (ctx, triggers) = &stopped;
                    forget(ctx, &key);
                    triggers.done(&key);
                }
                Err(ControllerError::QueueError(error)) => warn!(%error, "watch queue failed"),
                Err(ControllerError::RunnerError(error)) => warn!(%error, "controller runner failed"),
                Err(ControllerError::ReconcilerFailed(..)) | Ok(_) => {}
            }
            futures::future::ready(())
        })
        .await;
    info!(kind = %K::kind(&()), "controller stopped");
}

/// Wakes all objects whenever this process begins to lead, because nothing was reconciled before. Yields nothing.
fn all_when_leading<K>(
    ctx: &Context,
    triggers: &Triggers,
    store: Store<K>,
) -> impl stream::Stream<Item = ObjectRef<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let state = (ctx.leadership.changes(), triggers.clone(), store);
    stream::unfold(state, |(mut changes, triggers, store)| async move {
        loop {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
            if *changes.borrow_and_update() {
                triggers.add(store.state().iter().map(|object| ObjectKey::of(&**object)));
            }
        }
    })
}

/// The turn of an object; it ends when this is dropped.
struct Turn<'a>(&'a Triggers, ObjectKey);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.done(&self.1);
    }
}

/// Reconciles an object whose turn it is. One whose time has come again gets in line first.
async fn in_turn<K, F, Fut>(
    object: Arc<K>,
    ctx: Arc<Context>,
    triggers: Triggers,
    reconcile: Arc<F>,
) -> Result<Action, ReconcileError>
where
    K: Resource<DynamicType = ()>,
    F: Fn(Arc<K>, Arc<Context>) -> Fut,
    Fut: Future<Output = Result<Action, ReconcileError>>,
{
    let key = ObjectKey::of(&*object);
    if !triggers.is_under_way(&key) {
        triggers.add([key]);
        return Ok(Action::await_change());
    }
    let _turn = Turn(&triggers, key);
    measured(object, ctx, reconcile).await
}

async fn measured<K, F, Fut>(
    object: Arc<K>,
    ctx: Arc<Context>,
    reconcile: Arc<F>,
) -> Result<Action, ReconcileError>
where
    K: Resource<DynamicType = ()>,
    F: Fn(Arc<K>, Arc<Context>) -> Fut,
    Fut: Future<Output = Result<Action, ReconcileError>>,
{
    if !ctx.leadership.is_leader() {
        return Ok(Action::await_change());
    }
    let kind = K::kind(&());
    let key = ObjectKey::of(&*object);
    let started = Instant::now();
    let result = match reconcile(object.clone(), ctx.clone()).await {
        Err(error) if error.means_gone(&kind, &key) => {
            debug!(%kind, object = %key, "the object was deleted while it was reconciled");
            Ok(Action::await_change())
        }
        result => result,
    };
    let outcome = if result.is_ok() { "success" } else { "error" };
    ctx.metrics.reconcile(&kind, outcome, started.elapsed().as_secs_f64());
    if let Err(error) = &result {
        warn!(%kind, object = %key, error = %chain(error), "reconciliation failed");
        // Whatever keeps refusals for its condition does not come here with them.
        if let ReconcileError::Write(WriteError::Refused { refusal, .. }) = error {
            let (reason, message) = (refusal.reason, refusal.message.clone());
            ctx.announce(&*object, &Announcement { reason, message, warning: true });
        }
    } else {
        ctx.backoff.reset(&kind, &key);
    }
    result
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
