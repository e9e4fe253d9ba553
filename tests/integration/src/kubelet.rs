//! Plays scheduler and kubelet for the pods of a namespace: there are no nodes here.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::namespace::{Namespace, PROCESS, this_process};
use crate::templates::{FATE, FATE_LACKS_COMMAND, FATE_NO_NODE};

/// How long containers take to stop.
const STOP: Duration = Duration::from_millis(150);
/// A node that is silent for 50 s loses its pods.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Gives each pod a node and makes it ready; ends those that are deleted. What a test does to a pod's status beyond
/// that stays.
#[derive(Debug)]
pub struct Kubelet {
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Kubelet {
    /// Starts in a namespace; dropping it stops it.
    pub async fn start(namespace: &Namespace) -> Self {
        let nodes: Api<Node> = Api::all(namespace.client.clone());
        register_node(&nodes).await;
        let heart = tokio::spawn(async move {
            let mut beats = interval(HEARTBEAT);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beats.tick().await;
                beat(&nodes).await;
            }
        });
        let pods: Api<Pod> = namespace.api();
        let client = namespace.client.clone();
        let hands = tokio::spawn(async move {
            let events = watcher(pods, watcher::Config::default()).default_backoff().applied_objects();
            events.for_each_concurrent(None, |pod| look_after(client.clone(), pod.ok())).await;
        });
        Self { _tasks: [heart, hands].map(AbortOnDropHandle::new) }
    }
}

/// The node of this process' pods.
fn node_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| format!("node-{}", this_process()))
}

async fn register_node(nodes: &Api<Node>) {
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": node_name(), "labels": {PROCESS: this_process()}},
    });
    let params = PatchParams::apply("integration-tests").force();
    nodes.patch(node_name(), &params, &Patch::Apply(node)).await.expect("a node can be registered");
    beat(nodes).await;
}

async fn beat(nodes: &Api<Node>) {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", "lastHeartbeatTime": now,
    });
    // Another test of this process may beat at the same time.
    let _ = nodes
        .patch_status(
            node_name(),
            &PatchParams::default(),
            &Patch::Merge(json!({"status": {"conditions": [ready]}})),
        )
        .await;
}

/// One look at a pod. What fails, because the pod changed or went, is mended at the next event.
async fn look_after(client: Client, pod: Option<Pod>) {
    let Some(pod) = pod else { return };
    let pods: Api<Pod> = Api::namespaced(client, &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    if pod.metadata.deletion_timestamp.is_some() {
        sleep(STOP).await;
        let preconditions = Preconditions { uid: pod.uid(), resource_version: None };
        let params =
            DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }.grace_period(0);
        let _ = pods.delete(&name, &params).await;
        return;
    }
    if pod.annotations().get(FATE).is_some_and(|fate| fate == FATE_NO_NODE) {
        return;
    }
    if node.is_none() {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "uid": pod.uid()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node_name()},
        });
        let params = PostParams::default();
        let _ = pods.create_subresource::<Value, Value>("binding", &name, &params, &binding).await;
    } else if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Pending") {
        if lacks_command(&pod) {
            set_status(&pods, &pod, not_found(&pod)).await;
        } else if mounted(&pods, &pod).await {
            set_status(&pods, &pod, running(&pod)).await;
        }
    }
}

/// Waits until the volumes of a pod can be mounted, as the kubelet does; false if the pod went before.
async fn mounted(pods: &Api<Pod>, pod: &Pod) -> bool {
    let client = pods.clone().into_client();
    let namespace = pod.namespace().unwrap_or_default();
    let mut told = false;
    while let Some(missing) = missing_source(&client, &namespace, pod).await {
        if !told {
            tell_failed_mount(&client, &namespace, pod, &missing).await;
            set_status(pods, pod, waiting(pod)).await;
            told = true;
        }
        sleep(STOP).await;
        if pods.get_opt(&pod.name_any()).await.ok().flatten().and_then(|live| live.uid()) != pod.uid() {
            return false;
        }
    }
    true
}

/// The first ConfigMap or Secret that a volume needs and that is not there, in the kubelet's words.
async fn missing_source(client: &Client, namespace: &str, pod: &Pod) -> Option<String> {
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        if let Some(source) = &volume.config_map
            && matches!(configs.get_opt(&source.name).await, Ok(None))
        {
            return Some(format!("volume \"{}\" : configmap \"{}\" not found", volume.name, source.name));
        }
        let secret = volume.secret.as_ref().and_then(|source| source.secret_name.as_deref());
        if let Some(name) = secret
            && matches!(secrets.get_opt(name).await, Ok(None))
        {
            return Some(format!("volume \"{}\" : secret \"{name}\" not found", volume.name));
        }
    }
    None
}

async fn tell_failed_mount(client: &Client, namespace: &str, pod: &Pod, missing: &str) {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let event = json!({
        "metadata": {"generateName": "failed-mount-", "namespace": namespace},
        "involvedObject": {
            "kind": "Pod", "apiVersion": "v1", "name": pod.name_any(), "namespace": namespace, "uid": pod.uid(),
        },
        "reason": "FailedMount", "message": format!("MountVolume.SetUp failed for {missing}"), "type": "Warning",
        "firstTimestamp": now, "lastTimestamp": now, "count": 1, "source": {"component": "kubelet"},
    });
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let event = serde_json::from_value(event).expect("it is an Event");
    let _ = events.create(&PostParams::default(), &event).await;
}

/// The status of a pod that has waited on its node for a minute.
fn waiting(pod: &Pod) -> Value {
    let then = (Timestamp::now() - SignedDuration::from_mins(1)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ContainerCreating"}},
        })
    });
    json!({
        "phase": "Pending", "startTime": then,
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": then}],
        "containerStatuses": containers.collect::<Vec<_>>(),
    })
}

/// Whether the pod is to run a command that its image is said to lack.
fn lacks_command(pod: &Pod) -> bool {
    let fated = pod.annotations().get(FATE).is_some_and(|fate| fate == FATE_LACKS_COMMAND);
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let first = containers.next().and_then(|container| container.args.as_ref()?.first());
    fated && first.is_some_and(|word| word.starts_with("dask-"))
}

/// The status of a pod whose command was not found, as the kubelet reports it with containerd and runc.
fn not_found(pod: &Pod) -> Value {
    let mut status = waiting(pod);
    let never = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("Never");
    let end = json!({"terminated": {
        "exitCode": 128, "reason": "StartError", "startedAt": "1970-01-01T00:00:00Z",
        "message": "failed to create containerd task: exec: \"dask\": executable file not found in $PATH",
    }});
    status["phase"] = if never { "Failed".into() } else { "Running".into() };
    for container in status["containerStatuses"].as_array_mut().into_iter().flatten() {
        if never {
            container["state"] = end.clone();
        } else {
            container["restartCount"] = 1.into();
            container["state"] =
                json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
            container["lastState"] = end.clone();
        }
    }
    status
}

async fn set_status(pods: &Api<Pod>, pod: &Pod, status: Value) {
    let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
    let _ = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
}

/// The status of a pod that runs and is ready.
fn running(pod: &Pod) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .map(|type_| json!({"type": type_, "status": "True", "lastTransitionTime": now}));
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers).map(|container| {
        json!({
            "name": container.name, "image": container.image, "imageID": "", "ready": true, "started": true,
            "restartCount": 0, "state": {"running": {"startedAt": now}},
        })
    });
    let ip = address(pod);
    json!({
        "phase": "Running", "startTime": now, "conditions": conditions, "podIP": ip, "podIPs": [{"ip": ip}],
        "containerStatuses": containers.collect::<Vec<_>>(),
    })
}

/// An address for a pod, always the same.
fn address(pod: &Pod) -> String {
    let mut hasher = DefaultHasher::new();
    pod.uid().hash(&mut hasher);
    let [a, b, c, ..] = hasher.finish().to_le_bytes();
    format!("10.{a}.{b}.{c}")
}

/// How a container of a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With exit code 1.
    Error,
    /// Killed for lack of memory.
    OutOfMemory,
    /// With exit code 0.
    Completed,
    /// Evicted from its node.
    Evicted,
}

/// Lets a worker pod end, as the kubelet reports it when the pod is not to be restarted.
pub async fn end_pod(namespace: &Namespace, pod: &Pod, ending: Ending) {
    let (phase, code, reason) = match ending {
        Ending::Error => ("Failed", 1, "Error"),
        Ending::OutOfMemory => ("Failed", 137, "OOMKilled"),
        Ending::Completed => ("Succeeded", 0, "Completed"),
        Ending::Evicted => ("Failed", 137, "Evicted"),
    };
    let mut status = running(pod);
    status["phase"] = phase.into();
    status["conditions"] = json!([{"type": "PodScheduled", "status": "True"}]);
    if ending == Ending::Evicted {
        status["reason"] = "Evicted".into();
        status["message"] = "The node was low on resource: memory.".into();
        status["containerStatuses"] = json!([]);
    } else {
        for container in status["containerStatuses"].as_array_mut().into_iter().flatten() {
            container["ready"] = false.into();
            container["state"] = json!({"running": null, "terminated": {"exitCode": code, "reason": reason}});
        }
    }
    set_status(&namespace.api(), pod, status).await;
}

/// Waits until a pod runs, so that the [`Kubelet`] does not touch it any more.
pub async fn wait_until_running(namespace: &Namespace, name: &str) -> Pod {
    let fields = format!("metadata.name={name}");
    let pods: Api<Pod> = namespace.api();
    let events = watcher(pods, watcher::Config::default().fields(&fields)).applied_objects();
    let running = events.try_filter(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        std::future::ready(phase == Some("Running"))
    });
    let first = std::pin::pin!(running).next().await;
    first.expect("a watch without end").unwrap_or_else(|error| panic!("pod {name}: {error}"))
}
