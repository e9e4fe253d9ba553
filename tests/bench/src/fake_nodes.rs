//! Nodes without machines: kwok says that the pods on them run, kube-scheduler puts the pods there.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::background::Background;
use crate::server::Server;
use crate::wait::wait_for;

/// Enough for every pod of a scenario, few enough that nobody is busy with them.
const NODES: usize = 4;
const PODS_OF_A_NODE: usize = 1_000;

/// What kwok does: nodes live; pods on them run at once, and are gone at once when they are deleted.
const STAGES: &str = include_str!("../manifests/stages.yaml");

/// The processes that stand in for nodes; they end when this is dropped.
#[derive(Debug)]
pub struct FakeNodes {
    _processes: [Background; 2],
}

impl FakeNodes {
    /// Makes the nodes and waits until they take pods.
    ///
    /// # Errors
    /// When a program does not start or a node does not become ready.
    pub async fn start(server: &Server) -> Result<Self> {
        let stages = server.state_dir().join("stages.yaml");
        fs::write(&stages, STAGES).with_context(|| format!("failed to write {}", stages.display()))?;
        let kubeconfig = |option: &str| format!("--{option}={}", server.kubeconfig().display());
        let kwok = [
            kubeconfig("kubeconfig"),
            format!("--config={}", stages.display()),
            "--manage-all-nodes=true".to_owned(),
            // Without leases the nodes would count as dead.
            "--node-lease-duration-seconds=40".to_owned(),
        ];
        let scheduler = [
            kubeconfig("kubeconfig"),
            kubeconfig("authentication-kubeconfig"),
            kubeconfig("authorization-kubeconfig"),
            "--leader-elect=false".to_owned(),
            // At its own pace of 50 pods a second: quicker, it would take the machine from those that are measured.
            "--secure-port=0".to_owned(),
        ];
        let folder = server.state_dir();
        let processes = [spawn("kwok", &kwok, folder)?, spawn("kube-scheduler", &scheduler, folder)?];
        let nodes = Self { _processes: processes };
        let api: Api<Node> = Api::all(server.client.clone());
        for number in 0..NODES {
            let name = format!("fake-{number}");
            api.create(&PostParams::default(), &serde_json::from_value(node(&name))?).await?;
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status())).await?;
        }
        // The controller manager takes this away from nodes that live.
        wait_for("the fake nodes to take pods", async || {
            let list = api.list(&kube::api::ListParams::default()).await;
            list.is_ok_and(|list| list.items.iter().all(takes_pods))
        })
        .await?;
        Ok(nodes)
    }
}

fn spawn(program: &str, arguments: &[String], folder: &Path) -> Result<Background> {
    let log = fs::File::create(folder.join(format!("{program}.log")))?;
    let mut command = Command::new(testbed::tools::path(program)?);
    // Not the user's own configuration.
    command.args(arguments).env("HOME", folder).current_dir(folder);
    Background::start(&mut command, log)
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})
}

fn status() -> Value {
    let now = "2026-01-01T00:00:00Z";
    let room = json!({"cpu": "1000", "memory": "4Ti", "pods": PODS_OF_A_NODE.to_string()});
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Fake", "message": "there is no machine",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    json!({"status": {"capacity": room, "allocatable": room, "conditions": [ready]}})
}

fn takes_pods(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_takes_pods_when_it_has_no_taint() {
        let mut node: Node = serde_json::from_value(node("n")).unwrap();
        assert!(takes_pods(&node));
        let taint = json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]);
        node.spec.get_or_insert_default().taints = serde_json::from_value(taint).unwrap();
        assert!(!takes_pods(&node));
        let status: Node = serde_json::from_value(status()).unwrap();
        assert_eq!(status.status.unwrap().conditions.unwrap()[0].type_, "Ready");
    }
}
