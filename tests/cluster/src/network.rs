//! The network of a cluster with nodes: a bridge in a namespace of its own (so that no firewall rule of the host
//! sees traffic between nodes), a link to each node, and one link to the host, which reaches pods and Services by
//! routes. Nothing leaves the machine: nodes have no way out.

use std::{net::Ipv4Addr, path::Path};

use crate::{
    addresses::{Addresses, Names},
    command::{self, Invocation},
    firewall,
};

/// Runs `ip` with the words of a line.
fn ip(line: &str) -> Result<String, command::Error> {
    Invocation::new("ip").args(line.split_whitespace()).run()
}

/// The network of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) names: Names,
    pub(crate) addresses: Addresses,
    pub(crate) nodes: u32,
}

impl Network {
    fn numbers(&self) -> impl Iterator<Item = u8> + use<> {
        // The configuration allows at most 100 nodes.
        1..=u8::try_from(self.nodes).unwrap_or(u8::MAX)
    }

    /// Makes bridge, host link and routes.
    pub(crate) fn create_fabric(&self) -> Result<(), command::Error> {
        let (fabric, host) = (self.names.fabric(), self.names.host_link());
        let (gateway, bridge) = (self.addresses.gateway(), self.addresses.bridge());
        ip(&format!("netns add {fabric}"))?;
        ip(&format!("-n {fabric} link add br0 type bridge"))?;
        ip(&format!("-n {fabric} address add {bridge}/{} dev br0", Addresses::NODE_PREFIX))?;
        ip(&format!("-n {fabric} link set br0 up"))?;
        ip(&format!("link add {host} type veth peer name host netns {fabric}"))?;
        ip(&format!("-n {fabric} link set host master br0 up"))?;
        ip(&format!("address add {gateway}/{} dev {host}", Addresses::NODE_PREFIX))?;
        ip(&format!("link set {host} up"))?;
        for number in self.numbers() {
            let (pods, node) = (self.addresses.pods_of(number), self.addresses.node(number));
            ip(&format!("route add {pods} via {node} dev {host}"))?;
        }
        self.route_services(1)
    }

    /// Sees to it that the nodes reach the API server, which does not run yet, at this port of the host.
    pub(crate) fn open_firewall(&self, port: u16) -> Result<(), firewall::Error> {
        let address = (self.addresses.gateway(), port).into();
        firewall::open(address, &self.names.host_link(), &self.names.fabric())
    }

    /// Sends the host's requests to Services through this node, whose kube-proxy finds the pod.
    pub(crate) fn route_services(&self, node: u8) -> Result<(), command::Error> {
        let (services, via) = (self.addresses.services(), self.addresses.node(node));
        ip(&format!("route replace {services} via {via} dev {}", self.names.host_link())).map(drop)
    }

    /// Makes the namespace of a node, connected to the bridge.
    pub(crate) fn create_node(&self, node: &str, number: u8) -> Result<(), command::Error> {
        let (fabric, netns) = (self.names.fabric(), self.names.node(node));
        ip(&format!("netns add {netns}"))?;
        ip(&format!("-n {fabric} link add {node} type veth peer name eth0 netns {netns}"))?;
        ip(&format!("-n {fabric} link set {node} master br0 up"))?;
        ip(&format!("-n {netns} link set lo up"))?;
        let address = self.addresses.node(number);
        ip(&format!("-n {netns} address add {address}/{} dev eth0", Addresses::NODE_PREFIX))?;
        ip(&format!("-n {netns} link set eth0 up"))?;
        for other in self.numbers().filter(|other| *other != number) {
            let (pods, via) = (self.addresses.pods_of(other), self.addresses.node(other));
            ip(&format!("-n {netns} route add {pods} via {via}"))?;
        }
        // kube-proxy rewrites addresses of Services on the way out, which needs a way out.
        let (services, gateway) = (self.addresses.services(), self.addresses.gateway());
        ip(&format!("-n {netns} route add {services} via {gateway}"))?;
        // Everything else fails at once, and does not wait for an answer that cannot come.
        ip(&format!("-n {netns} route add unreachable default"))?;
        let settings = "sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1";
        Invocation::words(&format!("nsenter --net=/run/netns/{netns} {settings}")).run().map(drop)
    }

    /// Removes the namespace of a node and its link.
    pub(crate) fn remove_node(&self, node: &str) -> Result<(), command::Error> {
        let (fabric, netns) = (self.names.fabric(), self.names.node(node));
        if namespaces(&netns).contains(&netns) {
            ip(&format!("netns delete {netns}"))?;
        }
        // The kernel removes the link with the namespace, but later: a node that starts again needs the name now.
        let _ = ip(&format!("-n {fabric} link delete {node}"));
        Ok(())
    }

    /// Connects or disconnects a node: its processes and pods stay as they are.
    pub(crate) fn set_node_link(&self, node: &str, up: bool) -> Result<(), command::Error> {
        let state = if up { "up" } else { "down" };
        ip(&format!("-n {} link set {node} {state}", self.names.fabric())).map(drop)
    }

    /// Whether a node is connected.
    pub(crate) fn is_connected(&self, node: &str) -> bool {
        ip(&format!("-n {} -o link show dev {node} up", self.names.fabric()))
            .is_ok_and(|answer| !answer.trim().is_empty())
    }
}

/// Whether a cluster has a link or a namespace on this machine.
pub(crate) fn has_remains(names: &Names) -> bool {
    host_link_exists(names) || !namespaces(&names.prefix()).is_empty()
}

fn host_link_exists(names: &Names) -> bool {
    Path::new("/sys/class/net").join(names.host_link()).exists()
}

/// Removes all namespaces and links of a cluster, whatever is left of them. The caller holds the machine's lock.
pub(crate) fn remove(names: &Names) -> Result<(), command::Error> {
    // First the link: the kernel removes what is in a namespace only some time after it.
    if host_link_exists(names) {
        firewall::close(&names.host_link());
        ip(&format!("link delete {}", names.host_link()))?;
    }
    for netns in namespaces(&names.prefix()) {
        ip(&format!("netns delete {netns}"))?;
    }
    leave_namespace_folder()
}

/// `ip netns add` makes its folder and mounts it on itself when it is first used: undone when nobody has a namespace
/// any more. The caller holds the machine's lock, so that no cluster is just beginning to use it.
fn leave_namespace_folder() -> Result<(), command::Error> {
    let folder = "/run/netns";
    let mounted = std::fs::read_to_string("/proc/mounts").unwrap_or_default().contains(" /run/netns ");
    if mounted && namespaces("").is_empty() {
        Invocation::new("umount").args([folder]).run()?;
        // Whoever is just making a namespace has put something into it.
        let _ = std::fs::remove_dir(folder);
    }
    Ok(())
}

/// Named network namespaces whose name starts with `prefix`.
pub(crate) fn namespaces(prefix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// The networks to which this machine has a route.
pub(crate) fn used_networks() -> Result<Vec<(Ipv4Addr, u8)>, command::Error> {
    Ok(parse_routes(&ip("-4 -o route show table all")?))
}

fn parse_routes(text: &str) -> Vec<(Ipv4Addr, u8)> {
    // A line starts with the network, or with the type of the route and then the network.
    let networks = text.lines().filter_map(|line| {
        line.split_whitespace().take(2).find_map(|word| match word.split_once('/') {
            Some((address, prefix)) => Some((address.parse().ok()?, prefix.parse().ok()?)),
            None => Some((word.parse().ok()?, 32)),
        })
    });
    networks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_every_type_are_read() {
        let text = "default via 192.0.2.1 dev eth0\n\
                    10.200.0.0/16 dev tb0 proto kernel\n\
                    local 10.201.240.1 dev lo table local\n\
                    unreachable 10.202.0.0/16\n";
        let expected = [
            (Ipv4Addr::new(10, 200, 0, 0), 16),
            (Ipv4Addr::new(10, 201, 240, 1), 32),
            (Ipv4Addr::new(10, 202, 0, 0), 16),
        ];
        assert_eq!(parse_routes(text), expected);
    }
}
