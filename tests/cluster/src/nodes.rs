//! All nodes of a cluster together, and the DNS that runs on them.

use std::{path::Path, thread, time::Duration};

use crate::{
    addresses::{Addresses, Names},
    command, control_plane, images,
    network::Network,
    node::{self, Node},
    pki::Authority,
    state::State,
    tools, wait,
};

/// A node is Ready a second after its start; a cold disk and busy cores take longer, never this long.
const READY_PATIENCE: Duration = Duration::from_mins(2);

const DNS: &str = include_str!("../manifests/coredns.yaml");

/// Why the nodes do not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One node.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// The cluster is only an API server.
    #[error("this cluster has no nodes: it was started with --api-only")]
    NoNodes,
    /// An image.
    #[error(transparent)]
    Image(#[from] images::Error),
    /// A program is missing.
    #[error(transparent)]
    Tools(#[from] tools::Error),
    /// DNS was refused.
    #[error("failed to deploy CoreDNS")]
    Dns {
        /// What kubectl answered.
        source: command::Error,
    },
    /// The routes to the Services.
    #[error("failed to change the network")]
    Network {
        /// What `ip` answered.
        source: command::Error,
    },
    /// Nodes or DNS are not ready in time.
    #[error("nodes and DNS were not ready after {seconds} s; logs are in {logs}:\n{seen}")]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// Folder of the nodes' logs.
        logs: std::path::PathBuf,
        /// What the API server says about nodes and pods.
        seen: String,
    },
}

/// What can be done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Kill,
    Restart,
    Partition,
    Heal,
}

/// The network of a cluster with nodes.
pub(crate) fn network(state_dir: &Path, state: &State) -> Option<Network> {
    let addresses = state.addresses?;
    Some(Network { names: Names::of(state_dir), addresses, nodes: state.config.nodes })
}

/// Makes the images that every node needs.
pub(crate) fn make_images() -> Result<(), Error> {
    images::pause()?;
    images::coredns()?;
    Ok(())
}

/// Does the same to several nodes at once.
fn each<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), node::Error> + Sync) -> Result<(), Error> {
    thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        let ends = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        // Every thread is waited for before the first failure is told.
        ends.collect::<Vec<_>>().into_iter().collect::<Result<(), _>>()
    })?;
    Ok(())
}

/// Starts all nodes and gives them the DNS image.
pub(crate) fn start(state_dir: &Path, state: &State, authority: &Authority) -> Result<(), Error> {
    let Some(network) = network(state_dir, state) else { return Ok(()) };
    let coredns = images::coredns()?;
    each(&node::all(state_dir, state, &network), |node| {
        node.write_files(state, authority)?;
        node.start()?;
        node.load(&coredns)
    })
}

/// Deploys DNS, one instance on each of the first two nodes.
pub(crate) fn deploy_dns(state_dir: &Path, state: &State) -> Result<(), Error> {
    let Some(addresses) = state.addresses else { return Ok(()) };
    let manifest = dns_manifest(addresses, dns_replicas(state));
    control_plane::kubectl(state_dir)?
        .args(["apply", "--server-side", "--validate=false", "-f", "-"])
        .input(manifest)
        .run()
        .map_err(|source| Error::Dns { source })?;
    Ok(())
}

fn dns_manifest(addresses: Addresses, replicas: u32) -> String {
    DNS.replace("${REPLICAS}", &replicas.to_string())
        .replace("${IMAGE}", images::COREDNS)
        .replace("${ADDRESS}", &addresses.dns_service().to_string())
}

fn dns_replicas(state: &State) -> u32 {
    state.config.nodes.min(2)
}

/// Waits until every node and DNS is ready.
pub(crate) fn wait_ready(state_dir: &Path, state: &State) -> Result<(), Error> {
    if state.addresses.is_none() {
        return Ok(());
    }
    let get = |words: &str| {
        let kubectl = control_plane::kubectl(state_dir)?.args(words.split_whitespace());
        Ok::<_, Error>(kubectl.run().unwrap_or_default())
    };
    // Fails only when kubectl is gone, and that was found out long before.
    let answer = |words: &str| get(words).unwrap_or_default();
    let nodes = "get nodes -o jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    let dns = "get deployment coredns --namespace kube-system -o jsonpath={.status.readyReplicas}";
    let ready = wait::until(READY_PATIENCE, || {
        answer(nodes).split_whitespace().filter(|status| *status == "True").count() == state.nodes().len()
            && answer(dns).trim() == dns_replicas(state).to_string()
    });
    if ready {
        return Ok(());
    }
    let seen = [get("get nodes -o wide")?, get("get pods --all-namespaces -o wide")?].concat();
    Err(Error::NotReady {
        seconds: wait::patience(READY_PATIENCE).as_secs(),
        logs: state_dir.join("nodes"),
        seen,
    })
}

/// Imports an archive on every node that runs.
pub(crate) fn load(state_dir: &Path, state: &State, archive: &Path) -> Result<(), Error> {
    let Some(network) = network(state_dir, state) else { return Err(Error::NoNodes) };
    let source = |source| node::Error::Archive { path: archive.to_owned(), source };
    // ctr resolves the path itself, but names no cure when it is wrong.
    let archive = std::fs::canonicalize(archive).map_err(source)?;
    let alive: Vec<_> =
        node::all(state_dir, state, &network).into_iter().filter(|node| node.process().is_some()).collect();
    each(&alive, |node| node.load(&archive))
}

/// Changes one node, and sends the host's requests to Services through one that works.
pub(crate) fn change(state_dir: &Path, state: &State, name: &str, change: Change) -> Result<(), Error> {
    let Some(network) = network(state_dir, state) else { return Err(Error::NoNodes) };
    let node = node::find(state_dir, state, &network, name)?;
    match change {
        Change::Kill => node.kill()?,
        Change::Restart => {
            node.kill()?;
            node.start()?;
        }
        Change::Partition => node.set_connected(false)?,
        Change::Heal => node.set_connected(true)?,
    }
    reroute(&network, &node::all(state_dir, state, &network))
}

/// Starts dead nodes and heals partitions.
pub(crate) fn revive(state_dir: &Path, state: &State) -> Result<(), Error> {
    let Some(network) = network(state_dir, state) else { return Ok(()) };
    let nodes = node::all(state_dir, state, &network);
    let dead: Vec<_> = nodes.iter().filter(|node| node.process().is_none()).collect();
    if dead.is_empty() && nodes.iter().all(Node::is_connected) {
        return Ok(());
    }
    each(&dead, |node| node.kill().and_then(|()| node.start()))?;
    each(&nodes, |node| node.set_connected(true))?;
    reroute(&network, &nodes)?;
    wait_ready(state_dir, state)
}

fn reroute(network: &Network, nodes: &[Node<'_>]) -> Result<(), Error> {
    match nodes.iter().find(|node| node.process().is_some() && node.is_connected()) {
        Some(node) => network.route_services(node.number).map_err(|source| Error::Network { source }),
        // Nobody to ask: the old route is as good as any.
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn manifest_is_filled_in_completely() {
        let manifest = dns_manifest(Addresses { block: 201 }, 2);
        assert!(!manifest.contains("${"), "{manifest}");
        for line in ["replicas: 2", "clusterIP: 10.201.128.10", "image: localhost/coredns:1"] {
            assert!(manifest.contains(line), "no `{line}` in {manifest}");
        }
    }

    #[test]
    fn one_failure_is_told_after_all_have_been_tried() {
        let tried = Mutex::new(Vec::new());
        let result = each(&["a", "b", "c"], |name| {
            tried.lock().unwrap().push(*name);
            if *name == "b" { Err(node::Error::Dead { name: "b".into() }) } else { Ok(()) }
        });
        assert!(result.unwrap_err().to_string().contains("node b is not running"));
        let mut tried = tried.into_inner().unwrap();
        tried.sort_unstable();
        assert_eq!(tried, ["a", "b", "c"]);
    }
}
