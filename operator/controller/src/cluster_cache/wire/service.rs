//! The parts of a Service that are read.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{WireMeta, part_of};
use crate::cluster_cache::records::ServiceRecord;

/// A Service, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WireService {
    /// Metadata.
    pub metadata: WireMeta,
    spec: ServiceSpec,
    status: Status,
}

part_of!(WireService, Service);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    load_balancer: LoadBalancer,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoadBalancer {
    ingress: Option<Vec<IgnoredAny>>,
}

impl From<&WireService> for ServiceRecord {
    fn from(service: &WireService) -> Self {
        let metadata = &service.metadata;
        Self {
            name: metadata.name().to_owned(),
            uid: metadata.uid().to_owned(),
            resource_version: metadata.resource_version(),
            owner_uid: metadata.controller_uid.clone(),
            terminating: metadata.terminating,
            spec: service.spec.clone(),
            has_ingress: service.status.load_balancer.ingress.as_ref().is_some_and(|list| !list.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_spec_is_kept_whole() {
        let service: WireService = serde_json::from_value(json!({
            "metadata": {"name": "c-scheduler", "namespace": "ns", "uid": "u", "resourceVersion": "9"},
            "spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1", "ports": [{"name": "tcp-comm", "port": 8786}]},
            "status": {"loadBalancer": {}},
        }))
        .unwrap();
        let record = ServiceRecord::from(&service);
        assert_eq!(record.spec.cluster_ip.as_deref(), Some("10.0.0.1"));
        assert_eq!(record.spec.ports.as_ref().map(|ports| ports[0].port), Some(8786));
        assert_eq!((record.name.as_str(), record.owner_uid), ("c-scheduler", None));
    }

    #[rstest]
    #[case(json!({}), false)]
    #[case(json!({"status": {"loadBalancer": {"ingress": []}}}), false)]
    #[case(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}), true)]
    fn the_load_balancer_has_an_address(#[case] service: Value, #[case] expected: bool) {
        let service: WireService = serde_json::from_value(service).unwrap();
        assert_eq!(ServiceRecord::from(&service).has_ingress, expected);
    }
}
