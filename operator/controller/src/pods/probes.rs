//! Probes for containers whose author wrote none.
//!
//! They only look at ports that the author declared, so that a cluster that works without them keeps working.
//! Dask answers `/health` from the same event loop that ingests task graphs; a graph of a million tasks stops
//! it for 36 s (measured with distributed 2026.8.0). So only a very slack liveness probe asks for `/health`: a restart
//! loses all results. All others ask for a TCP port, which the kernel answers.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, PodSpec, Probe, ServiceSpec, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

const COMM_PORT_NAME: &str = "tcp-comm";
const COMM_PORT: i32 = 8786;
/// Flyte calls it `dashboard`.
const DASHBOARD_PORT_NAMES: [&str; 2] = ["http-dashboard", "dashboard"];
const DASHBOARD_PORT: i32 = 8787;

/// Adds a liveness probe to the scheduler's first container, unless it has one; and a startup probe, unless the author
/// has thought of the start: ours would hold up a readiness probe of theirs.
///
/// No readiness probe: Dask logs every connection that asks for nothing, so its log would hold little else. Once started,
/// a scheduler is ready as long as it runs.
pub fn add_to_scheduler(pod: &mut PodSpec, service: &ServiceSpec) {
    let Some(container) = pod.containers.first_mut() else { return };
    let comm = container_port(container, &[COMM_PORT_NAME], COMM_PORT).or_else(|| service_target(service));
    let dashboard = container_port(container, &DASHBOARD_PORT_NAMES, DASHBOARD_PORT);
    if let Some(port) = comm
        && container.readiness_probe.is_none()
    {
        container.startup_probe.get_or_insert_with(|| Probe {
            tcp_socket: Some(TCPSocketAction { port, host: None }),
            period_seconds: Some(1),
            failure_threshold: Some(300),
            ..Probe::default()
        });
    }
    if let Some(port) = dashboard {
        container.liveness_probe.get_or_insert_with(|| Probe {
            http_get: Some(HTTPGetAction {
                path: Some("/health".to_owned()),
                port,
                ..HTTPGetAction::default()
            }),
            period_seconds: Some(60),
            timeout_seconds: Some(60),
            failure_threshold: Some(10),
            ..Probe::default()
        });
    }
}

/// Adds a readiness probe to the worker's first container, if its dashboard listens on a declared port.
pub fn add_to_worker(pod: &mut PodSpec) {
    let Some(container) = pod.containers.first_mut() else { return };
    let mut words = container.command.iter().flatten().chain(container.args.iter().flatten());
    if !words.any(|word| word.contains("--dashboard-address")) {
        return;
    }
    let Some(port) = named_port(container, &DASHBOARD_PORT_NAMES) else { return };
    container.readiness_probe.get_or_insert_with(|| Probe {
        tcp_socket: Some(TCPSocketAction { port, host: None }),
        period_seconds: Some(2),
        timeout_seconds: Some(5),
        ..Probe::default()
    });
}

fn named_port(container: &Container, names: &[&str]) -> Option<IntOrString> {
    let mut ports = container.ports.iter().flatten();
    let found = ports.find(|port| port.name.as_deref().is_some_and(|name| names.contains(&name)))?;
    Some(IntOrString::Int(found.container_port))
}

fn container_port(container: &Container, names: &[&str], number: i32) -> Option<IntOrString> {
    named_port(container, names).or_else(|| {
        let declared = container.ports.iter().flatten().any(|port| port.container_port == number);
        declared.then_some(IntOrString::Int(number))
    })
}

/// The number that the Service sends `tcp-comm` to. A name would be looked up in the container's ports, where
/// it was not found.
fn service_target(service: &ServiceSpec) -> Option<IntOrString> {
    let comm = service.ports.iter().flatten().find(|port| port.name.as_deref() == Some(COMM_PORT_NAME))?;
    match &comm.target_port {
        Some(IntOrString::Int(number)) => Some(IntOrString::Int(*number)),
        Some(IntOrString::String(_)) => None,
        None => Some(IntOrString::Int(comm.port)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
    fn scheduler(container: Value, service: Value) -> Container {
        let mut pod: PodSpec = serde_json::from_value(json!({"containers": [container]})).unwrap();
        add_to_scheduler(&mut pod, &serde_json::from_value(service).unwrap());
        pod.containers.remove(0)
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
    fn worker(container: Value) -> Container {
        let mut pod: PodSpec = serde_json::from_value(json!({"containers": [container]})).unwrap();
        add_to_worker(&mut pod);
        pod.containers.remove(0)
    }

    fn tcp_port(probe: Option<&Probe>) -> Option<IntOrString> {
        probe.and_then(|probe| probe.tcp_socket.as_ref()).map(|tcp| tcp.port.clone())
    }

    #[test]
    fn declared_ports_get_probes() {
        let container = scheduler(
            json!({"name": "scheduler", "ports": [
                {"name": "tcp-comm", "containerPort": 9000}, {"name": "dashboard", "containerPort": 9001}]}),
            json!({}),
        );
        assert_eq!(tcp_port(container.startup_probe.as_ref()), Some(IntOrString::Int(9000)));
        assert_eq!(container.readiness_probe, None, "the scheduler would log every look");
        let live = container.liveness_probe.unwrap();
        assert_eq!(live.http_get.unwrap().port, IntOrString::Int(9001));
        assert!(
            live.period_seconds.unwrap() * live.failure_threshold.unwrap() >= 600,
            "must outlast ingestion"
        );
    }

    #[test]
    fn the_services_target_is_a_declaration_too() {
        let service = json!({"ports": [{"name": "tcp-comm", "port": 80, "targetPort": 8786}]});
        let container = scheduler(json!({"name": "scheduler"}), service);
        assert_eq!(tcp_port(container.startup_probe.as_ref()), Some(IntOrString::Int(8786)));
    }

    #[test]
    fn undeclared_ports_get_none() {
        let service = json!({"ports": [{"name": "tcp-comm", "port": 8786, "targetPort": "tcp-comm"}]});
        let container = scheduler(json!({"name": "scheduler"}), service);
        assert_eq!(container, serde_json::from_value(json!({"name": "scheduler"})).unwrap());
    }

    #[test]
    fn the_users_probes_stay() {
        let own = json!({"httpGet": {"path": "/health", "port": "http-dashboard"}, "periodSeconds": 10});
        let container = scheduler(
            json!({"name": "scheduler", "readinessProbe": own, "ports": [{"containerPort": 8786}]}),
            json!({}),
        );
        assert_eq!(container.readiness_probe, Some(serde_json::from_value(own).unwrap()));
        assert_eq!(container.startup_probe, None, "it would hold up the user's");
        assert!(container.liveness_probe.is_none(), "no dashboard port is declared");
    }

    #[test]
    fn workers_get_readiness_only_where_the_dashboard_port_is_fixed() {
        let ports = json!([{"name": "http-dashboard", "containerPort": 8788}]);
        let args = json!(["dask-worker", "--dashboard-address", "8788"]);
        let ready = worker(json!({"name": "worker", "args": args, "ports": ports}));
        assert_eq!(tcp_port(ready.readiness_probe.as_ref()), Some(IntOrString::Int(8788)));
        assert!(ready.liveness_probe.is_none() && ready.startup_probe.is_none());
        assert!(worker(json!({"name": "worker", "ports": ports})).readiness_probe.is_none());
        assert!(worker(json!({"name": "worker", "args": args})).readiness_probe.is_none());
    }
}
