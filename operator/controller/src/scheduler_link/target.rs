//! Where the scheduler of a cluster is. Pure.

use kube::ResourceExt;

use crate::cluster_cache::records::PodState;
use crate::cluster_cache::snapshot::ClusterSnapshot;
use crate::controllers::cluster::build::{comm_port, scheduler_address};

/// The scheduler process to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Namespace of the pod.
    pub(super) namespace: String,
    /// Name of the pod.
    pub(super) pod: Box<str>,
    /// UID of the pod: another one is another scheduler.
    pub(super) uid: Box<str>,
    /// `host:port` of the pod.
    pub(super) pod_address: Option<String>,
    /// `host:port` of the Service.
    pub(super) service_address: String,
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
        let address = scheduler_address(cluster).to_string();
        Some(Self {
            namespace: cluster.namespace().unwrap_or_default(),
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
            pod_address: pod.ip.as_deref().map(|ip| host_port(ip, port)),
            service_address: address.trim_start_matches("tcp://").to_owned(),
            port,
        })
    }
}

fn host_port(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
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

    #[test]
    fn addresses() {
        let target = Target::of(&with_pods(&[("a", PodState::Ready)])).unwrap();
        assert_eq!(target.pod_address.as_deref(), Some("10.0.0.2:8786"));
        assert_eq!(target.service_address, "simple-scheduler.ns.svc.cluster.local:8786");
        assert_eq!(host_port("fd00::2", 1), "[fd00::2]:1");
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
