//! Sees objects come by watches, the same for both sides. The watches deliver only metadata where that is enough, so
//! that they cost the API server little. It ends watches that are read too slowly, as here while every core is busy:
//! they are then started anew, with all that is there.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dask_operator_api::{ClusterPhase, DaskCluster, DaskWorkerGroup};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{WatchEvent, WatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::time::{Instant, sleep, timeout};

use crate::wait::PATIENCE;

/// What is watched: kind and name of an object, when it is seen for the first time or again.
type Seen = BoxStream<'static, Result<(String, String)>>;

/// The workers of all clusters, of both sides.
pub const WORKERS: &str = "dask.org/component=worker";

/// Before a watch that ended begins anew.
const PAUSE: Duration = Duration::from_millis(50);

/// Watches that were started before the objects come.
pub struct Observer {
    seen: Seen,
}

impl Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Observer {
    /// Watches Services, Deployments, groups and workers of a namespace.
    ///
    /// # Errors
    /// When a watch does not start.
    pub async fn of_children(client: &Client, namespace: &str) -> Result<Self> {
        let seen = stream::select_all([
            created::<Service>(client, namespace, "").await?,
            created::<Deployment>(client, namespace, "").await?,
            created::<DaskWorkerGroup>(client, namespace, "").await?,
            created::<Pod>(client, namespace, WORKERS).await?,
        ]);
        Ok(Self { seen: seen.boxed() })
    }

    /// Watches the workers of a namespace.
    ///
    /// # Errors
    /// When the watch does not start.
    pub async fn of_workers(client: &Client, namespace: &str) -> Result<Self> {
        Ok(Self { seen: created::<Pod>(client, namespace, WORKERS).await? })
    }

    /// Watches for clusters of a namespace that are Running.
    ///
    /// # Errors
    /// When the watch does not start.
    pub async fn of_running_clusters(client: &Client, namespace: &str) -> Result<Self> {
        let api: Api<DaskCluster> = Api::namespaced(client.clone(), namespace);
        let running = endless(move || {
            let api = api.clone();
            async move { Ok(api.watch(&WatchParams::default(), "0").await?.boxed()) }
        });
        let running = running.await?.try_filter_map(async |event| match event {
            WatchEvent::Added(cluster) | WatchEvent::Modified(cluster) => {
                Ok(is_running(&cluster).then(|| (DaskCluster::kind(&()).into_owned(), cluster.name_any())))
            }
            _ => Ok(None),
        });
        Ok(Self { seen: running.boxed() })
    }

    /// Waits until so many objects were seen; returns when each was, for the first time, by its name.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn wait(mut self, count: usize) -> Result<HashMap<String, Instant>> {
        let (mut objects, mut times) = (HashSet::new(), HashMap::new());
        while objects.len() < count {
            let next = timeout(PATIENCE, self.seen.next()).await;
            let Ok(Some(object)) = next else { bail!("{} of {count} objects came", objects.len()) };
            let (kind, name) = object?;
            times.entry(name.clone()).or_insert_with(Instant::now);
            objects.insert((kind, name));
        }
        Ok(times)
    }
}

fn is_running(cluster: &DaskCluster) -> bool {
    cluster.status.as_ref().is_some_and(|status| status.phase == Some(ClusterPhase::Running))
}

async fn created<K>(client: &Client, namespace: &str, labels: &'static str) -> Result<Seen>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let events = endless(move || {
        let api = api.clone();
        let those = WatchParams::default().labels(labels);
        async move { Ok(api.watch_metadata(&those, "0").await?.boxed()) }
    });
    let kind = K::kind(&());
    let names = events.await?.try_filter_map(async |event| match event {
        WatchEvent::Added(object) => Ok(Some(object.name_any())),
        _ => Ok(None),
    });
    Ok(names.map_ok(move |name| (kind.to_string(), name)).boxed())
}

/// A watch that has begun, and is begun anew whenever it ends.
async fn endless<T, B>(begin: impl Fn() -> B + Send + 'static) -> Result<BoxStream<'static, Result<T>>>
where
    T: Send + 'static,
    B: Future<Output = kube::Result<BoxStream<'static, kube::Result<T>>>> + Send + 'static,
{
    let first = begin().await.context("failed to watch")?;
    let again = stream::repeat_with(begin).then(async |watch| {
        sleep(PAUSE).await;
        watch.await
    });
    Ok(first.chain(again.try_flatten()).map_err(anyhow::Error::from).boxed())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn observer(names: &[(&str, &str)]) -> Observer {
        let seen: Vec<_> =
            names.iter().map(|(kind, name)| Ok(((*kind).to_owned(), (*name).to_owned()))).collect();
        Observer { seen: stream::iter(seen).boxed() }
    }

    #[tokio::test]
    async fn objects_of_two_kinds_with_one_name_are_two_and_the_same_again_is_one() {
        let events = [("Service", "a"), ("Service", "a"), ("Deployment", "a"), ("Pod", "b")];
        assert_eq!(observer(&events).wait(3).await.unwrap().len(), 2, "names");
        let error = observer(&events).wait(4).await.unwrap_err();
        assert_eq!(error.to_string(), "3 of 4 objects came");
    }

    #[tokio::test]
    async fn a_watch_that_ends_is_begun_anew() {
        let begun = Cell::new(0);
        let events = endless(move || {
            begun.set(begun.get() + 1);
            let (from, to) = (0, begun.get());
            async move { Ok(stream::iter((from..to).map(Ok)).boxed()) }
        });
        let seen: Vec<i32> = events.await.unwrap().take(6).try_collect().await.unwrap();
        assert_eq!(seen, [0, 0, 1, 0, 1, 2]);
    }

    #[test]
    fn only_running_is_running() {
        let mut cluster = crate::workload::cluster("ns", "c", 1).unwrap();
        assert!(!is_running(&cluster));
        for (phase, running) in [(ClusterPhase::Created, false), (ClusterPhase::Running, true)] {
            cluster.status =
                Some(dask_operator_api::DaskClusterStatus { phase: Some(phase), ..Default::default() });
            assert_eq!(is_running(&cluster), running, "{phase:?}");
        }
    }
}
