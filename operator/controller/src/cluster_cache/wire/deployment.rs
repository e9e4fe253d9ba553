//! The parts of a Deployment that are read.

use k8s_openapi::api::apps::v1::Deployment;
use serde::Deserialize;

use super::{WireMeta, part_of};
use crate::cluster_cache::records::DeploymentRecord;

/// A Deployment, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct WireDeployment {
    /// Metadata.
    pub metadata: WireMeta,
    spec: Spec,
    status: Status,
}

part_of!(WireDeployment, Deployment);

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    strategy: Strategy,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Strategy {
    #[serde(rename = "type")]
    type_: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    message: Option<String>,
}

impl From<&WireDeployment> for DeploymentRecord {
    fn from(deployment: &WireDeployment) -> Self {
        let metadata = &deployment.metadata;
        let mut conditions = deployment.status.conditions.iter();
        let failure = conditions.find(|c| c.type_ == "ReplicaFailure" && c.status == "True");
        Self {
            name: metadata.name().to_owned(),
            uid: metadata.uid().to_owned(),
            resource_version: metadata.resource_version(),
            owner_uid: metadata.controller_uid.clone(),
            terminating: metadata.terminating,
            recreates: deployment.spec.strategy.type_.as_deref() == Some("Recreate"),
            replica_failure: failure.map(|condition| condition.message.clone().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn record(deployment: Value) -> DeploymentRecord {
        DeploymentRecord::from(&serde_json::from_value::<WireDeployment>(deployment).unwrap())
    }

    #[test]
    fn the_whole_record() {
        let deployment = json!({
            "metadata": {
                "name": "c-scheduler", "namespace": "ns", "uid": "u", "resourceVersion": "9",
                "ownerReferences": [{"uid": "cluster", "controller": true}],
            },
            "spec": {"replicas": 1, "strategy": {"type": "Recreate"}, "template": {"spec": {}}},
            "status": {"conditions": [
                {"type": "Available", "status": "False", "message": "no"},
                {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"},
            ]},
        });
        let expected = DeploymentRecord {
            name: "c-scheduler".to_owned(),
            uid: "u".to_owned(),
            resource_version: 9,
            owner_uid: Some("cluster".to_owned()),
            terminating: false,
            recreates: true,
            replica_failure: Some("exceeded quota: q".to_owned()),
        };
        assert_eq!(record(deployment), expected);
    }

    #[rstest]
    #[case(json!({"spec": {"strategy": {"type": "RollingUpdate"}}}))]
    #[case(json!({"status": {"conditions": [{"type": "ReplicaFailure", "status": "False", "message": "past"}]}}))]
    #[case(json!({}))]
    fn without_recreate_and_failure(#[case] deployment: Value) {
        let record = record(deployment);
        assert!(!record.recreates);
        assert_eq!(record.replica_failure, None);
    }
}
