//! Command lines of the control plane. Only what a test cluster needs to differ in from the defaults.

use std::path::Path;

use super::{audit_log, credentials::component_kubeconfig};
use crate::state::State;

/// Services of the API tier: nothing routes to them.
const API_TIER_SERVICES: &str = "10.96.0.0/16";

pub(super) fn etcd_args(data_dir: &Path, state: &State) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", state.ports.etcd_client);
    let peer = format!("http://127.0.0.1:{}", state.ports.etcd_peer);
    vec![
        format!("--data-dir={}", data_dir.display()),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
    ]
}

pub(super) fn api_server_args(state_dir: &Path, state: &State) -> Vec<String> {
    let pki = state_dir.join("pki");
    let pki = pki.display();
    let mut args = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", state.ports.etcd_client),
        "--authorization-mode=Node,RBAC".to_owned(),
        format!("--client-ca-file={pki}/ca.crt"),
        format!("--tls-cert-file={pki}/apiserver.crt"),
        format!("--tls-private-key-file={pki}/apiserver.key"),
        format!("--kubelet-client-certificate={pki}/kubelet-client.crt"),
        format!("--kubelet-client-key={pki}/kubelet-client.key"),
        format!("--kubelet-certificate-authority={pki}/ca.crt"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={pki}/service-accounts.pub"),
        format!("--service-account-signing-key-file={pki}/service-accounts.key"),
        "--allow-privileged=true".to_owned(),
        format!("--secure-port={}", state.api_server_port()),
        // The sum is shared out to the priority levels: enough that a bench is never queued behind itself.
        "--max-requests-inflight=1200".to_owned(),
        "--max-mutating-requests-inflight=600".to_owned(),
    ];
    if let Some(addresses) = state.addresses {
        args.push(format!("--bind-address={}", addresses.gateway()));
        args.push(format!("--advertise-address={}", addresses.gateway()));
        args.push(format!("--service-cluster-ip-range={}", addresses.services()));
        args.push("--enable-admission-plugins=NodeRestriction".to_owned());
    } else {
        args.push("--bind-address=127.0.0.1".to_owned());
        args.push("--advertise-address=127.0.0.1".to_owned());
        // Endpoints may not hold a loopback address, and no pod needs the Service `kubernetes` here.
        args.push("--endpoint-reconciler-type=none".to_owned());
        args.push(format!("--service-cluster-ip-range={API_TIER_SERVICES}"));
        if !state.config.controller_manager {
            args.push("--disable-admission-plugins=ServiceAccount".to_owned());
        }
    }
    if state.config.audit_log {
        args.push(format!("--audit-policy-file={}", state_dir.join("audit-policy.json").display()));
        args.push(format!("--audit-log-path={}", audit_log(state_dir).display()));
        // Written before the answer is sent, and never split: a test reads one file right after its last call.
        args.push("--audit-log-mode=blocking".to_owned());
        args.push("--audit-log-maxsize=4096".to_owned());
    }
    if state.config.fast_node_failure {
        args.push("--default-not-ready-toleration-seconds=5".to_owned());
        args.push("--default-unreachable-toleration-seconds=5".to_owned());
    }
    args
}

pub(super) fn controller_args(state_dir: &Path, state: &State, component: &str) -> Vec<String> {
    let pki = state_dir.join("pki");
    let pki = pki.display();
    let mut args = vec![
        format!("--kubeconfig={}", component_kubeconfig(state_dir, component).display()),
        "--leader-elect=false".to_owned(),
        // Their own servers would need ports, and nobody asks them.
        "--secure-port=0".to_owned(),
    ];
    if let Some(qps) = state.config.controller_qps {
        args.push(format!("--kube-api-qps={qps}"));
        args.push(format!("--kube-api-burst={}", qps.saturating_mul(2)));
    }
    if component != "kube-controller-manager" {
        return args;
    }
    args.extend([
        format!("--service-account-private-key-file={pki}/service-accounts.key"),
        format!("--root-ca-file={pki}/ca.crt"),
        format!("--cluster-signing-cert-file={pki}/ca.crt"),
        format!("--cluster-signing-key-file={pki}/ca.key"),
    ]);
    if state.config.fast_node_failure {
        args.push("--node-monitor-period=1s".to_owned());
        args.push("--node-monitor-grace-period=8s".to_owned());
    }
    args
}

/// One line per request, when it is answered.
pub(super) fn audit_policy() -> String {
    serde_json::json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{addresses::Addresses, config::ClusterConfig, ports::Ports};

    fn state(config: ClusterConfig) -> State {
        State {
            addresses: (!config.api_only).then_some(Addresses { block: 201 }),
            config,
            tools: "v".into(),
            ports: Ports { etcd_client: 20_001, etcd_peer: 20_002, api_server: 20_003 },
            complete: false,
        }
    }

    fn api_server(config: ClusterConfig) -> Vec<String> {
        api_server_args(Path::new("/s"), &state(config))
    }

    fn has(args: &[String], arg: &str) -> bool {
        args.iter().any(|one| one == arg)
    }

    #[test]
    fn etcd_does_not_use_its_well_known_ports() {
        let args = etcd_args(Path::new("/s/etcd"), &state(ClusterConfig::api_only("a"))).join(" ");
        assert!(args.contains(":20001") && args.contains("default=http://127.0.0.1:20002"), "{args}");
        assert!(!args.contains(":2379") && !args.contains(":2380"), "{args}");
    }

    #[test]
    fn api_tier_listens_on_loopback_only() {
        let args = api_server(ClusterConfig::api_only("a"));
        assert!(has(&args, "--bind-address=127.0.0.1") && has(&args, "--secure-port=20003"), "{args:?}");
        assert!(has(&args, "--disable-admission-plugins=ServiceAccount"), "{args:?}");
        let args = api_server(ClusterConfig::api_only("a").with_controller_manager());
        assert!(!has(&args, "--disable-admission-plugins=ServiceAccount"), "{args:?}");
    }

    #[test]
    fn with_nodes_the_api_server_listens_in_the_clusters_network_only() {
        let args = api_server(ClusterConfig::with_nodes("a", 2));
        assert!(has(&args, "--bind-address=10.201.240.1") && has(&args, "--secure-port=6443"), "{args:?}");
        assert!(has(&args, "--service-cluster-ip-range=10.201.128.0/20"), "{args:?}");
    }

    #[test]
    fn audit_log_is_a_choice() {
        let wants = |config| api_server(config).iter().any(|arg| arg == "--audit-log-path=/s/log/audit.log");
        assert!(wants(ClusterConfig::api_only("a").with_audit_log()));
        assert!(!wants(ClusterConfig::api_only("a")));
    }

    #[test]
    fn request_rate_goes_to_both_controllers() {
        let state = state(ClusterConfig::with_nodes("a", 1).with_controller_qps(300));
        for component in ["kube-controller-manager", "kube-scheduler"] {
            let args = controller_args(Path::new("/s"), &state, component);
            assert!(has(&args, "--kube-api-qps=300") && has(&args, "--kube-api-burst=600"), "{args:?}");
        }
    }

    #[test]
    fn fast_node_failure_shortens_notice_and_eviction() {
        let config = ClusterConfig::with_nodes("a", 1).with_fast_node_failure();
        assert!(has(&api_server(config.clone()), "--default-unreachable-toleration-seconds=5"));
        let manager = controller_args(Path::new("/s"), &state(config), "kube-controller-manager");
        assert!(has(&manager, "--node-monitor-grace-period=8s"), "{manager:?}");
    }
}
