//! Which ports lead to the scheduler: in its pod, and through its Service. Pure.

use dask_operator_api::SchedulerSpec;
use dask_operator_api::address::DEFAULT_COMM_PORT;
use k8s_openapi::api::core::v1::{Container, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods::invocation::{Role, main_container, values};

/// What dask-kubernetes calls the port for Dask's own protocol. Its clients look for this name.
const COMM: &str = "tcp-comm";
/// What the port is called elsewhere: in guides, and in dask-kubernetes' documentation of 2022.
const OTHER_COMM_NAMES: [&str; 3] = ["dask-tcp-comm", "comm", "scheduler"];
/// The same for the dashboard; Flyte says `dashboard`.
const DASHBOARD_NAMES: [&str; 3] = ["http-dashboard", "dashboard", "dask-http-dashboard"];
/// Port of the dashboard, unless the pod says otherwise.
const DEFAULT_DASHBOARD_PORT: u16 = 8787;

/// How a port of the scheduler is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerPort {
    /// The port in the pod.
    pub in_pod: u16,
    /// The port of the Service that leads there; `None` if none does.
    pub in_service: Option<u16>,
    /// A port of the pod that the Service names and no container has, so that it leads nowhere.
    pub missing_target: Option<String>,
}

impl SchedulerPort {
    fn new(in_pod: u16, in_service: Option<u16>) -> Self {
        Self { in_pod, in_service, missing_target: None }
    }
}

/// The port for Dask's own protocol.
///
/// The Service's port is the one that is called `tcp-comm`; else the one that leads to the container's port of that
/// name, or to the port on which the scheduler listens; else one with another usual name.
#[must_use]
pub fn comm_port(scheduler: &SchedulerSpec) -> SchedulerPort {
    let listens = declared(scheduler, &[COMM])
        .or_else(|| flag(scheduler, "--port"))
        .or_else(|| declared(scheduler, &OTHER_COMM_NAMES))
        .unwrap_or(DEFAULT_COMM_PORT);
    find(scheduler, &[COMM], &OTHER_COMM_NAMES, listens)
}

/// The port of the dashboard, found in the same way; `None` if the Service has none.
#[must_use]
pub fn dashboard_port(scheduler: &SchedulerSpec) -> Option<u16> {
    let listens = declared(scheduler, &DASHBOARD_NAMES).unwrap_or(DEFAULT_DASHBOARD_PORT);
    find(scheduler, &DASHBOARD_NAMES, &[], listens).in_service
}

fn find(scheduler: &SchedulerSpec, names: &[&str], other_names: &[&str], listens: u16) -> SchedulerPort {
    let service = &scheduler.service;
    let ports = || service.ports.iter().flatten();
    let leads_there = |port: &&ServicePort| {
        let tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        tcp && target(port, scheduler) == Some(listens)
    };
    let found = names
        .iter()
        .find_map(|name| named(service, name))
        .or_else(|| ports().find(leads_there))
        .or_else(|| other_names.iter().find_map(|name| named(service, name)));
    let Some(port) = found else { return SchedulerPort::new(listens, None) };
    let Some(in_pod) = target(port, scheduler) else {
        let missing_target = match &port.target_port {
            Some(IntOrString::String(name)) => Some(name.clone()),
            _ => None,
        };
        return SchedulerPort { missing_target, ..SchedulerPort::new(listens, number(port.port)) };
    };
    // A name without an address of its own leads to the pod itself, whatever the Service calls its port.
    let headless = service.cluster_ip.as_deref() == Some("None");
    SchedulerPort::new(in_pod, if headless { Some(in_pod) } else { number(port.port) })
}

fn named<'a>(service: &'a ServiceSpec, name: &str) -> Option<&'a ServicePort> {
    service.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name))
}

/// The port of the pod that a port of the Service leads to; `None` if no container has the one that it names.
fn target(port: &ServicePort, scheduler: &SchedulerSpec) -> Option<u16> {
    match &port.target_port {
        // 0 is what Go writes for none.
        None | Some(IntOrString::Int(0)) => number(port.port),
        Some(IntOrString::Int(target)) => number(*target),
        Some(IntOrString::String(name)) => match name.parse() {
            Ok(target) => Some(target),
            Err(_) => declared(scheduler, &[name]),
        },
    }
}

/// The container port that has one of these names.
fn declared(scheduler: &SchedulerSpec, names: &[&str]) -> Option<u16> {
    let port = |name: &&str| {
        let mut ports = containers(scheduler).flat_map(|container| container.ports.iter().flatten());
        ports.find(|port| port.name.as_deref() == Some(name)).and_then(|port| number(port.container_port))
    };
    names.iter().find_map(port)
}

/// All containers, and init containers, among which are sidecars.
fn containers(scheduler: &SchedulerSpec) -> impl Iterator<Item = &Container> {
    scheduler.spec.containers.iter().chain(scheduler.spec.init_containers.iter().flatten())
}

/// The value of an option of the container that runs Dask.
fn flag(scheduler: &SchedulerSpec, option: &str) -> Option<u16> {
    let container = main_container(&scheduler.spec.containers, Role::Scheduler)?;
    values(container, option).last()?.parse().ok().filter(|port| *port > 0)
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
    fn scheduler(ports: Value, args: &[&str], service: Value) -> SchedulerSpec {
        serde_json::from_value(json!({
            "spec": {"containers": [
                {"name": "sidecar", "ports": [{"name": "proxy", "containerPort": 9443}]},
                {"name": "scheduler", "args": args, "ports": ports},
            ]},
            "service": service,
        }))
        .map(|mut spec: SchedulerSpec| {
            spec.spec.containers.rotate_left(1);
            spec
        })
        .unwrap()
    }

    fn usual() -> Value {
        json!([{"name": "tcp-comm", "containerPort": 8786}, {"name": "http-dashboard", "containerPort": 8787}])
    }

    #[rstest]
    #[case::by_its_name(json!([{"name": "other", "port": 1, "targetPort": 8786},
        {"name": "tcp-comm", "port": 9000, "targetPort": "tcp-comm"}]), Some(9000), 8786)]
    #[case::by_the_name_of_its_target(json!([{"name": "x", "port": 80},
        {"name": "dask-tcp-comm", "port": 18786, "targetPort": "tcp-comm"}]), Some(18786), 8786)]
    #[case::by_the_number_of_its_target(json!([{"name": "x", "port": 18786, "targetPort": 8786}]), Some(18786), 8786)]
    #[case::by_its_number(json!([{"port": 8786}]), Some(8786), 8786)]
    #[case::target_in_quotes(json!([{"port": 1, "targetPort": "8786"}]), Some(1), 8786)]
    #[case::target_zero(json!([{"port": 8786, "targetPort": 0}]), Some(8786), 8786)]
    #[case::another_usual_name(json!([{"name": "comm", "port": 9, "targetPort": "proxy"}]), Some(9), 9443)]
    #[case::through_a_proxy(json!([{"name": "tcp-comm", "port": 9, "targetPort": "proxy"}]), Some(9), 9443)]
    #[case::udp(json!([{"name": "x", "port": 8786, "protocol": "UDP"}]), None, 8786)]
    #[case::only_the_dashboard(json!([{"name": "http-dashboard", "port": 8787}]), None, 8786)]
    #[case::none(json!([]), None, 8786)]
    fn the_comm_port(#[case] ports: Value, #[case] service: Option<u16>, #[case] pod: u16) {
        let found = comm_port(&scheduler(usual(), &["dask", "scheduler"], json!({ "ports": ports })));
        assert_eq!((found.in_service, found.in_pod, found.missing_target), (service, pod, None));
    }

    #[test]
    fn a_target_that_no_container_has_is_told() {
        let service = json!({"ports": [{"name": "tcp-comm", "port": 9000, "targetPort": "tcp-com"}]});
        let found = comm_port(&scheduler(usual(), &[], service));
        assert_eq!((found.in_service, found.in_pod), (Some(9000), 8786));
        assert_eq!(found.missing_target.as_deref(), Some("tcp-com"));
    }

    #[rstest]
    #[case(&["dask", "scheduler", "--port", "9000"])]
    #[case(&["dask-scheduler", "--port=9000"])]
    fn a_port_of_the_command_counts(#[case] args: &[&str]) {
        let service =
            json!({"ports": [{"name": "x", "port": 1}, {"name": "y", "port": 2, "targetPort": 9000}]});
        let found = comm_port(&scheduler(json!([]), args, service));
        assert_eq!((found.in_service, found.in_pod), (Some(2), 9000));
    }

    #[test]
    fn a_port_of_the_command_counts_behind_a_sidecar() {
        let mut spec = scheduler(json!([]), &["dask", "scheduler", "--port", "9000"], json!({}));
        spec.spec.containers.rotate_left(1);
        assert_eq!(spec.spec.containers[0].name, "sidecar");
        assert_eq!(comm_port(&spec).in_pod, 9000);
    }

    #[test]
    fn a_service_without_an_address_has_the_pods_ports() {
        let service =
            json!({"clusterIP": "None", "ports": [{"name": "tcp-comm", "port": 9000, "targetPort": 8786}]});
        assert_eq!(comm_port(&scheduler(usual(), &[], service)).in_service, Some(8786));
    }

    #[rstest]
    #[case(json!([{"name": "dashboard", "port": 80, "targetPort": 8787}]), Some(80))]
    #[case(json!([{"name": "dask-http-dashboard", "port": 18787, "targetPort": "http-dashboard"}]), Some(18787))]
    #[case(json!([{"name": "web", "port": 18787, "targetPort": "http-dashboard"}]), Some(18787))]
    #[case(json!([{"name": "tcp-comm", "port": 8786}]), None)]
    fn the_dashboards_port(#[case] ports: Value, #[case] expected: Option<u16>) {
        assert_eq!(dashboard_port(&scheduler(usual(), &[], json!({ "ports": ports }))), expected);
    }
}
