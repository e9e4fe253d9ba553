//! What a test does in its namespace.

use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use e2e_tests::{
    Error, clusters,
    command::Invocation,
    dask::ClientPod,
    wait::{self, Look},
};
use k8s_openapi::api::{core::v1::Pod, events::v1::Event};
use kube::{Api, api::ListParams};

use crate::{
    fixtures::workers_of,
    harness::{PATIENCE, Scenario},
};

impl Scenario {
    /// kubectl in the namespace.
    pub(crate) fn kubectl(&self, line: &str) -> Invocation {
        self.kubernetes.kubectl(&format!("--namespace {} {line}", self.namespace))
    }

    /// `kubectl apply` of a manifest.
    pub(crate) async fn apply(&self, manifest: impl ToString) -> Result<(), Error> {
        self.kubectl("apply -f -").input(manifest.to_string()).run().await?;
        Ok(())
    }

    /// `kubectl scale` of a cluster.
    pub(crate) async fn scale(&self, cluster: &str, replicas: i32) -> Result<(), Error> {
        self.kubectl(&format!("scale daskcluster {cluster} --replicas={replicas}")).run().await?;
        Ok(())
    }

    /// A pod in which scripts use the cluster.
    pub(crate) async fn client_pod(&self) -> Result<ClientPod<'_>, Error> {
        ClientPod::start(self.kubernetes, &self.namespace, "client", testbed::images::DASK).await
    }

    /// Waits until the cluster says that it is ready with exactly so many workers.
    pub(crate) async fn ready(&self, cluster: &str, workers: i32) -> Result<DaskCluster, Error> {
        let what = format!("DaskCluster {cluster:?} ready with {workers} workers");
        self.until(cluster, &what, |cluster| clusters::is_ready(cluster, workers)).await
    }

    /// Waits until something holds of the cluster.
    pub(crate) async fn until(
        &self,
        cluster: &str,
        what: &str,
        holds: impl Fn(&DaskCluster) -> bool,
    ) -> Result<DaskCluster, Error> {
        let clusters: Api<DaskCluster> = Api::namespaced(self.client.clone(), &self.namespace);
        clusters::until(&clusters, cluster, what, PATIENCE, holds).await
    }

    /// Waits until a condition of the cluster has this reason.
    pub(crate) async fn reason(
        &self,
        cluster: &str,
        type_: &str,
        reason: &str,
    ) -> Result<DaskCluster, Error> {
        let what = format!("{type_} of DaskCluster {cluster:?} with reason {reason}");
        let holds = |cluster: &DaskCluster| {
            clusters::condition(cluster, type_).is_some_and(|condition| condition.reason == reason)
        };
        self.until(cluster, &what, holds).await
    }

    /// Waits until the pods that a selector names are as wanted, and returns them.
    pub(crate) async fn pods(
        &self,
        selector: &str,
        what: &str,
        holds: impl Fn(&[Pod]) -> bool,
    ) -> Result<Vec<Pod>, Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = ListParams::default().labels(selector);
        wait::until(what, PATIENCE, async || {
            let pods = api.list(&params).await.map_err(Error::api("list pods"))?.items;
            let seen = pods.iter().map(describe_pod).collect::<Vec<_>>().join(", ");
            Ok(if holds(&pods) { Look::Done(pods) } else { Look::NotYet(seen) })
        })
        .await
    }

    /// The workers of a cluster's default group, as they are.
    pub(crate) async fn workers(&self, cluster: &str) -> Result<Vec<Pod>, Error> {
        self.pods(&workers_of(cluster), "the workers", |_| true).await
    }

    /// Waits for an Event about the object of this name, and returns its words.
    pub(crate) async fn event(&self, object: &str, reason: &str) -> Result<String, Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        wait::until(&format!("an Event {reason} about {object:?}"), PATIENCE, async || {
            let events = api.list(&ListParams::default()).await.map_err(Error::api("list events"))?;
            let about = events.items.into_iter().filter(|event| {
                event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(object)
            });
            let (found, others): (Vec<_>, Vec<_>) =
                about.partition(|event| event.reason.as_deref() == Some(reason));
            let reasons: Vec<_> = others.into_iter().filter_map(|event| event.reason).collect();
            let note = found.into_iter().next().map(|event| event.note.unwrap_or_default());
            Ok(note.map_or_else(|| Look::NotYet(format!("Events {}", reasons.join(", "))), Look::Done))
        })
        .await
    }

    /// A worker group.
    pub(crate) async fn group(&self, name: &str) -> Result<DaskWorkerGroup, Error> {
        let api: Api<DaskWorkerGroup> = Api::namespaced(self.client.clone(), &self.namespace);
        api.get(name).await.map_err(Error::api(format!("get DaskWorkerGroup {name:?}")))
    }
}

/// Name, node and phase of a pod, for messages.
fn describe_pod(pod: &Pod) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("no node");
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("no phase");
    let end = if pod.metadata.deletion_timestamp.is_some() { " terminating" } else { "" };
    format!("{name} on {node} {phase}{end}")
}
