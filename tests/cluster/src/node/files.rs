//! Configuration files of the programs of a node. Paths are those inside the node: `/run/node` is its folder.

use std::{net::Ipv4Addr, path::Path};

use serde_json::{Value, json};

use crate::addresses::Addresses;

/// What a node's files depend on.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    pub(super) addresses: Addresses,
    pub(super) name: &'a str,
    pub(super) number: u8,
    pub(super) nodes: u32,
    pub(super) fast_failure: bool,
    /// Memory of the machine in bytes.
    pub(super) memory: u64,
    pub(super) runc: &'a Path,
    pub(super) cni_plugins: &'a Path,
    pub(super) pause_image: &'a str,
    pub(super) snapshotter: &'a str,
}

impl Settings<'_> {
    pub(super) fn address(&self) -> Ipv4Addr {
        self.addresses.node(self.number)
    }

    pub(super) fn containerd(&self) -> String {
        let Self { pause_image, snapshotter, .. } = self;
        let (runc, plugins) = (self.runc.display(), self.cni_plugins.display());
        // restrict_oom_score_adj: lowering it takes a right that containers and sandboxes do not have.
        format!(
            r#"version = 2
root = "/run/node/containerd"
state = "/run/containerd"
# Elsewhere it would make its folder on the machine, where nothing removes it.
[plugins."io.containerd.internal.v1.opt"]
  path = "/run/node/opt"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause_image}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        BinaryName = "{runc}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "/run/node/cni"
"#
        )
    }

    pub(super) fn cni(&self) -> Value {
        json!({"cniVersion": "1.0.0", "name": "testbed", "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
                // Hiding the pod behind its node would break NetworkPolicy and every log of a peer address.
                "ipMasq": false,
                "ipam": {
                    "type": "host-local", "dataDir": "/run/cni-ipam",
                    "ranges": [[{"subnet": self.addresses.pods_of(self.number)}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]})
    }

    pub(super) fn kubelet(&self) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "authentication": {
                "anonymous": {"enabled": false},
                "webhook": {"enabled": true},
                "x509": {"clientCAFile": "/run/node/ca.crt"},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": "/run/node/kubelet.crt",
            "tlsPrivateKeyFile": "/run/node/kubelet.key",
            "clusterDNS": [self.addresses.dns_service().to_string()],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            // Version 1 of control groups works, but kubelet refuses it by default since 1.35.
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "failSwapOn": false,
            // Lowering the score and raising the limit take rights that sandboxes do not have.
            "oomScoreAdj": 0,
            "maxOpenFiles": 20000,
            // All nodes see the whole machine: each offers its share, and one share stays for everything else.
            "systemReserved": {"memory": (self.memory - self.memory / (u64::from(self.nodes) + 1)).to_string()},
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "200Mi"},
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "maxPods": 250,
            "nodeStatusUpdateFrequency": "2s",
            "nodeLeaseDurationSeconds": if self.fast_failure { 8 } else { 40 },
            // Test images come by `load`, pulls fail: the attempts shall not queue up behind each other.
            "serializeImagePulls": false,
        })
    }

    pub(super) fn kube_proxy(&self) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": "/run/node/kube-proxy.kubeconfig"},
            "clusterCIDR": self.addresses.pods(),
            "hostnameOverride": self.name,
            "oomScoreAdj": 0,
            // These limits are the machine's, not the node's.
            "conntrack": {"maxPerCore": 0, "min": 0},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(nodes: u32, fast_failure: bool) -> Settings<'static> {
        Settings {
            addresses: Addresses { block: 201 },
            name: "node2",
            number: 2,
            nodes,
            fast_failure,
            memory: 12 << 30,
            runc: Path::new("/usr/sbin/runc"),
            cni_plugins: Path::new("/usr/lib/cni"),
            pause_image: "localhost/pause:1",
            snapshotter: "overlayfs",
        }
    }

    #[test]
    fn containerd_writes_into_the_nodes_own_folders_alone() {
        let config = settings(2, false).containerd();
        let settings = config.lines().filter_map(|line| line.trim().split_once(" = "));
        let paths = settings.filter(|(key, _)| ["root", "state", "path", "address"].contains(key));
        let values: Vec<_> = paths.map(|(_, value)| value.trim_matches('"')).collect();
        assert!(values.len() == 4 && values.iter().all(|path| path.starts_with("/run/")), "{values:?}");
    }

    #[test]
    fn every_node_has_pods_of_its_own() {
        let cni = settings(2, false).cni();
        assert_eq!(cni["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.201.2.0/24");
        assert_eq!(cni["plugins"][0]["ipMasq"], false);
    }

    #[test]
    fn nodes_share_the_memory_and_leave_one_share() {
        let reserved = |nodes| {
            let kubelet = settings(nodes, false).kubelet();
            kubelet["systemReserved"]["memory"].as_str().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(reserved(2), 8 << 30);
        assert_eq!(reserved(3), 9 << 30);
    }

    #[test]
    fn lease_is_renewed_within_the_grace_period() {
        // kubelet renews after a quarter of the duration; the grace period is 8 s when failures are to be fast.
        assert_eq!(settings(2, true).kubelet()["nodeLeaseDurationSeconds"], 8);
        assert_eq!(settings(2, false).kubelet()["nodeLeaseDurationSeconds"], 40);
    }

    #[test]
    fn addresses_reach_the_files() {
        let settings = settings(2, false);
        assert_eq!(settings.address().to_string(), "10.201.240.12");
        assert_eq!(settings.kubelet()["clusterDNS"][0], "10.201.128.10");
        assert_eq!(settings.kube_proxy()["clusterCIDR"], "10.201.0.0/17");
        assert!(settings.containerd().contains(r#"sandbox_image = "localhost/pause:1""#));
    }
}
