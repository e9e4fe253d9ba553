//! One watch per kind and namespace: list, then watch from there, for ever.
//!
//! kube's own watcher hides the version of a list and the bookmarks. Both are needed here: by them own writes
//! are told from deleted objects, and they are the only sign of life of a quiet watch.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dask_operator_api::labels;
use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{ListParams, WatchParams};
use kube::core::{Request, Status, request};
use kube::runtime::watcher::DefaultBackoff;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::ObjectKey;
use super::cache::ClusterCache;
use super::index::{Index, Wakes};
use super::lenient::{Lenient, Malformed};
use super::page::{Page, PageSize};
use super::pods::PodEntry;
use super::records::{DeploymentRecord, ServiceRecord, resource_version};
use super::table::{Delivery, WatchNumber};
use super::unreadable::Unreadable;
use super::watch_line::Line;
use super::wire_pod::WirePod;
use crate::error_chain::chain;

/// Longest wait for a page of a list, or for a watch to start.
const ANSWER: Duration = Duration::from_mins(1);
/// Seconds after which the API server is asked to end a watch, so that a dead connection is noticed.
const WATCH_SECONDS: u32 = 240;
/// Longest silence on a watch: its whole life, and some time for the end to arrive.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 10);
/// A watch that ends sooner, without having shown anything, counts as failed.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Where to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In all namespaces.
    All,
    /// In these namespaces.
    Namespaces(Vec<String>),
}

/// Why a list or watch has to be started again.
#[derive(Debug, Error)]
enum WatchError {
    #[error("failed to list")]
    List(#[source] kube::Error),
    #[error("failed to read the resource version")]
    NoVersion,
    #[error("failed to start the watch")]
    Start(#[source] kube::Error),
    #[error("failed to build the request")]
    Build(#[source] request::Error),
    #[error("failed to read what the API server sends")]
    Read(#[source] io::Error),
    #[error("failed to decode an object")]
    Decode(#[source] serde_json::Error),
    #[error("the API server ended the watch")]
    Ended(#[source] Box<Status>),
    #[error("the watch ended at once")]
    EndedAtOnce,
    #[error("no answer for {} s", .0.as_secs())]
    Silent(Duration),
}

impl WatchError {
    /// Whether the API server no longer knows the version from which the watch was to go on.
    fn is_expired(&self) -> bool {
        match self {
            Self::Ended(status) | Self::Start(kube::Error::Api(status)) => status.code == 410,
            _ => false,
        }
    }
}

/// What the API server sends.
#[derive(Debug)]
enum Received<K> {
    ListBegins,
    Listed(K),
    ListEnds(u64),
    Applied(K),
    Deleted(K),
    Reached(u64),
}

impl<K: Resource> Received<K> {
    /// The same for the table, with `convert` making the record; `None` from it is an object that cannot be read.
    fn delivery<R>(self, convert: impl FnOnce(K) -> (ObjectKey, Option<R>)) -> Delivery<R> {
        match self {
            Self::ListBegins => Delivery::ListBegins,
            Self::Listed(object) => {
                let (key, record) = convert(object);
                Delivery::Listed(key, record)
            }
            Self::ListEnds(version) => Delivery::ListEnds(version),
            Self::Applied(object) => {
                let version = resource_version(object.meta());
                let (key, record) = convert(object);
                Delivery::Applied(key, record, version)
            }
            Self::Deleted(object) => {
                let version = resource_version(object.meta());
                Delivery::Deleted(ObjectKey::of(&object), object.uid().unwrap_or_default().into(), version)
            }
            Self::Reached(version) => Delivery::Reached(version),
        }
    }
}

/// Starts the watches that fill the cache: one per kind, and namespace if the scope names some. They end on
/// `shutdown`. To be called once for a cache.
#[must_use]
pub fn watch(
    client: &Client,
    scope: &Scope,
    cache: &ClusterCache,
    shutdown: &CancellationToken,
) -> JoinSet<()> {
    let mut namespaces: Vec<Option<&str>> = match scope {
        Scope::All => vec![None],
        Scope::Namespaces(names) => names.iter().map(|name| Some(name.as_str())).collect(),
    };
    namespaces.sort_unstable();
    namespaces.dedup();
    let mut watches = Watches { client, cache, shutdown, namespaces, tasks: JoinSet::new() };
    let scheduler = format!("{}={}", labels::COMPONENT, labels::SCHEDULER);
    // Workers of the Python operator are Deployments.
    let either = format!("{} in ({},{})", labels::COMPONENT, labels::SCHEDULER, labels::WORKER);

    watches.start(
        None,
        |index, namespace| index.clusters.add_watch(namespace),
        |index, watch, received, wakes| {
            let delivery = readable(index, watch, received, Arc::new);
            index.deliver_cluster(watch, delivery, wakes);
        },
    );
    watches.start(
        None,
        |index, namespace| index.groups.add_watch(namespace),
        |index, watch, received, wakes| {
            let delivery = readable(index, watch, received, Arc::new);
            index.deliver_group(watch, delivery, wakes);
        },
    );
    watches.start(
        None,
        |index, namespace| index.jobs.add_watch(namespace),
        |index, watch, received, wakes| {
            let delivery = readable(index, watch, received, Arc::new);
            index.deliver_job(watch, delivery, wakes);
        },
    );
    watches.start(
        None,
        |index, namespace| index.autoscalers.add_watch(namespace),
        |index, watch, received, wakes| {
            let delivery = readable(index, watch, received, Arc::new);
            index.deliver_autoscaler(watch, delivery, wakes);
        },
    );
    watches.start(
        Some(labels::CLUSTER_NAME),
        |index, namespace| index.pods.add_watch(namespace),
        |index, watch, received: Received<WirePod>, wakes| {
            let strings = &mut index.strings;
            let delivery = received.delivery(|pod| {
                let key = ObjectKey::new(strings.get(pod.metadata.namespace()), pod.metadata.name());
                (key, Some(PodEntry::new(&pod, strings)))
            });
            index.deliver_pod(watch, delivery, wakes);
        },
    );
    watches.start(
        Some(&scheduler),
        |index, namespace| index.services.add_watch(namespace),
        |index, watch, received: Received<Lenient<Service>>, wakes| {
            let convert = |service| Arc::new(ServiceRecord::from(service));
            let delivery = readable(index, watch, received, convert);
            index.deliver_service(watch, delivery, wakes);
        },
    );
    watches.start(
        Some(&either),
        |index, namespace| index.deployments.add_watch(namespace),
        |index, watch, received: Received<Lenient<Deployment>>, wakes| {
            let convert = |deployment| Arc::new(DeploymentRecord::from(&deployment));
            let delivery = readable(index, watch, received, convert);
            index.deliver_deployment(watch, delivery, wakes);
        },
    );
    watches.tasks
}

/// What was received for the table, with `convert` making the record of an object that can be read; of others the index
/// keeps that they cannot.
fn readable<K: Resource<DynamicType = ()>, R>(
    index: &mut Index,
    watch: WatchNumber,
    received: Received<Lenient<K>>,
    convert: impl FnOnce(K) -> R,
) -> Delivery<R> {
    let (kind, all) = (kind_name::<K>(), &mut index.unreadables);
    match &received {
        Received::ListBegins => all.list_begins(kind, watch),
        Received::ListEnds(_) => all.list_ends(kind, watch),
        Received::Deleted(object) => all.remove(kind, &ObjectKey::of(object)),
        Received::Listed(_) | Received::Applied(_) | Received::Reached(_) => {}
    }
    received.delivery(|object| {
        let key = ObjectKey::of(&object);
        let reference = object.object_ref(&());
        match object.0 {
            Ok(object) => {
                all.remove(kind, &key);
                (key, Some(convert(object)))
            }
            Err(Malformed { error, .. }) => {
                warn!(kind, object = %key, error, "object ignored: it cannot be read");
                all.add(kind, watch, key.clone(), Unreadable { object: reference, error });
                (key, None)
            }
        }
    })
}

struct Watches<'a> {
    client: &'a Client,
    cache: &'a ClusterCache,
    shutdown: &'a CancellationToken,
    namespaces: Vec<Option<&'a str>>,
    tasks: JoinSet<()>,
}

impl Watches<'_> {
    fn start<K>(
        &mut self,
        selector: Option<&str>,
        add: impl Fn(&mut Index, Option<&str>) -> WatchNumber,
        deliver: impl Fn(&mut Index, WatchNumber, Received<K>, &mut Wakes) + Copy + Send + Sync + 'static,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        // All are there before the first one runs, or the cache could be called ready too soon.
        let numbers: Vec<_> =
            self.namespaces.iter().map(|n| self.cache.update(|index, _| add(index, *n))).collect();
        for (namespace, number) in self.namespaces.iter().zip(numbers) {
            let api = match namespace {
                Some(namespace) => Api::namespaced(self.client.clone(), namespace),
                None => Api::all(self.client.clone()),
            };
            let watch = Watch {
                client: self.client.clone(),
                api,
                selector: selector.map(str::to_owned),
                kind: kind_name::<K>(),
                health: self.cache.health().add(kind_name::<K>(), *namespace, Instant::now()),
                cache: self.cache.clone(),
            };
            let shutdown = self.shutdown.clone();
            self.tasks.spawn(async move {
                let run = watch.run(move |index, received, wakes| deliver(index, number, received, wakes));
                shutdown.run_until_cancelled(run).await;
            });
        }
    }
}

/// The kind as a word that lives for ever.
fn kind_name<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "unknown",
    }
}

struct Watch<K> {
    client: Client,
    api: Api<K>,
    selector: Option<String>,
    kind: &'static str,
    health: usize,
    cache: ClusterCache,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    /// Lists and watches for ever, with a pause after each failure.
    async fn run(&self, deliver: impl Fn(&mut Index, Received<K>, &mut Wakes)) {
        let deliver = |received| self.cache.update(|index, wakes| deliver(index, received, wakes));
        let mut backoff = DefaultBackoff::default();
        let mut position: Option<String> = None;
        loop {
            let result = match &mut position {
                Some(position) => self.watch(position, &deliver).await,
                None => self.list(&deliver).await.map(|version| position = Some(version)),
            };
            if let Err(error) = result {
                if error.is_expired() {
                    position = None;
                }
                self.failed(&error);
                sleep(backoff.next().unwrap_or(ANSWER)).await;
            }
        }
    }

    /// Lists everything; returns the version of the list.
    async fn list(&self, deliver: &impl Fn(Received<K>)) -> Result<String, WatchError> {
        deliver(Received::ListBegins);
        let mut size = PageSize::default();
        let mut params = ListParams { label_selector: self.selector.clone(), ..ListParams::default() };
        loop {
            params.limit = Some(size.objects());
            let page = timeout(ANSWER, self.page(&params, &mut size));
            let page = page.await.map_err(|_| WatchError::Silent(ANSWER))??;
            self.active();
            let Some(page) = page else { continue };
            let page: Page = serde_json::from_slice(&page).map_err(WatchError::Decode)?;
            for object in page.items.into_iter().flatten() {
                let object = serde_json::from_str(object.get()).map_err(WatchError::Decode)?;
                deliver(Received::Listed(object));
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let version = page.metadata.resource_version.ok_or(WatchError::NoVersion)?;
                self.cache.health().listed(self.health);
                deliver(Received::ListEnds(version.parse().map_err(|_| WatchError::NoVersion)?));
                return Ok(version);
            }
        }
    }

    /// The text of a page; `None` if it is too large.
    async fn page(&self, params: &ListParams, size: &mut PageSize) -> Result<Option<Vec<u8>>, WatchError> {
        let mut request = Request::new(self.api.resource_url()).list(params).map_err(WatchError::Build)?;
        request.extensions_mut().insert("list");
        let body = self.client.request_stream(request).await.map_err(WatchError::List)?;
        size.read(body).await.map_err(WatchError::Read)
    }

    /// Watches from a version on, which it moves along, until the API server ends the watch as asked.
    async fn watch(&self, position: &mut String, deliver: &impl Fn(Received<K>)) -> Result<(), WatchError> {
        let started = Instant::now();
        let mut params = WatchParams::default().timeout(WATCH_SECONDS);
        params.label_selector.clone_from(&self.selector);
        let request = Request::new(self.api.resource_url()).watch(&params, position);
        let mut request = request.map_err(WatchError::Build)?;
        // As kube marks it, for layers that select requests by it.
        request.extensions_mut().insert("watch");
        let lines = timeout(ANSWER, self.client.request_stream(request)).await;
        let mut lines = lines.map_err(|_| WatchError::Silent(ANSWER))?.map_err(WatchError::Start)?.lines();
        self.cache.health().started(self.health, Instant::now());
        let mut received = false;
        loop {
            let line = timeout(SILENCE, lines.next()).await.map_err(|_| WatchError::Silent(SILENCE))?;
            let failed = !received && started.elapsed() < AT_ONCE;
            let line = match line {
                Some(Ok(line)) => line,
                // A connection that is cut is as good as an end: the next watch goes on from here.
                Some(Err(error)) if failed => return Err(WatchError::Read(error)),
                None if failed => return Err(WatchError::EndedAtOnce),
                Some(Err(_)) | None => return Ok(()),
            };
            let event = match Line::<K>::read(&line) {
                Ok(Line::Applied(object)) => Received::Applied(object),
                Ok(Line::Deleted(object)) => Received::Deleted(object),
                Ok(Line::Bookmark(version)) => {
                    Received::Reached(version.parse().map_err(|_| WatchError::NoVersion)?)
                }
                Ok(Line::Ended(status)) => return Err(WatchError::Ended(status)),
                // The connection was cut within the line.
                Err(error) if error.is_eof() && !failed => return Ok(()),
                Err(error) => return Err(WatchError::Decode(error)),
            };
            received = true;
            self.active();
            self.cache.metrics().watch_event(self.kind);
            let version = match &event {
                Received::Applied(object) | Received::Deleted(object) => resource_version(object.meta()),
                Received::Reached(version) => *version,
                Received::ListBegins | Received::Listed(_) | Received::ListEnds(_) => 0,
            };
            if version == 0 {
                return Err(WatchError::NoVersion);
            }
            deliver(event);
            *position = version.to_string();
        }
    }

    fn active(&self) {
        self.cache.health().active(self.health, Instant::now());
    }

    fn failed(&self, error: &WatchError) {
        let text = chain(error);
        if error.is_expired() {
            debug!(kind = self.kind, error = text, "watch starts anew");
        } else {
            warn!(kind = self.kind, error = text, "watch failed and will be tried again");
        }
        self.cache.health().failed(self.health, text, Instant::now());
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
