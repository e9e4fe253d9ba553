//! Names and addresses of a cluster: everything on the machine that belongs to it can be derived from its state
//! folder and one number, so that a crash can be cleaned up without notes.

use std::{net::Ipv4Addr, path::Path};

use serde::{Deserialize, Serialize};

use crate::workspace::short_hash;

/// Blocks 10.200.0.0/16 to 10.249.0.0/16 are candidates for clusters with nodes.
pub(crate) const BLOCKS: std::ops::Range<u8> = 200..250;

/// Names of the links, namespaces and control groups of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    id: String,
}

impl Names {
    /// Derived from the whole path, so that two checkouts can have clusters of the same name.
    pub(crate) fn of(state_dir: &Path) -> Self {
        Self { id: short_hash([state_dir.as_os_str().as_encoded_bytes()], 8) }
    }

    /// The host's link into the cluster's network. A link name has at most 15 characters.
    pub(crate) fn host_link(&self) -> String {
        self.prefix()
    }

    /// Network namespace with the bridge that connects the nodes and the host.
    pub(crate) fn fabric(&self) -> String {
        self.prefix()
    }

    /// Name of a node's network namespace and of its control group.
    pub(crate) fn node(&self, node: &str) -> String {
        format!("tb{}-{node}", self.id)
    }

    /// What the names of its link and all its namespaces and control groups start with.
    pub(crate) fn prefix(&self) -> String {
        format!("tb{}", self.id)
    }
}

/// Addresses of a cluster with nodes, all out of the block 10.`block`.0.0/16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) block: u8,
}

impl Addresses {
    fn at(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.block, third, fourth)
    }

    /// The host's own address in the cluster's network; the API server listens here.
    pub(crate) fn gateway(self) -> Ipv4Addr {
        self.at(240, 1)
    }

    /// The address of the bridge between host and nodes.
    pub(crate) fn bridge(self) -> Ipv4Addr {
        self.at(240, 2)
    }

    /// Prefix length of the network of host and nodes.
    pub(crate) const NODE_PREFIX: u8 = 24;

    /// Address of the node with this number, counted from 1.
    pub(crate) fn node(self, number: u8) -> Ipv4Addr {
        self.at(240, 10 + number)
    }

    /// All pods of one node.
    pub(crate) fn pods_of(self, number: u8) -> String {
        format!("{}/24", self.at(number, 0))
    }

    /// All pods.
    pub(crate) fn pods(self) -> String {
        format!("{}/17", self.at(0, 0))
    }

    /// All Services.
    pub(crate) fn services(self) -> String {
        format!("{}/20", self.at(128, 0))
    }

    /// The Service `kubernetes`: always the first of the range.
    pub(crate) fn kubernetes_service(self) -> Ipv4Addr {
        self.at(128, 1)
    }

    /// The Service `kube-dns`.
    pub(crate) fn dns_service(self) -> Ipv4Addr {
        self.at(128, 10)
    }
}

/// The first block that no given network touches from inside; wider networks (a VPN's 10.0.0.0/8) do not count,
/// because our routes are more specific.
pub(crate) fn free_block(taken: &[(Ipv4Addr, u8)], recorded: &[u8]) -> Option<u8> {
    BLOCKS.into_iter().find(|block| {
        let inside =
            |(address, prefix): &(Ipv4Addr, u8)| *prefix >= 16 && address.octets().starts_with(&[10, *block]);
        !recorded.contains(block) && !taken.iter().any(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit_and_differ_between_checkouts() {
        let here = Names::of(Path::new("/a/target/testbed/clusters/dev"));
        let there = Names::of(Path::new("/b/target/testbed/clusters/dev"));
        assert!(here.host_link().len() <= 15, "{}", here.host_link());
        assert_ne!(here.host_link(), there.host_link());
        assert!(here.node("node1").starts_with(&here.prefix()));
        assert_ne!(here.node("node1"), here.fabric());
    }

    #[test]
    fn ranges_do_not_overlap() {
        let addresses = Addresses { block: 200 };
        assert_eq!(addresses.pods(), "10.200.0.0/17");
        assert_eq!(addresses.pods_of(100), "10.200.100.0/24");
        assert_eq!(addresses.services(), "10.200.128.0/20");
        assert_eq!(addresses.kubernetes_service().to_string(), "10.200.128.1");
        assert_eq!(addresses.dns_service().to_string(), "10.200.128.10");
        assert_eq!(addresses.gateway().to_string(), "10.200.240.1");
        assert_eq!(addresses.node(100).to_string(), "10.200.240.110");
    }

    #[test]
    fn used_and_recorded_blocks_are_skipped() {
        let used = [(Ipv4Addr::new(10, 200, 3, 0), 24), (Ipv4Addr::new(10, 0, 0, 0), 8)];
        assert_eq!(free_block(&used, &[201]), Some(202));
        let all: Vec<u8> = BLOCKS.collect();
        assert_eq!(free_block(&[], &all), None);
    }
}
