//! A namespace of its own for each test.

use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};

use dask_operator_api::{DaskCluster, DaskWorkerGroup, labels};
use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Node, Pod, ResourceQuota, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::wait::{check, wait_for};

/// Label on the namespaces of tests: the process that made them.
pub(crate) const PROCESS: &str = "integration-tests/process";

/// Any kind of object that lives in a namespace.
pub trait Object:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug
{
}

impl<K> Object for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug
{
}

static COUNTER: AtomicUsize = AtomicUsize::new(0);

/// A namespace, and short ways to what is in it. It stays when the test ends, for a look at what went wrong; the
/// next run of the tests removes it.
#[derive(Clone)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// A client with all rights.
    pub client: Client,
    server: ApiServer,
}

impl Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Namespace").field(&self.name).finish()
    }
}

impl Namespace {
    pub(crate) async fn create(server: &ApiServer, test: &str) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{test}-{}-{number}-{:04x}", std::process::id(), fastrand::u16(..));
        let client = server.client();
        let namespace = NamespaceObject {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some([(PROCESS.to_owned(), this_process())].into()),
                ..ObjectMeta::default()
            },
            ..NamespaceObject::default()
        };
        let namespaces: Api<NamespaceObject> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace can be made");
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
        wait_for("the namespace's default service account", async || {
            accounts.get("default").await.map_err(|error| error.to_string())
        })
        .await;
        Self { name, client, server: server.clone() }
    }

    /// The server that it is on.
    #[must_use]
    pub fn server(&self) -> &ApiServer {
        &self.server
    }

    /// Any kind of object in it.
    #[must_use]
    pub fn api<K: Object>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// The object of this name.
    pub async fn get<K: Object>(&self, name: &str) -> K {
        self.api().get(name).await.unwrap_or_else(|error| panic!("{} {name}: {error}", K::kind(&())))
    }

    /// The object of this name, or what the API server said instead.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn find<K: Object>(&self, name: &str) -> Result<K, String> {
        self.api().get(name).await.map_err(|error| error.to_string())
    }

    /// All objects of a kind with these labels; all if there are none.
    pub async fn list<K: Object>(&self, selector: &str) -> Vec<K> {
        let params = ListParams::default().labels(selector);
        self.api::<K>().list(&params).await.unwrap_or_else(|error| panic!("{}: {error}", K::kind(&()))).items
    }

    /// Creates an object.
    pub async fn create_object<K: Object + Serialize>(&self, object: &K) -> K {
        let api = self.api::<K>();
        let created = api.create(&PostParams::default(), object).await;
        created.unwrap_or_else(|error| panic!("{} {}: {error}", K::kind(&()), object.name_any()))
    }

    /// Changes an object by a merge patch.
    pub async fn patch<K: Object>(&self, name: &str, patch: Value) -> K {
        let api = self.api::<K>();
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.unwrap_or_else(|error| panic!("{} {name}: {error}", K::kind(&())))
    }

    /// Sets a quota and waits until it counts.
    pub async fn limit(&self, name: &str, hard: Value) {
        let quota = json!({"metadata": {"name": name}, "spec": {"hard": hard}});
        let quota: ResourceQuota = serde_json::from_value(quota).expect("it is a quota");
        self.create_object(&quota).await;
        wait_for("the quota counts", async || {
            let status = self.find::<ResourceQuota>(name).await?.status.unwrap_or_default();
            check(status.hard.is_some() && status.used.is_some(), || format!("{status:?}"))
        })
        .await;
    }

    /// Sets the number of workers of a group, as `KubeCluster.scale` does.
    pub async fn scale_group(&self, group: &str, replicas: i32) {
        self.patch::<DaskWorkerGroup>(group, json!({"spec": {"worker": {"replicas": replicas}}})).await;
    }

    /// Sets the number of workers of a cluster, as `kubectl edit` does.
    pub async fn edit_cluster_replicas(&self, cluster: &str, replicas: i32) {
        self.patch::<DaskCluster>(cluster, json!({"spec": {"worker": {"replicas": replicas}}})).await;
    }

    /// Sets the number through the scale subresource, as `kubectl scale` and autoscalers do.
    pub async fn kubectl_scale<K: Object>(&self, name: &str, replicas: i32) {
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let scaled = self.api::<K>().patch_scale(name, &PatchParams::default(), &patch).await;
        scaled.unwrap_or_else(|error| panic!("{} {name}: {error}", K::kind(&())));
    }

    /// Deletes an object; that it is gone already is no error.
    pub async fn delete<K: Object>(&self, name: &str) {
        match self.api::<K>().delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            deleted => {
                deleted.unwrap_or_else(|error| panic!("{} {name}: {error}", K::kind(&())));
            }
        }
    }

    /// The worker pods of a group that are not on their way out, by name.
    pub async fn workers(&self, group: &str) -> Vec<Pod> {
        let selector =
            format!("{}={group},{}={}", labels::WORKER_GROUP_NAME, labels::COMPONENT, labels::WORKER);
        let mut pods: Vec<Pod> = self.list(&selector).await;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.sort_by_key(ResourceExt::name_any);
        pods
    }

    /// Waits until a group has exactly so many ready workers and its status says so.
    pub async fn wait_for_ready_workers(&self, group: &str, count: i32) -> Vec<Pod> {
        wait_for(&format!("{count} ready workers in {group}"), async || {
            let workers = self.workers(group).await;
            let status = self.find::<DaskWorkerGroup>(group).await?.status.unwrap_or_default();
            let settled = i32::try_from(workers.len()) == Ok(count)
                && (status.replicas, status.ready_replicas) == (count, count);
            check(settled, || format!("{} pods, status {status:?}", workers.len()))?;
            Ok(workers)
        })
        .await
    }

    /// Waits until a cluster has this condition for this reason.
    pub async fn wait_for_cluster_condition(&self, cluster: &str, type_: &str, reason: &str) -> Condition {
        wait_for(&format!("{cluster} has {type_} for reason {reason}"), async || {
            let status = self.find::<DaskCluster>(cluster).await?.status.unwrap_or_default();
            with_reason(&status.conditions, type_, reason)
        })
        .await
    }

    /// Waits until a group has condition `WorkersReady` for this reason.
    pub async fn wait_for_group_reason(&self, group: &str, reason: &str) -> Condition {
        wait_for(&format!("{group} has WorkersReady for reason {reason}"), async || {
            let status = self.find::<DaskWorkerGroup>(group).await?.status.unwrap_or_default();
            with_reason(&status.conditions, "WorkersReady", reason)
        })
        .await
    }

    /// Waits for an Event about an object with this reason; returns all such Events.
    pub async fn wait_for_event(&self, about: &str, reason: &str) -> Vec<Event> {
        wait_for(&format!("an Event {reason} about {about}"), async || {
            let mut events = self.events_about(about).await;
            let seen = format!("{:?}", events.iter().map(|event| &event.reason).collect::<Vec<_>>());
            events.retain(|event| event.reason.as_deref() == Some(reason));
            check(!events.is_empty(), || seen)?;
            Ok(events)
        })
        .await
    }

    /// The Events about an object.
    pub async fn events_about(&self, name: &str) -> Vec<Event> {
        let mut events: Vec<Event> = self.list("").await;
        events.retain(|event| event.regarding.as_ref().and_then(|about| about.name.as_deref()) == Some(name));
        events
    }
}

fn with_reason(conditions: &[Condition], type_: &str, reason: &str) -> Result<Condition, String> {
    let condition =
        conditions.iter().find(|condition| condition.type_ == type_ && condition.reason == reason);
    condition.cloned().ok_or_else(|| format!("{conditions:?}"))
}

/// This process, so that no later one is taken for it: its id, and when it started.
pub(crate) fn this_process() -> String {
    let id = std::process::id();
    format!("{id}-{}", start_time(id).unwrap_or_default())
}

/// When a process started, in clock ticks after boot: field 22 of `/proc/<pid>/stat` (proc(5)).
fn start_time(process: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field may hold blanks; it ends with the last parenthesis.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19).map(str::to_owned)
}

fn is_alive(process: &str) -> bool {
    let Some((id, start)) = process.split_once('-') else { return false };
    id.parse().ok().and_then(start_time).as_deref() == Some(start)
}

/// Removes the namespaces and nodes of test processes that ended. What fails is left to the next run.
pub(crate) async fn sweep(client: &Client) {
    sweep_kind::<NamespaceObject>(client).await;
    sweep_kind::<Node>(client).await;
}

async fn sweep_kind<K>(client: &Client)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let Ok(all) = api.list(&ListParams::default().labels(PROCESS)).await else { return };
    let left = all.items.iter().filter(|object| object.labels().get(PROCESS).is_none_or(|p| !is_alive(p)));
    join_all(left.map(async |object| {
        let _ = api.delete(&object.name_any(), &DeleteParams::default()).await;
    }))
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_its_number() {
        let this = this_process();
        assert!(is_alive(&this), "{this}");
        assert!(!is_alive(&format!("{this}0")));
        assert!(!is_alive("4194305-1"), "no process has such a number");
        assert!(!is_alive("nonsense"));
    }
}
