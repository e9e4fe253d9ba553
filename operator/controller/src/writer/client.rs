//! Calls to the API.

use std::borrow::Cow;
use std::fmt::{self, Debug};
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams, Preconditions};
use kube::client::Body;
use kube::core::{NamespaceResourceScope, Request, Status, request};
use kube::{Client, Resource};
use serde::de::{DeserializeOwned, Error, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::error::{NoAnswer, Target, WriteError};
use super::lanes::{Lane, Lanes, Turn};
use crate::cluster_cache::records::version_number;
use crate::cluster_cache::{ObjectKey, WirePod};
use crate::leader::Leadership;
use crate::object_text::{MOST_RETURNED, bounded};
use crate::telemetry::Metrics;

/// Owner of the fields that this operator writes.
pub const FIELD_MANAGER: &str = "dask-operator";

/// Bounds on the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls at a time.
    pub in_flight: usize,
    /// Of these, how many each [`Lane`] leaves to the other.
    pub reserved: usize,
    /// Longest time of one call, tries again by the client included. kube's client tries answers 429, 503 and
    /// 504 again by itself, as long as this allows.
    pub timeout: Duration,
}

impl Limits {
    /// So many calls at a time, of which each lane leaves an eighth to the other.
    #[must_use]
    pub fn of(in_flight: usize) -> Self {
        Self { in_flight, reserved: in_flight.div_ceil(8), timeout: Duration::from_secs(30) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(32)
    }
}

/// What became of a creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation<K> {
    /// The object, as the API server returned it.
    Created(Box<K>),
    /// An object with this name is there already, maybe by an earlier try whose answer was lost.
    AlreadyExists,
}

/// What became of a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The API server accepted it; the object may take its time to go.
    Accepted,
    /// There was no such object, or no longer.
    Gone,
}

/// Makes calls to the API. Clones share the limits.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    leadership: Leadership,
    metrics: Metrics,
    lanes: Arc<Lanes>,
    /// Who may create a Service next.
    addresses: Arc<Lanes>,
    limits: Limits,
}

impl Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Why a call failed, before it is known what that means for the caller.
pub(super) enum Failure {
    AlreadyExists(Target),
    Error(WriteError),
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Error(error) => error,
            Failure::AlreadyExists(target) => Self::Conflict { target },
        }
    }
}

/// An object of which only the version is of interest.
#[derive(Deserialize)]
struct Stamped {
    metadata: Stamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stamp {
    resource_version: Option<String>,
}

/// Services that are created at a time. An API server gives out their addresses one after the other, some 20 a second
/// where it is busy: of 28 that one namespace has under way, the one of another would be the last after 1.4 s.
const SERVICES_AT_A_TIME: usize = 8;

/// A request as kube builds it.
type Built = Result<http::Request<Vec<u8>>, request::Error>;

impl Writer {
    /// A writer that is silent while `leadership` says so.
    #[must_use]
    pub fn new(client: Client, leadership: Leadership, metrics: Metrics, limits: Limits) -> Self {
        let lanes = Arc::new(Lanes::new(limits.in_flight, limits.reserved));
        let addresses = Arc::new(Lanes::new(SERVICES_AT_A_TIME.min(limits.in_flight), 0));
        Self { client, leadership, metrics, lanes, addresses, limits }
    }

    /// Creates an object.
    ///
    /// # Errors
    /// Any [`WriteError`].
    pub async fn create<K>(&self, object: &K, lane: Lane) -> Result<Creation<K>, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned,
    {
        let key = ObjectKey::of(object);
        let json = serde_json::to_vec(object)?;
        let _address = match &*K::kind(&()) {
            "Service" => Some(self.addresses.enter(lane, &key).await),
            _ => None,
        };
        self.create_bytes(&key, json, lane).await
    }

    /// Creates a pod from its JSON, and reads back only what the cache needs.
    ///
    /// # Errors
    /// Any [`WriteError`].
    pub async fn create_pod(
        &self,
        key: &ObjectKey,
        json: Vec<u8>,
        lane: Lane,
    ) -> Result<Creation<WirePod>, WriteError> {
        self.create_bytes(key, json, lane).await
    }

    async fn create_bytes<K>(
        &self,
        key: &ObjectKey,
        json: Vec<u8>,
        lane: Lane,
    ) -> Result<Creation<K>, WriteError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let request = || requests::<K>(key).create(&params, json);
        created(self.call(target::<K>("create", key), lane, "create", request).await)
    }

    /// Creates a pod whose JSON is asked for when the turn of the call has come, so that of many pods that wait for
    /// their turn none takes memory; `None` calls the creation off.
    ///
    /// # Errors
    /// Any [`WriteError`].
    pub async fn create_pod_if(
        &self,
        key: &ObjectKey,
        lane: Lane,
        json: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Result<Option<Creation<WirePod>>, WriteError> {
        let turn = self.lanes.enter(lane, key).await;
        let Some(json) = json() else { return Ok(None) };
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let request = requests::<WirePod>(key).create(&params, json);
        let target = target::<WirePod>("create", key);
        created(self.call_in_turn(turn, target, "create", request).await).map(Some)
    }

    /// Changes an object by a JSON merge patch. With `metadata.resourceVersion` in the patch, only if it is still
    /// that version; else the error is a [`WriteError::Conflict`].
    ///
    /// # Errors
    /// Any [`WriteError`].
    pub async fn merge_patch<K>(
        &self,
        key: &ObjectKey,
        patch: &(impl Serialize + Debug + Sync),
        lane: Lane,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
    {
        let request = || requests::<K>(key).patch(&key.name, &patch_params(), &Patch::Merge(patch));
        Ok(self.call(target::<K>("patch", key), lane, "patch", request).await?)
    }

    /// Changes an object by a strategic merge patch, which can take one element out of a list and leave the others.
    ///
    /// # Errors
    /// Any [`WriteError`].
    pub async fn strategic_merge_patch<K>(
        &self,
        key: &ObjectKey,
        patch: &Value,
        lane: Lane,
    ) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
    {
        let request = || requests::<K>(key).patch(&key.name, &patch_params(), &Patch::Strategic(patch));
        Ok(self.call(target::<K>("patch", key), lane, "patch", request).await?)
    }

    /// Changes the status of an object by a JSON merge patch of the status alone, as
    /// [`merge_patch_between`](super::merge_patch_between) makes it; returns the object's new version. The rest of the
    /// answer, which repeats the whole specification, is not read.
    ///
    /// # Errors
    /// Any [`WriteError`].
    pub async fn patch_status<K>(&self, key: &ObjectKey, patch: &Value, lane: Lane) -> Result<u64, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let patch = json!({ "status": patch });
        let params = patch_params();
        let request =
            || requests::<K>(key).patch_subresource("status", &key.name, &params, &Patch::Merge(patch));
        let Stamped { metadata } =
            self.call(target::<K>("patch", key), lane, "patch_status", request).await?;
        Ok(version_number(metadata.resource_version.as_deref()))
    }

    /// Deletes the object with this name and UID; one that was made again under the same name is spared.
    ///
    /// # Errors
    /// Any [`WriteError`] but `NotFound`, which means that it is gone. A `Conflict` mostly means that it was made
    /// again under the same name; its watch soon shows whether.
    pub async fn delete<K>(&self, key: &ObjectKey, uid: &str, lane: Lane) -> Result<Deletion, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        self.delete_if::<K>(key, Preconditions { uid: Some(uid.to_owned()), resource_version: None }, lane)
            .await
    }

    /// Deletes the object with this name and UID if it is still this version.
    ///
    /// # Errors
    /// As [`Self::delete`]; a `Conflict` mostly means that it has changed since.
    pub async fn delete_version<K>(
        &self,
        key: &ObjectKey,
        uid: &str,
        version: u64,
        lane: Lane,
    ) -> Result<Deletion, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let preconditions =
            Preconditions { uid: Some(uid.to_owned()), resource_version: Some(version.to_string()) };
        self.delete_if::<K>(key, preconditions, lane).await
    }

    async fn delete_if<K>(
        &self,
        key: &ObjectKey,
        preconditions: Preconditions,
        lane: Lane,
    ) -> Result<Deletion, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        let request = || requests::<K>(key).delete(&key.name, &params);
        match self
            .call::<IgnoredAny>(target::<K>("delete", key), lane, "delete", request)
            .await
            .map_err(WriteError::from)
        {
            Ok(_) => Ok(Deletion::Accepted),
            Err(WriteError::NotFound { .. }) => Ok(Deletion::Gone),
            Err(error) => Err(error),
        }
    }

    /// Reads an object; for rare cases only, since everything of interest is in the cache.
    ///
    /// # Errors
    /// Any [`WriteError`].
    pub async fn get<K>(&self, key: &ObjectKey, lane: Lane) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
    {
        let request = || requests::<K>(key).get(&key.name, &GetParams::default());
        Ok(self.call(target::<K>("get", key), lane, "get", request).await?)
    }

    /// Makes one call when its turn comes, and only then its request, so that what waits takes no memory. `operation`
    /// is what kube's own client calls it, for layers that select requests by it.
    pub(super) async fn call<R: DeserializeOwned>(
        &self,
        target: Target,
        lane: Lane,
        operation: &'static str,
        request: impl FnOnce() -> Built,
    ) -> Result<R, Failure> {
        let turn = self.lanes.enter(lane, &target.key).await;
        self.call_in_turn(turn, target, operation, request()).await
    }

    /// Makes one call, whose turn it is.
    async fn call_in_turn<R: DeserializeOwned>(
        &self,
        _turn: Turn,
        target: Target,
        operation: &'static str,
        request: Built,
    ) -> Result<R, Failure> {
        let mut request = match request {
            Ok(request) => request.map(Body::from),
            Err(source) => {
                return Err(Failure::Error(WriteError::Request { target, source: Box::new(source) }));
            }
        };
        request.extensions_mut().insert(operation);
        if !self.leadership.is_leader() {
            return Err(Failure::Error(WriteError::NotLeading(target)));
        }
        let started = Instant::now();
        let unanswered =
            |source| Err(Failure::Error(WriteError::Unanswered { target: target.clone(), source }));
        let result = tokio::select! {
            biased;
            result = self.exchange(&target, request) => result,
            () = sleep(self.limits.timeout) => unanswered(NoAnswer::Timeout(self.limits.timeout)),
            () = lease_lost(&self.leadership) => unanswered(NoAnswer::LeaseLost),
        };
        let outcome = match &result {
            Ok(_) => "success",
            Err(Failure::AlreadyExists(_)) => "already_exists",
            Err(Failure::Error(error)) => error.outcome(),
        };
        self.metrics.api_call(target.verb, &target.kind, outcome, started.elapsed().as_secs_f64());
        result
    }

    async fn exchange<R: DeserializeOwned>(
        &self,
        target: &Target,
        request: http::Request<Body>,
    ) -> Result<R, Failure> {
        let unanswered = |source| Failure::Error(WriteError::Unanswered { target: target.clone(), source });
        let transport = |error: kube::Error| unanswered(NoAnswer::Transport(Box::new(error)));
        let response = self.client.send(request).await.map_err(transport)?;
        let code = response.status().as_u16();
        let retry_after =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.into_body().collect_bytes().await.map_err(transport)?;
        if (200..300).contains(&code) {
            // From text, as the watches do: the program then holds one decoder of each type, not two.
            let text = std::str::from_utf8(&body)
                .map_err(|error| unanswered(NoAnswer::Unreadable(serde_json::Error::custom(error))))?;
            let text = bounded(text, MOST_RETURNED)
                .map_err(|error| unanswered(NoAnswer::Unreadable(serde_json::Error::custom(error))))?;
            return serde_json::from_str(&text).map_err(|error| unanswered(NoAnswer::Unreadable(error)));
        }
        // Not every answer is a status: the API server's own overload protection sends plain text.
        let mut status: Status = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Status::failure(String::from_utf8_lossy(&body).trim(), ""));
        status.code = code;
        if status.is_already_exists() {
            return Err(Failure::AlreadyExists(target.clone()));
        }
        Err(Failure::Error(WriteError::from_status(
            target.clone(),
            &status,
            retry_after.map(Duration::from_secs),
        )))
    }
}

/// Waits until this process no longer leads. kube's client may send a call again and again for as long as it is
/// waited for, which must end with the lease.
async fn lease_lost(leadership: &Leadership) {
    let mut changes = leadership.changes();
    while leadership.is_leader() {
        let mut end = pin!(async {
            match leadership.remaining() {
                Some(left) => sleep(left).await,
                None => pending().await,
            }
        });
        tokio::select! {
            () = &mut end => {}
            result = changes.changed() => if result.is_err() { end.await },
        }
    }
}

fn created<K>(result: Result<K, Failure>) -> Result<Creation<K>, WriteError> {
    match result {
        Ok(object) => Ok(Creation::Created(Box::new(object))),
        Err(Failure::AlreadyExists(_)) => Ok(Creation::AlreadyExists),
        Err(Failure::Error(error)) => Err(error),
    }
}

pub(super) fn target<K: Resource<DynamicType = ()>>(verb: &'static str, key: &ObjectKey) -> Target {
    let kind: Cow<'static, str> = K::kind(&());
    Target { verb, kind, key: key.clone() }
}

pub(super) fn requests<K: Resource<DynamicType = ()>>(key: &ObjectKey) -> Request {
    Request::new(K::url_path(&(), Some(&key.namespace)))
}

fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
