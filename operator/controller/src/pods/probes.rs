//! Probes for containers whose author wrote none. None of ours can end a process that is well.
//!
//! No liveness probe: Dask's only sign of life, `/health`, moves with a prefix, with TLS and with the port, and comes
//! from the event loop that ingests task graphs, which a graph of a million tasks stops for 36 s (measured with
//! distributed 2026.8.0). A restart loses all results, so it is left to the process to end.
//!
//! A startup probe holds up all others until it has succeeded once. That spares a slow start the author's liveness probe,
//! and tells when a scheduler listens; it is given so much time that it ends no start.

use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, Probe, ServiceSpec, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::invocation::{self, Role};

const COMM_PORT_NAME: &str = "tcp-comm";
/// What Dask's scheduler listens on without `--port`.
const COMM_PORT: i32 = 8786;
/// Flyte calls it `dashboard`.
const DASHBOARD_PORT_NAMES: [&str; 2] = ["http-dashboard", "dashboard"];
/// Seconds until a startup probe of ours gives up: a day.
const START: i32 = 86_400;
/// An author's liveness probe that ends nothing for so many seconds spares a slow start by itself.
const PATIENT: i32 = 3_600;
/// The kubelet's defaults, in seconds and failures.
const DEFAULT_PERIOD: i32 = 10;
const DEFAULT_FAILURES: i32 = 3;
/// Seconds between two startup probes that run a command in the container, which costs a process each time.
const COMMAND_PERIOD: i32 = 10;
/// Options by which a scheduler listens elsewhere than on all addresses of its pod, or not by TCP.
const MOVING_OPTIONS: [&str; 2] = ["--interface", "--protocol"];
/// Variables of Dask's configuration by which it does not listen by TCP, or that name more configuration.
const MOVING_VARIABLES: [&str; 2] = ["DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME", "DASK_CONFIG"];

/// Adds a startup probe to the scheduler's container, unless it has one.
///
/// Beside a liveness probe of the author's it asks the same: what makes that one succeed makes ours succeed, wherever the
/// port is, and until then that one does not count. Where that one ends nothing for an hour, it may never succeed and
/// nobody has noticed: asked as a startup probe it would keep a scheduler that works off its Service. Then, and without
/// any, ours asks for the comm port, where it is certain which that is.
///
/// No readiness probe: Dask logs every connection that asks for nothing, so its log would hold little else. Once started,
/// a scheduler is ready as long as it runs.
pub fn add_to_scheduler(pod: &mut PodSpec, service: &ServiceSpec) {
    let index = pod.containers.iter().position(|c| invocation::of(c, Role::Scheduler).is_some()).unwrap_or(0);
    let Some(container) = pod.containers.get_mut(index) else { return };
    if container.startup_probe.is_some() {
        return;
    }
    container.startup_probe = match container.liveness_probe.as_ref().filter(|probe| !is_patient(probe)) {
        Some(liveness) => Some(of_liveness(liveness)),
        None => certain_port(container, service).map(|port| Probe {
            tcp_socket: Some(TCPSocketAction { port: IntOrString::Int(port), host: None }),
            period_seconds: Some(1),
            failure_threshold: Some(START),
            ..Probe::default()
        }),
    };
}

/// Whether a liveness probe lets a start take an hour.
fn is_patient(liveness: &Probe) -> bool {
    let failures = liveness.failure_threshold.unwrap_or(DEFAULT_FAILURES);
    let failing = failures.saturating_mul(liveness.period_seconds.unwrap_or(DEFAULT_PERIOD));
    liveness.initial_delay_seconds.unwrap_or(0) >= PATIENT || failing >= PATIENT
}

/// A startup probe that succeeds when the author's liveness probe does.
fn of_liveness(liveness: &Probe) -> Probe {
    let period = if liveness.exec.is_some() { COMMAND_PERIOD } else { 1 };
    Probe {
        exec: liveness.exec.clone(),
        grpc: liveness.grpc.clone(),
        http_get: liveness.http_get.clone(),
        tcp_socket: liveness.tcp_socket.clone(),
        timeout_seconds: liveness.timeout_seconds,
        period_seconds: Some(period),
        failure_threshold: Some(START / period),
        ..Probe::default()
    }
}

/// The port on which a scheduler listens on all addresses of its pod, if the words of the container leave no doubt.
fn certain_port(container: &Container, service: &ServiceSpec) -> Option<i32> {
    if !invocation::is_plain(container, Role::Scheduler) || may_be_configured_elsewhere(container) {
        return None;
    }
    let given = |option: &'static str| invocation::values(container, option).last();
    let everywhere = given("--host").is_none_or(|host| matches!(host, "" | "0.0.0.0" | "tcp://0.0.0.0"));
    if !everywhere || MOVING_OPTIONS.iter().any(|option| given(option).is_some()) {
        return None;
    }
    let port = given("--port").map_or(Some(COMM_PORT), |port| port.parse().ok())?;
    // Where the author declares another port, one of the two is not what it seems; where none, nobody asks for it.
    let numbered = || container.ports.iter().flatten().any(|declared| declared.container_port == port);
    let named = named_port(container, &[COMM_PORT_NAME]).or_else(|| service_target(service));
    let declared = named.map_or_else(numbered, |declared| declared == port);
    (declared && (1..=65_535).contains(&port)).then_some(port)
}

/// Whether variables or files that cannot be looked into may configure Dask.
fn may_be_configured_elsewhere(container: &Container) -> bool {
    let moves =
        |variable: &EnvVar| MOVING_VARIABLES.iter().any(|name| name.eq_ignore_ascii_case(&variable.name));
    container.env.iter().flatten().any(moves)
        || container.env_from.iter().flatten().next().is_some()
        || container.volume_mounts.iter().flatten().any(|mount| mount.mount_path.contains("dask"))
}

/// Adds a readiness probe to the worker's container, if its dashboard listens on a declared port for certain.
pub fn add_to_worker(pod: &mut PodSpec) {
    let index = pod.containers.iter().position(|c| invocation::of(c, Role::Worker).is_some());
    let Some(container) = index.and_then(|index| pod.containers.get_mut(index)) else { return };
    if container.readiness_probe.is_some() || !invocation::is_plain(container, Role::Worker) {
        return;
    }
    let Some(port) = named_port(container, &DASHBOARD_PORT_NAMES) else { return };
    let given = |option: &'static str| invocation::values(container, option).last();
    let address =
        given("--dashboard-address").map(|address| address.strip_prefix("0.0.0.0").unwrap_or(address));
    let listens = address.is_some_and(|address| address.trim_start_matches(':').parse() == Ok(port));
    let alone = given("--nworkers").or_else(|| given("--nprocs")).is_none_or(|count| count == "1");
    if !listens || !alone || invocation::words(container).any(|word| word == "--no-dashboard") {
        return;
    }
    container.readiness_probe = Some(Probe {
        tcp_socket: Some(TCPSocketAction { port: IntOrString::Int(port), host: None }),
        period_seconds: Some(2),
        timeout_seconds: Some(5),
        ..Probe::default()
    });
}

fn named_port(container: &Container, names: &[&str]) -> Option<i32> {
    let mut ports = container.ports.iter().flatten();
    ports
        .find(|port| port.name.as_deref().is_some_and(|name| names.contains(&name)))
        .map(|port| port.container_port)
}

/// The number that the Service sends `tcp-comm` to. A name would be looked up in the container's ports, where
/// it was not found.
fn service_target(service: &ServiceSpec) -> Option<i32> {
    let comm = service.ports.iter().flatten().find(|port| port.name.as_deref() == Some(COMM_PORT_NAME))?;
    match &comm.target_port {
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(_)) => None,
        None => Some(comm.port),
    }
}

#[cfg(test)]
#[path = "probes_tests.rs"]
mod tests;
