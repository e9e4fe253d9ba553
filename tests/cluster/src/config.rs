//! What a cluster shall be.

use serde::{Deserialize, Serialize};

/// Longest cluster name: it becomes a folder name and part of messages, nothing else.
const NAME_LENGTH: usize = 63;

/// More nodes than this have no addresses (see `addresses`), and no machine to hold them.
const MAX_NODES: u32 = 100;

/// Why a configuration cannot be brought up.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The name cannot be a folder name.
    #[error(
        "cluster name {name:?} is invalid: use 1 to {NAME_LENGTH} of a-z, 0-9 and -, not - at either end"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// Fewer or more nodes than possible.
    #[error("a cluster with nodes needs 1 to {MAX_NODES} of them, not {nodes}; use the API tier for none")]
    Nodes {
        /// What was given.
        nodes: u32,
    },
}

/// What a cluster shall be. Two equal configurations can share a running cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, each a fact about the cluster")]
pub struct ClusterConfig {
    /// Name of the cluster, unique in the data folder.
    pub name: String,
    /// How many nodes run containers; 0 when `api_only`.
    pub nodes: u32,
    /// Only etcd and kube-apiserver (and kube-controller-manager if asked for): no root needed.
    pub api_only: bool,
    /// API tier only: also run kube-controller-manager (garbage collection, namespace deletion, Deployments).
    /// Without it the `ServiceAccount` admission is off, because nobody makes the default accounts.
    pub controller_manager: bool,
    /// The API server writes one line per request to [`crate::Cluster::audit_log_path`], level Metadata.
    pub audit_log: bool,
    /// Requests per second that kube-controller-manager and kube-scheduler may send (burst is twice that).
    /// `None` keeps their defaults of 20 and 50.
    pub controller_qps: Option<u32>,
    /// A dead node is noticed after 8 s instead of 50 s, and its pods are evicted 5 s later instead of 300 s.
    pub fast_node_failure: bool,
}

impl ClusterConfig {
    /// An API server without controllers and nodes: the quickest real Kubernetes.
    #[must_use]
    pub fn api_only(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            nodes: 0,
            api_only: true,
            controller_manager: false,
            audit_log: false,
            controller_qps: None,
            fast_node_failure: false,
        }
    }

    /// A whole Kubernetes: controllers, scheduler, DNS and this many nodes that run containers.
    #[must_use]
    pub fn with_nodes(name: impl Into<String>, nodes: u32) -> Self {
        Self { nodes, api_only: false, controller_manager: true, ..Self::api_only(name) }
    }

    /// Also runs kube-controller-manager.
    #[must_use]
    pub fn with_controller_manager(self) -> Self {
        Self { controller_manager: true, ..self }
    }

    /// Writes the audit log.
    #[must_use]
    pub fn with_audit_log(self) -> Self {
        Self { audit_log: true, ..self }
    }

    /// Sets the request rate of the controllers, in requests per second.
    #[must_use]
    pub fn with_controller_qps(self, requests_per_second: u32) -> Self {
        Self { controller_qps: Some(requests_per_second), ..self }
    }

    /// Makes a dead node noticed in seconds.
    #[must_use]
    pub fn with_fast_node_failure(self) -> Self {
        Self { fast_node_failure: true, ..self }
    }

    /// Checks name and node count.
    ///
    /// # Errors
    /// When the cluster could not exist.
    pub fn validate(&self) -> Result<(), Error> {
        validate_name(&self.name)?;
        if !self.api_only && !(1..=MAX_NODES).contains(&self.nodes) {
            return Err(Error::Nodes { nodes: self.nodes });
        }
        Ok(())
    }
}

/// Checks that `name` can name a cluster, and so a folder.
///
/// # Errors
/// When it cannot.
pub(crate) fn validate_name(name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let fits = (1..=NAME_LENGTH).contains(&name.len());
    if fits && name.chars().all(allowed) && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(());
    }
    Err(Error::Name { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("a", true)]
    #[case("dask-2", true)]
    #[case("", false)]
    #[case("../evil", false)]
    #[case("-a", false)]
    #[case("a-", false)]
    #[case("Upper", false)]
    fn names_are_checked(#[case] name: &str, #[case] valid: bool) {
        assert_eq!(ClusterConfig::api_only(name).validate().is_ok(), valid);
    }

    #[test]
    fn longest_name_fits() {
        assert!(validate_name(&"a".repeat(NAME_LENGTH)).is_ok());
        assert!(validate_name(&"a".repeat(NAME_LENGTH + 1)).is_err());
    }

    #[test]
    fn node_count_is_checked_only_with_nodes() {
        assert_eq!(ClusterConfig::with_nodes("a", 0).validate(), Err(Error::Nodes { nodes: 0 }));
        assert_eq!(ClusterConfig::with_nodes("a", 101).validate(), Err(Error::Nodes { nodes: 101 }));
        assert_eq!(ClusterConfig::with_nodes("a", 100).validate(), Ok(()));
        assert_eq!(ClusterConfig::api_only("a").validate(), Ok(()));
    }
}
