//! A pod as it comes from the API server, as far as it is read. Every other field is skipped while decoding, so
//! that a pod costs a few hundred bytes instead of a few thousand.

use std::borrow::Cow;

use dask_operator_api::labels;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::records::{identifier, resource_version};
use crate::pods::invocation::{self, Invocation, Role};

/// A pod, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WirePod {
    /// Metadata.
    pub metadata: WireMeta,
    /// Spec.
    pub spec: WirePodSpec,
    /// Status.
    pub status: PodStatus,
}

/// Lets kube's client take it for the whole pod.
impl Resource for WirePod {
    type DynamicType = ();
    type Scope = <Pod as Resource>::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata.object
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata.object
    }
}

/// Spec of a pod, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WirePodSpec {
    /// The node it was given to.
    pub node_name: Option<String>,
    scheduling_gates: Vec<SchedulingGate>,
    /// `Always`, `OnFailure` or `Never`; without, `Always`.
    pub restart_policy: Option<String>,
    /// Its containers.
    pub containers: Vec<WireContainer>,
    /// Its volumes.
    pub volumes: Vec<WireVolume>,
}

impl WirePodSpec {
    /// Whether it has the scheduling gate of this name.
    #[must_use]
    pub fn has_gate(&self, name: &str) -> bool {
        self.scheduling_gates.iter().any(|gate| gate.name == name)
    }

    /// The container that runs Dask: the one with a Dask command, else the first.
    #[must_use]
    pub fn main_container(&self, role: Role) -> Option<&WireContainer> {
        let runs_dask = |container: &&WireContainer| container.invocation(role).is_some();
        self.containers.iter().find(runs_dask).or_else(|| self.containers.first())
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct SchedulingGate {
    name: String,
}

/// A container of a pod's spec, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WireContainer {
    /// Name.
    pub name: String,
    /// Image.
    pub image: String,
    command: Vec<String>,
    args: Vec<String>,
    /// The container's own, which wins over the pod's.
    pub restart_policy: Option<String>,
    /// Rules by which it is restarted for some exit codes; not looked into.
    pub restart_policy_rules: Option<IgnoredAny>,
}

impl WireContainer {
    /// The Dask command that it runs, if its words are one.
    #[must_use]
    pub fn invocation(&self, role: Role) -> Option<Invocation> {
        invocation::find(self.command.iter().chain(&self.args).map(String::as_str), role)
    }

    /// Whether it may run Dask though it has no Dask command: a script, `dask-cuda-worker`, or an image whose entry
    /// point is `dask`.
    #[must_use]
    pub fn mentions_dask(&self) -> bool {
        let dask = |word: &String| word.to_ascii_lowercase().contains("dask");
        let subcommand = self.command.is_empty() && self.args.first().is_some_and(|word| word == "worker");
        subcommand || self.command.iter().chain(&self.args).any(dask)
    }
}

/// A volume of a pod's spec, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WireVolume {
    /// Name.
    pub name: String,
}

/// Status of a pod, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: Option<String>,
    /// Why the pod is in this phase, such as `Evicted`.
    pub reason: Option<String>,
    /// The same in words.
    pub message: Option<String>,
    start_time: Option<Time>,
    /// IP address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// IP addresses of all families, the one above included.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodAddress>,
    /// Conditions.
    pub conditions: Vec<PodCondition>,
    /// Statuses of the init containers.
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Statuses of the containers.
    pub container_statuses: Vec<ContainerStatus>,
}

impl PodStatus {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&PodCondition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether the condition of this type is `True`.
    #[must_use]
    pub fn is(&self, type_: &str) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == "True")
    }

    /// When the kubelet took the pod.
    #[must_use]
    pub fn accepted(&self) -> Option<Timestamp> {
        self.start_time.as_ref().map(|time| time.0)
    }

    /// Statuses of all containers, init containers first.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.init_container_statuses.iter().chain(&self.container_statuses)
    }
}

/// An IP address of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodAddress {
    /// The address.
    pub ip: String,
}

/// A condition of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodCondition {
    /// Such as `PodScheduled` or `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: Option<String>,
    /// Words.
    pub message: Option<String>,
    last_transition_time: Option<Time>,
}

impl PodCondition {
    /// When the status changed last.
    #[must_use]
    pub fn since(&self) -> Option<Timestamp> {
        self.last_transition_time.as_ref().map(|time| time.0)
    }
}

/// Status of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// Name of the container.
    pub name: String,
    /// Image, as in the spec or as resolved.
    pub image: String,
    /// Restarts.
    pub restart_count: i32,
    /// Whether its startup and readiness probes have succeeded.
    pub ready: bool,
    /// What it does now.
    pub state: ContainerState,
    /// How it ended before its last restart.
    pub last_state: ContainerState,
}

impl ContainerStatus {
    /// When it started first, as far as its status still tells: in this run, or in the one before.
    #[must_use]
    pub fn started(&self) -> Option<Timestamp> {
        let ended = [&self.last_state, &self.state].map(|state| state.terminated.as_ref()?.started());
        let runs = self.state.running.as_ref().and_then(|running| real(running.started_at.as_ref()));
        ended.into_iter().chain([runs]).flatten().min()
    }

    /// When it ended, if it does not run any more.
    #[must_use]
    pub fn finished(&self) -> Option<Timestamp> {
        self.state.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0)
    }

    /// Whether it was to start, but its program never began to.
    #[must_use]
    pub fn failed_to_start(&self) -> bool {
        let ends = [&self.state, &self.last_state].map(|state| state.terminated.as_ref());
        ends.into_iter().flatten().any(Terminated::never_ran)
            && self.started().is_none()
            && !self.is_running()
    }

    /// Since when it runs.
    #[must_use]
    pub fn running_since(&self) -> Option<Timestamp> {
        self.state.running.as_ref()?.started_at.as_ref().map(|time| time.0)
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state.running.is_some()
    }
}

/// What a container does; at most one of these is there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// It waits to start.
    pub waiting: Option<Waiting>,
    /// It runs.
    pub running: Option<Running>,
    /// It ended.
    pub terminated: Option<Terminated>,
}

/// Since when a container runs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Running {
    started_at: Option<Time>,
}

/// Why a container waits.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// One word, such as `ImagePullBackOff`.
    pub reason: Option<String>,
    /// The kubelet's words.
    pub message: Option<String>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// Exit code of the process.
    pub exit_code: i32,
    /// One word, such as `OOMKilled`.
    pub reason: Option<String>,
    /// The kubelet's words, or the container's own termination message.
    pub message: Option<String>,
    started_at: Option<Time>,
    finished_at: Option<Time>,
}

impl Terminated {
    /// Whether the runtime could not start the program, as the reasons of containerd and CRI-O, and of dockershim, say.
    #[must_use]
    pub fn never_ran(&self) -> bool {
        matches!(self.reason.as_deref(), Some("StartError" | "ContainerCannotRun"))
    }

    /// When its program started, if it ever did.
    fn started(&self) -> Option<Timestamp> {
        real(self.started_at.as_ref()).filter(|_| !self.never_ran())
    }

    /// Whether it had run for at least this long.
    #[must_use]
    pub fn lasted(&self, least: SignedDuration) -> bool {
        let (Some(started), Some(finished)) = (self.started(), &self.finished_at) else { return false };
        finished.0.duration_since(started) >= least
    }
}

/// The time, unless it is the epoch: so containerd reports what never happened (containerd issue 9080).
fn real(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0).filter(|time| *time > Timestamp::UNIX_EPOCH)
}

/// Metadata of an object, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "RawMeta")]
pub struct WireMeta {
    /// Name, namespace, UID and resource version; nothing else.
    pub object: ObjectMeta,
    /// `creationTimestamp`.
    pub created: Option<Timestamp>,
    /// Whether there is a `deletionTimestamp`.
    pub terminating: bool,
    /// UID of the controlling owner.
    pub controller_uid: Option<String>,
    /// Name of the controlling owner, if it is a ReplicaSet.
    pub replica_set: Option<String>,
    /// Label `pod-template-hash`, which the Deployment controller sets on the pods of a ReplicaSet, and appends to the
    /// ReplicaSet's name.
    pub pod_template_hash: Option<String>,
    /// Label `dask.org/cluster-name`.
    pub cluster: Option<String>,
    /// Label `dask.org/workergroup-name`.
    pub group: Option<String>,
    /// Label `dask.org/component`.
    pub component: Option<String>,
    /// Annotation `kubernetes.dask.org/ordinal`, if it is a number.
    pub ordinal: Option<i64>,
    /// Annotation `kubernetes.dask.org/template-hash`.
    pub template_hash: Option<String>,
    /// Annotation `kubernetes.dask.org/metadata-hash`.
    pub metadata_hash: Option<String>,
    /// Annotation `kubernetes.dask.org/drain`.
    pub drain: Option<String>,
    /// Annotation `kubernetes.dask.org/module-command`.
    pub module_command: Option<String>,
}

impl WireMeta {
    /// Namespace, or nothing.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.object.namespace.as_deref().unwrap_or_default()
    }

    /// Name, or nothing.
    #[must_use]
    pub fn name(&self) -> &str {
        self.object.name.as_deref().unwrap_or_default()
    }

    /// UID, or nothing.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.object.uid.as_deref().unwrap_or_default()
    }

    /// The resource version as a number.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        resource_version(&self.object)
    }

    /// Whether this is the pod of a scheduler: one that the Deployment `<cluster>-scheduler` made.
    ///
    /// Labels are no proof: whoever may create pods can set them, and copies of a pod for debugging keep them. The
    /// Deployment's pods are those of its `ReplicaSet`s, which are called `<deployment>-<pod-template-hash>`
    /// (`k8s.io/kubernetes/pkg/controller/deployment/sync.go`).
    #[must_use]
    pub fn is_scheduler(&self) -> bool {
        let is_labelled = self.component.as_deref() == Some(labels::SCHEDULER);
        let (Some(cluster), Some(hash)) = (&self.cluster, &self.pod_template_hash) else { return false };
        let owner = format!("{cluster}-{}-{hash}", labels::SCHEDULER);
        is_labelled && self.replica_set.as_ref() == Some(&owner)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<IgnoredAny>,
    labels: Option<RawLabels>,
    annotations: Option<RawAnnotations>,
    owner_references: Option<Vec<RawOwner>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawLabels {
    #[serde(rename = "dask.org/cluster-name")]
    cluster: Option<String>,
    #[serde(rename = "dask.org/workergroup-name")]
    group: Option<String>,
    #[serde(rename = "dask.org/component")]
    component: Option<String>,
    #[serde(rename = "pod-template-hash")]
    pod_template_hash: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawAnnotations {
    #[serde(rename = "kubernetes.dask.org/ordinal")]
    ordinal: Option<String>,
    #[serde(rename = "kubernetes.dask.org/template-hash")]
    template_hash: Option<String>,
    #[serde(rename = "kubernetes.dask.org/metadata-hash")]
    metadata_hash: Option<String>,
    #[serde(rename = "kubernetes.dask.org/drain")]
    drain: Option<String>,
    #[serde(rename = "kubernetes.dask.org/module-command")]
    module_command: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawOwner {
    uid: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    controller: Option<bool>,
}

impl From<RawMeta> for WireMeta {
    fn from(raw: RawMeta) -> Self {
        let labels = raw.labels.unwrap_or_default();
        let annotations = raw.annotations.unwrap_or_default();
        let mut owners = raw.owner_references.into_iter().flatten();
        let controller = owners.find(|owner| owner.controller == Some(true));
        let is_replica_set =
            |owner: &&RawOwner| owner.kind == "ReplicaSet" && owner.api_version.starts_with("apps/");
        let replica_set = controller.as_ref().filter(is_replica_set).map(|owner| owner.name.clone());
        Self {
            object: ObjectMeta {
                name: raw.name,
                namespace: raw.namespace,
                uid: raw.uid,
                resource_version: raw.resource_version,
                ..ObjectMeta::default()
            },
            created: raw.creation_timestamp.map(|time| time.0),
            terminating: raw.deletion_timestamp.is_some(),
            controller_uid: controller.map(|owner| identifier(&owner.uid).to_owned()),
            replica_set,
            pod_template_hash: labels.pod_template_hash,
            cluster: labels.cluster,
            group: labels.group,
            component: labels.component,
            ordinal: annotations.ordinal.and_then(|ordinal| ordinal.parse().ok()),
            template_hash: annotations.template_hash.as_deref().map(identifier).map(str::to_owned),
            metadata_hash: annotations.metadata_hash.as_deref().map(identifier).map(str::to_owned),
            drain: annotations.drain,
            module_command: annotations.module_command,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_what_is_needed_is_read() {
        let pod: WirePod = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "w", "namespace": "ns", "uid": "u", "resourceVersion": "42",
                "creationTimestamp": "2026-11-23T10:00:00Z", "deletionTimestamp": "2026-11-23T10:01:00Z",
                "labels": {"dask.org/cluster-name": "c", "other": "x"},
                "annotations": {"kubernetes.dask.org/ordinal": "not a number"},
                "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}],
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "other"},
                    {"apiVersion": "v1", "kind": "K", "name": "n", "uid": "owner", "controller": true},
                ],
            },
            "spec": {"nodeName": "node", "containers": [{"name": "worker"}]},
            "status": {"phase": "Running", "hostIP": "10.0.0.1"},
        }))
        .unwrap();
        assert_eq!((pod.metadata.namespace(), pod.metadata.name()), ("ns", "w"));
        assert_eq!((pod.metadata.uid(), pod.metadata.resource_version()), ("u", 42));
        assert_eq!(pod.metadata.created.map(|t| t.to_string()).as_deref(), Some("2026-11-23T10:00:00Z"));
        assert!(pod.metadata.terminating);
        assert_eq!(pod.metadata.controller_uid.as_deref(), Some("owner"));
        assert_eq!(pod.metadata.ordinal, None);
        assert_eq!(pod.resource_version().as_deref(), Some("42"), "kube's watcher reads this");
        assert!(pod.meta().managed_fields.is_none());
        assert_eq!(WirePod::url_path(&(), Some("ns")), "/api/v1/namespaces/ns/pods");
    }

    #[test]
    fn a_pod_with_hardly_anything_is_read() {
        let pod: WirePod = serde_json::from_value(json!({"metadata": {"creationTimestamp": null}})).unwrap();
        assert_eq!((pod.metadata.uid(), pod.metadata.resource_version()), ("", 0));
        assert!(!pod.metadata.terminating);
    }

    #[test]
    fn the_names_of_labels_and_annotations_are_the_apis() {
        let pod: WirePod = serde_json::from_value(json!({"metadata": {
            "labels": {labels::CLUSTER_NAME: "c", labels::WORKER_GROUP_NAME: "g", labels::COMPONENT: "worker"},
            "annotations": {labels::ORDINAL: "7", labels::TEMPLATE_HASH: "h", labels::METADATA_HASH: "m", labels::DRAIN: "d",
                labels::MODULE_COMMAND: "i"},
        }}))
        .unwrap();
        assert_eq!(pod.metadata.cluster.as_deref(), Some("c"));
        assert_eq!(pod.metadata.group.as_deref(), Some("g"));
        assert_eq!(pod.metadata.component.as_deref(), Some("worker"));
        assert_eq!(pod.metadata.ordinal, Some(7));
        assert_eq!(pod.metadata.template_hash.as_deref(), Some("h"));
        assert_eq!(pod.metadata.metadata_hash.as_deref(), Some("m"));
        assert_eq!(pod.metadata.drain.as_deref(), Some("d"));
        assert_eq!(pod.metadata.module_command.as_deref(), Some("i"));
    }

    fn scheduler(change: impl FnOnce(&mut Value)) -> WireMeta {
        let mut metadata = json!({
            "name": "c-scheduler-5c689d-abcde",
            "labels": {
                labels::CLUSTER_NAME: "c", labels::COMPONENT: "scheduler", "pod-template-hash": "5c689d",
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "c-scheduler-5c689d", "uid": "r",
                "controller": true,
            }],
        });
        change(&mut metadata);
        serde_json::from_value(metadata).unwrap()
    }

    #[test]
    fn the_scheduler_is_the_pod_of_the_clusters_own_deployment() {
        assert!(scheduler(|_| ()).is_scheduler());
        assert!(!WireMeta::default().is_scheduler());
    }

    #[rstest]
    #[case::a_copy_for_debugging("/ownerReferences", json!([]))]
    #[case::owned_but_not_controlled("/ownerReferences/0/controller", json!(false))]
    #[case::another_kind("/ownerReferences/0/kind", json!("StatefulSet"))]
    #[case::another_group("/ownerReferences/0/apiVersion", json!("tenant.example/v1"))]
    #[case::of_another_deployment("/ownerReferences/0/name", json!("copy-5c689d"))]
    #[case::of_another_cluster("/ownerReferences/0/name", json!("d-scheduler-5c689d"))]
    #[case::of_a_deployment_whose_name_begins_alike("/ownerReferences/0/name", json!("c-scheduler-x-5c689d"))]
    #[case::of_another_replica_set("/labels/pod-template-hash", json!("5c689e"))]
    #[case::a_worker("/labels/dask.org~1component", json!("worker"))]
    fn labels_alone_make_no_scheduler(#[case] field: &str, #[case] value: Value) {
        let change = |metadata: &mut Value| *metadata.pointer_mut(field).unwrap() = value;
        assert!(!scheduler(change).is_scheduler());
    }

    #[test]
    fn no_uid_and_no_digest_takes_much_room() {
        let long = "x".repeat(200_000);
        let pod: WirePod = serde_json::from_value(json!({"metadata": {
            "annotations": {labels::TEMPLATE_HASH: long, labels::METADATA_HASH: long},
            "ownerReferences": [{"uid": long, "controller": true}],
        }}))
        .unwrap();
        let WireMeta { template_hash, metadata_hash, controller_uid, .. } = pod.metadata;
        for kept in [template_hash, metadata_hash, controller_uid] {
            assert_eq!(kept.unwrap().len(), 128);
        }
    }

    const EPOCH: &str = "1970-01-01T00:00:00Z";
    const START: &str = "2026-11-23T10:00:00Z";
    const END: &str = "2026-11-23T10:20:00Z";

    #[rstest]
    #[case::ran(json!({"reason": "Error", "startedAt": START, "finishedAt": END}), true)]
    #[case::epoch(json!({"reason": "Error", "startedAt": EPOCH, "finishedAt": END}), false)]
    #[case::no_command(json!({"reason": "StartError", "startedAt": EPOCH, "finishedAt": END}), false)]
    #[case::no_command_elsewhere(json!({"reason": "ContainerCannotRun", "startedAt": START, "finishedAt": END}), false)]
    fn what_never_started_did_not_last(#[case] end: Value, #[case] expected: bool) {
        let container: ContainerStatus =
            serde_json::from_value(json!({"lastState": {"terminated": end}})).unwrap();
        assert_eq!(container.started().is_some(), expected);
        let end = container.last_state.terminated.unwrap();
        assert_eq!(end.lasted(SignedDuration::from_mins(10)), expected);
    }

    #[test]
    fn all_addresses_are_read() {
        let pod: WirePod = serde_json::from_value(
            json!({"status": {"podIP": "fd00::7", "podIPs": [{"ip": "fd00::7"}, {"ip": "10.0.0.7"}]}}),
        )
        .unwrap();
        let ips: Vec<_> = pod.status.pod_ips.iter().map(|address| address.ip.as_str()).collect();
        assert_eq!(ips, ["fd00::7", "10.0.0.7"]);
    }
}
