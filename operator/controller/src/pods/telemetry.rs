//! The preload modules that make schedulers cheap to ask, and let workers wait for them and drain at SIGTERM.
//!
//! They are in a ConfigMap of each cluster, which its pods mount. Dask loads them by flags at the end of its command,
//! after those of the user, because flags replace what variables and files configure; the modules themselves load
//! what they displaced. A container that runs a script gets no flags.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use dask_operator_api::DaskCluster;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, EnvVar, PodSpec, Volume, VolumeMount,
};
use kube::ResourceExt;

use super::invocation::{Role, append, is_plain, words};
use super::metadata;
use crate::digest;

const SCHEDULER_FILE: &str = "dask_operator_scheduler.py";
const WORKER_FILE: &str = "dask_operator_worker.py";
const SCHEDULER_MODULE: &str = include_str!("../../../../runtime/telemetry/dask_operator_scheduler.py");
const WORKER_MODULE: &str = include_str!("../../../../runtime/telemetry/dask_operator_worker.py");

/// Name of the volume that holds the modules in a pod.
pub const VOLUME: &str = "dask-operator";
const FOLDER: &str = "/etc/dask-operator";
const SCHEDULER_PATH: &str = "/etc/dask-operator/dask_operator_scheduler.py";
/// Where the workers' module is in a pod.
pub const WORKER_PATH: &str = "/etc/dask-operator/dask_operator_worker.py";
/// Preloads of a scheduler whose command has no such flag.
const SCHEDULER_PRELOAD: &str = "DASK_DISTRIBUTED__SCHEDULER__PRELOAD";

/// Seconds that running tasks get at SIGTERM.
const DRAIN_SECONDS: &str = "DASK_OPERATOR_DRAIN_SECONDS";
/// What the module takes without [`DRAIN_SECONDS`].
const DEFAULT_DRAIN: i64 = 20;
/// Kubernetes' default of `terminationGracePeriodSeconds`.
const DEFAULT_GRACE: i64 = 30;
/// Seconds after the drain's time by which the module has ended.
#[cfg(test)]
const MODULE_ENDS: i64 = 8;
/// What the drain's time leaves of the grace period: the module ends 8 s after it at the latest; Dask and the kubelet
/// need some, too.
const CLOSING: i64 = 15;

/// Whether pods get the modules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Telemetry {
    /// They do.
    #[default]
    On,
    /// They run as the user wrote them.
    Off,
}

impl Telemetry {
    /// From a switch.
    #[must_use]
    pub fn new(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }

    /// The switch.
    #[must_use]
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

/// Name of the ConfigMap of a cluster.
#[must_use]
pub fn config_map_name(cluster: &str) -> String {
    format!("{cluster}-dask-operator")
}

/// The ConfigMap of a cluster.
#[must_use]
pub fn config_map(cluster: &DaskCluster) -> ConfigMap {
    let files = [(SCHEDULER_FILE, SCHEDULER_MODULE), (WORKER_FILE, WORKER_MODULE)];
    ConfigMap {
        metadata: metadata::of_config(cluster, &config_map_name(&cluster.name_any())),
        data: Some(files.map(|(name, text)| (name.to_owned(), text.to_owned())).into()),
        ..ConfigMap::default()
    }
}

/// Digest of the modules, to know whether a ConfigMap holds those of this operator.
#[must_use]
pub fn modules_digest() -> &'static str {
    static DIGEST: LazyLock<String> =
        LazyLock::new(|| digest::of_text(&format!("{SCHEDULER_MODULE}\0{WORKER_MODULE}")));
    &DIGEST
}

/// Lets the scheduler of this cluster load its module. A script does so by a variable, unless it has flags of its
/// own, which would win.
pub fn add_to_scheduler(pod: &mut PodSpec, cluster: &str) {
    if is_taken(pod) {
        return;
    }
    if let Some(container) = pod.containers.iter_mut().find(|c| is_plain(c, Role::Scheduler)) {
        append(container, &["--preload", SCHEDULER_PATH]);
        mount(container);
    } else if let Some(container) = pod.containers.first_mut() {
        let preloads = |variable: &EnvVar| variable.name.eq_ignore_ascii_case(SCHEDULER_PRELOAD);
        if words(container).any(|word| word.contains("--preload"))
            || container.env.iter().flatten().any(preloads)
        {
            return;
        }
        let value = Some(format!("[\"{SCHEDULER_PATH}\"]"));
        container.env.get_or_insert_default().push(EnvVar {
            name: SCHEDULER_PRELOAD.to_owned(),
            value,
            value_from: None,
        });
        mount(container);
    } else {
        return;
    }
    pod.volumes.get_or_insert_default().push(volume(cluster));
}

/// Why the workers of this pod cannot load their module, in words; `None` if they can.
#[must_use]
pub fn unloadable(pod: &PodSpec) -> Option<&'static str> {
    if is_taken(pod) {
        return Some("the pod has a volume \"dask-operator\" or a mount at /etc/dask-operator of its own");
    }
    let plain = pod.containers.iter().any(|container| is_plain(container, Role::Worker));
    (!plain).then_some("no container's words are a plain `dask worker` command")
}

/// Lets the workers of this cluster and their nannies load their module, and gives them time to drain.
pub fn add_to_worker(pod: &mut PodSpec, cluster: &str) {
    if is_taken(pod) {
        return;
    }
    let grace = pod.termination_grace_period_seconds;
    let Some(container) = pod.containers.iter_mut().find(|c| is_plain(c, Role::Worker)) else { return };
    append(container, &["--preload", WORKER_PATH, "--preload-nanny", WORKER_PATH]);
    mount(container);
    let drain = drain_seconds(container, grace);
    pod.termination_grace_period_seconds = Some(grace.unwrap_or(DEFAULT_GRACE).max(drain + CLOSING));
    pod.volumes.get_or_insert_default().push(volume(cluster));
}

/// Seconds of the drain: the user's; or what the user's grace period leaves, if that is more than the default.
fn drain_seconds(container: &mut Container, grace: Option<i64>) -> i64 {
    let mut variables = container.env.iter().flatten();
    if let Some(own) = variables.find(|variable| variable.name == DRAIN_SECONDS) {
        // The module takes the default for what is no number.
        let seconds = own.value.as_deref().and_then(|value| value.trim().parse::<f64>().ok());
        let seconds = seconds.filter(|seconds| seconds.is_finite()).unwrap_or(20.0).clamp(0.0, 1e9);
        #[expect(clippy::cast_possible_truncation, reason = "it is between 0 and 1e9")]
        return seconds.ceil() as i64;
    }
    let drain = grace.map_or(DEFAULT_DRAIN, |grace| grace.saturating_sub(CLOSING));
    if drain <= DEFAULT_DRAIN {
        return DEFAULT_DRAIN;
    }
    let variable =
        EnvVar { name: DRAIN_SECONDS.to_owned(), value: Some(drain.to_string()), value_from: None };
    container.env.get_or_insert_default().push(variable);
    drain
}

/// Whether the user's pod has something else where the modules go.
fn is_taken(pod: &PodSpec) -> bool {
    let mut mounts = pod.containers.iter().flat_map(|container| container.volume_mounts.iter().flatten());
    pod.volumes.iter().flatten().any(|volume| volume.name == VOLUME)
        || mounts.any(|mount| mount.mount_path.trim_end_matches('/') == FOLDER)
}

fn mount(container: &mut Container) {
    container.volume_mounts.get_or_insert_default().push(VolumeMount {
        name: VOLUME.to_owned(),
        mount_path: FOLDER.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
}

fn volume(cluster: &str) -> Volume {
    let source = ConfigMapVolumeSource { name: config_map_name(cluster), ..ConfigMapVolumeSource::default() };
    Volume { name: VOLUME.to_owned(), config_map: Some(source), ..Volume::default() }
}

/// Whether the data of a ConfigMap is that of this operator.
#[must_use]
pub fn is_current(data: Option<&BTreeMap<String, String>>) -> bool {
    let has =
        |file: &str, module: &str| data.and_then(|data| data.get(file)).is_some_and(|text| text == module);
    has(SCHEDULER_FILE, SCHEDULER_MODULE) && has(WORKER_FILE, WORKER_MODULE)
}

#[cfg(test)]
#[path = "telemetry_tests.rs"]
mod tests;
