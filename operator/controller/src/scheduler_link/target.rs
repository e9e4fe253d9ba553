//! Where the scheduler of a cluster is. Pure.

use std::net::{IpAddr, SocketAddr};

use dask_operator_api::DaskCluster;
use dask_operator_api::address::DEFAULT_COMM_PORT;
use kube::ResourceExt;

use crate::cluster_cache::records::{PodState, ServiceRecord};
use crate::cluster_cache::snapshot::ClusterSnapshot;
use crate::controllers::cluster::build::comm_port;

/// The scheduler process to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Namespace of the pod.
    pub(super) namespace: String,
    /// Name of the pod.
    pub(super) pod: Box<str>,
    /// UID of the pod: another one is another scheduler.
    pub(super) uid: Box<str>,
    /// The pod's IP address and the scheduler's port in it.
    pub(super) pod_address: Option<SocketAddr>,
    /// IP address and port of the cluster's own Service, which leads to this pod too.
    pub(super) service_address: Option<SocketAddr>,
    /// Port in the pod.
    pub(super) port: u16,
}

impl Target {
    /// The scheduler that runs; `None` if none does, so that nobody can be asked.
    pub(super) fn of(snapshot: &ClusterSnapshot) -> Option<Self> {
        let cluster = &snapshot.cluster;
        let pod = snapshot
            .scheduler_pods
            .iter()
            .rfind(|pod| pod.running && matches!(pod.state, PodState::Starting | PodState::Ready))?;
        let port = comm_port(&cluster.spec.scheduler).in_pod;
        Some(Self {
            namespace: cluster.namespace().unwrap_or_default(),
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
            pod_address: pod.ip.as_deref().and_then(ip).map(|ip| SocketAddr::new(ip, port)),
            service_address: snapshot
                .service
                .as_deref()
                .and_then(|service| service_address(cluster, service)),
            port,
        })
    }
}

/// Where the cluster's own Service leads to its scheduler; `None` if it leads elsewhere. Its spec is the user's, and so
/// would be a name to be looked up: an IP address that Kubernetes gave to a Service with a selector leads to pods of
/// the namespace and nowhere else. That of an `ExternalName`, or one without a selector, leads to any host.
fn service_address(cluster: &DaskCluster, service: &ServiceRecord) -> Option<SocketAddr> {
    let spec = &service.spec;
    let is_own = cluster.metadata.uid.is_some() && service.owner_uid == cluster.metadata.uid;
    let selects = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
    if !is_own || service.terminating || !selects || spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    // A headless one has the address "None".
    let ip = ip(spec.cluster_ip.as_deref()?)?;
    let port = comm_port(&cluster.spec.scheduler).in_service.unwrap_or(DEFAULT_COMM_PORT);
    Some(SocketAddr::new(ip, port))
}

/// An address as such, never a name.
fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::ServicePort;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::controllers::cluster::testing::{made, pod};

    fn with_pods(pods: &[(&str, PodState)]) -> ClusterSnapshot {
        let mut snapshot = made(PodState::Ready);
        let records = pods.iter().map(|(name, state)| {
            let mut record = pod(name, *state);
            record.running = *state != PodState::Pending;
            record.ip = Some("10.0.0.2".into());
            Arc::new(record)
        });
        snapshot.scheduler_pods = records.collect();
        snapshot
    }

    #[rstest]
    #[case(&[], None)]
    #[case(&[("a", PodState::Pending)], None)]
    #[case(&[("a", PodState::Terminating)], None)]
    #[case(&[("a", PodState::Failed)], None)]
    #[case(&[("a", PodState::Starting)], Some("a"))]
    #[case(&[("a", PodState::Ready), ("b", PodState::Ready)], Some("b"))]
    #[case(&[("a", PodState::Ready), ("b", PodState::Pending)], Some("a"))]
    fn the_newest_that_runs(#[case] pods: &[(&str, PodState)], #[case] expected: Option<&str>) {
        let target = Target::of(&with_pods(pods));
        assert_eq!(target.map(|target| target.pod.to_string()).as_deref(), expected);
    }

    fn address(text: &str) -> Option<SocketAddr> {
        text.parse().ok()
    }

    #[test]
    fn addresses() {
        let target = Target::of(&with_pods(&[("a", PodState::Ready)])).unwrap();
        assert_eq!(target.pod_address, address("10.0.0.2:8786"));
        assert_eq!(target.service_address, None, "it has no address yet");
    }

    #[rstest]
    #[case("fd00::2", address("[fd00::2]:8786"))]
    #[case("metadata.internal", None)]
    #[case("", None)]
    fn a_pod_is_asked_by_its_ip_address(#[case] ip: &str, #[case] expected: Option<SocketAddr>) {
        let mut snapshot = with_pods(&[("a", PodState::Ready)]);
        Arc::make_mut(&mut snapshot.scheduler_pods[0]).ip = Some(ip.into());
        assert_eq!(Target::of(&snapshot).unwrap().pod_address, expected);
    }

    #[rstest]
    #[case::own(json!({"clusterIP": "10.96.0.9"}), address("10.96.0.9:8786"))]
    #[case::ipv6(json!({"clusterIP": "fd00::9"}), address("[fd00::9]:8786"))]
    #[case::node_port(json!({"clusterIP": "10.96.0.9", "type": "NodePort"}), address("10.96.0.9:8786"))]
    #[case::other_port(
        json!({"clusterIP": "10.96.0.9", "ports": [{"name": "tcp-comm", "port": 9000, "targetPort": 8786}]}),
        address("10.96.0.9:9000")
    )]
    #[case::headless(json!({"clusterIP": "None"}), None)]
    #[case::not_yet(json!({"clusterIP": ""}), None)]
    #[case::a_name(json!({"clusterIP": "db.internal"}), None)]
    #[case::external(json!({"type": "ExternalName", "externalName": "db.internal"}), None)]
    #[case::external_with_an_address(
        json!({"type": "ExternalName", "externalName": "db.internal", "clusterIP": "10.96.0.9"}),
        None
    )]
    #[case::any_endpoints(json!({"clusterIP": "10.96.0.9", "selector": {}}), None)]
    #[case::no_selector(json!({"clusterIP": "10.96.0.9", "selector": null}), None)]
    fn only_a_service_that_leads_to_pods_is_asked(
        #[case] changes: Value,
        #[case] expected: Option<SocketAddr>,
    ) {
        let mut snapshot = with_pods(&[("a", PodState::Ready)]);
        let service = Arc::make_mut(snapshot.service.as_mut().unwrap());
        let mut spec = serde_json::to_value(&service.spec).unwrap();
        spec.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        service.spec = serde_json::from_value(spec).unwrap();
        let spec = service.spec.clone();
        Arc::make_mut(&mut snapshot.cluster).spec.scheduler.service = spec;
        assert_eq!(Target::of(&snapshot).unwrap().service_address, expected);
    }

    #[rstest]
    #[case::of_another(|service: &mut ServiceRecord| service.owner_uid = Some("other".to_owned()))]
    #[case::of_nobody(|service: &mut ServiceRecord| service.owner_uid = None)]
    #[case::on_its_way_out(|service: &mut ServiceRecord| service.terminating = true)]
    fn a_service_that_is_not_the_clusters_own_is_not_asked(#[case] change: fn(&mut ServiceRecord)) {
        let mut snapshot = with_pods(&[("a", PodState::Ready)]);
        let service = Arc::make_mut(snapshot.service.as_mut().unwrap());
        service.spec.cluster_ip = Some("10.96.0.9".to_owned());
        assert!(service_address(&snapshot.cluster, service).is_some());
        change(service);
        assert_eq!(service_address(&snapshot.cluster, service), None);
    }

    #[rstest]
    #[case(json!({"port": 9000}), 9000)]
    #[case(json!({"port": 9000, "targetPort": 9001}), 9001)]
    #[case(json!({"port": 9000, "targetPort": "comm"}), 9002)]
    #[case(json!({"port": 9000, "targetPort": "no such port"}), 9002)]
    fn the_port_in_the_pod(#[case] port: Value, #[case] expected: u16) {
        let mut cluster = (*made(PodState::Ready).cluster).clone();
        let mut port: ServicePort = serde_json::from_value(port).unwrap();
        port.name = Some("tcp-comm".to_owned());
        cluster.spec.scheduler.service.ports = Some(vec![port]);
        cluster.spec.scheduler.spec.containers[0].ports =
            serde_json::from_value(json!([{"name": "comm", "containerPort": 9002}])).unwrap();
        assert_eq!(comm_port(&cluster.spec.scheduler).in_pod, expected);
        cluster.spec.scheduler.service.ports = None;
        assert_eq!(comm_port(&cluster.spec.scheduler).in_pod, 9002);
    }
}
