//! Counts objects by watches of their metadata, the same for both sides.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dask_operator_api::{ClusterPhase, DaskCluster, DaskWorkerGroup};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{WatchEvent, WatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::server::PATIENCE;

/// Watches that were started before the objects they are to count.
pub struct Observer {
    created: stream::BoxStream<'static, Result<(String, String)>>,
}

impl Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Observer {
    /// Watches Services, Deployments, groups and pods of a namespace.
    ///
    /// # Errors
    /// When a watch does not start.
    pub async fn of_children(client: &Client, namespace: &str) -> Result<Self> {
        let created = stream::select_all([
            created::<Service>(client, namespace).await?,
            created::<Deployment>(client, namespace).await?,
            created::<DaskWorkerGroup>(client, namespace).await?,
            created::<Pod>(client, namespace).await?,
        ]);
        Ok(Self { created: created.boxed() })
    }

    /// Watches the pods of a namespace.
    ///
    /// # Errors
    /// When the watch does not start.
    pub async fn of_pods(client: &Client, namespace: &str) -> Result<Self> {
        Ok(Self { created: created::<Pod>(client, namespace).await? })
    }

    /// Waits until so many objects were created; returns when the last one was seen.
    ///
    /// # Errors
    /// When they do not come in time.
    pub async fn wait(mut self, count: usize) -> Result<Instant> {
        let mut seen = HashSet::new();
        while seen.len() < count {
            let next = timeout(PATIENCE, self.created.next()).await;
            let Ok(Some(object)) = next else { bail!("{} of {count} objects came", seen.len()) };
            seen.insert(object?);
        }
        Ok(Instant::now())
    }
}

type Created = stream::BoxStream<'static, Result<(String, String)>>;

async fn created<K>(client: &Client, namespace: &str) -> Result<Created>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let events = api.watch_metadata(&WatchParams::default(), "0").await.context("failed to watch")?;
    let kind = K::kind(&());
    let objects = events.try_filter_map(async |event| match event {
        WatchEvent::Added(object) => Ok(Some(object.name_any())),
        _ => Ok(None),
    });
    Ok(objects.map(move |name| Ok((kind.to_string(), name?))).boxed())
}

/// For each cluster, how long after its creation was answered its phase was seen to be `Running`. `create` makes
/// the clusters and says when each was answered.
///
/// # Errors
/// When a cluster does not run in time.
pub async fn time_to_running(
    client: &Client,
    namespace: &str,
    create: impl Future<Output = Result<Vec<(String, Instant)>>>,
) -> Result<Vec<Duration>> {
    let clusters: Api<DaskCluster> = Api::namespaced(client.clone(), namespace);
    let events = clusters.watch(&WatchParams::default(), "0").await?;
    let (seen, mut running) = mpsc::unbounded_channel();
    // A task of its own, so that events are timed when they come and not when all clusters were created.
    let watching = tokio::spawn(events.try_for_each(move |event| {
        if let WatchEvent::Added(cluster) | WatchEvent::Modified(cluster) = event
            && cluster.status.as_ref().is_some_and(|status| status.phase == Some(ClusterPhase::Running))
        {
            // Nobody listens any more once all clusters run.
            let _ = seen.send((cluster.name_any(), Instant::now()));
        }
        futures::future::ok(())
    }));
    let created = create.await?;
    let mut at = HashMap::new();
    while at.len() < created.len() {
        let next = timeout(PATIENCE, running.recv()).await;
        let Ok(Some((name, time))) = next else { bail!("{} of {} clusters run", at.len(), created.len()) };
        at.entry(name).or_insert(time);
    }
    watching.abort();
    let since = |(name, answered): (String, Instant)| at[&name].saturating_duration_since(answered);
    Ok(created.into_iter().map(since).collect())
}
