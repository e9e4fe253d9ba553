//! Who is who in the control plane: certificates and kubeconfigs.

use std::path::{Path, PathBuf};

use super::{Error, admin_kubeconfig};
use crate::{
    pki::{self, Authority, Subject},
    state::{self, State},
};

/// Writes all certificates and kubeconfigs of the control plane and returns the authority for the nodes'.
pub(crate) fn write_pki(state_dir: &Path, state: &State) -> Result<Authority, Error> {
    let dir = state_dir.join("pki");
    state::make_dir(&dir)?;
    let authority = Authority::new()?;
    pki::write_credentials(&dir, "ca", &authority.credentials)?;
    let mut hosts: Vec<String> =
        ["localhost", "127.0.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
            .map(str::to_owned)
            .to_vec();
    hosts.push("kubernetes.default.svc.cluster.local".to_owned());
    if let Some(addresses) = state.addresses {
        hosts.extend([addresses.gateway(), addresses.kubernetes_service()].map(|ip| ip.to_string()));
    }
    let server = Subject { hosts: &hosts, ..Subject::user("kube-apiserver") };
    pki::write_credentials(&dir, "apiserver", &authority.issue(server)?)?;
    let kubelet_client = Subject::administrator("kube-apiserver-kubelet-client");
    pki::write_credentials(&dir, "kubelet-client", &authority.issue(kubelet_client)?)?;
    let (private, public) = pki::service_account_keys()?;
    pki::write_secret(&dir.join("service-accounts.key"), &private)?;
    pki::write_secret(&dir.join("service-accounts.pub"), &public)?;

    let url = state.api_server_url();
    let kubeconfig =
        |subject: Subject<'_>| Ok::<_, pki::Error>(authority.kubeconfig(&url, &authority.issue(subject)?));
    pki::write_secret(&admin_kubeconfig(state_dir), &kubeconfig(Subject::administrator("admin"))?)?;
    // An account per controller (--use-service-account-credentials) would cost 5 s at the start, as their making is
    // held to 20 requests/s: all controllers share one user, who therefore may do everything.
    let manager = Subject::administrator("system:kube-controller-manager");
    let scheduler = Subject::user("system:kube-scheduler");
    for (component, user) in [("kube-controller-manager", manager), ("kube-scheduler", scheduler)] {
        pki::write_secret(&component_kubeconfig(state_dir, component), &kubeconfig(user)?)?;
    }
    Ok(authority)
}

/// The kubeconfig of one part of the control plane.
pub(super) fn component_kubeconfig(state_dir: &Path, component: &str) -> PathBuf {
    state_dir.join("pki").join(format!("{component}.kubeconfig"))
}
