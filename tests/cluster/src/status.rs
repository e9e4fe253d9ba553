//! What runs, for people.

use std::fmt;

use crate::{
    lifecycle::{self, names},
    process,
    state::State,
    workspace,
};

/// One cluster in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Whether it can be used as it is.
    pub ready: bool,
    /// Address of the API server, when it is known.
    pub api_server_url: Option<String>,
    /// Each node and whether it runs.
    pub nodes: Vec<(String, bool)>,
    /// How many processes it has, those in containers not counted.
    pub processes: usize,
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, ready, api_server_url, nodes, processes } = self;
        let state = if *ready { "ready" } else { "broken (`up` renews it, `down` removes it)" };
        write!(formatter, "{name}: {state}, {processes} processes")?;
        if let Some(url) = api_server_url {
            write!(formatter, ", {url}")?;
        }
        for (node, runs) in nodes {
            write!(formatter, ", {node} {}", if *runs { "runs" } else { "is dead" })?;
        }
        Ok(())
    }
}

/// All clusters of this data folder, also those of which only processes are left.
#[must_use]
pub fn status() -> Vec<Status> {
    names().into_iter().map(of).collect()
}

fn of(name: String) -> Status {
    let dir = workspace::state_dir(&name);
    let state = State::load(&dir);
    let nodes = state.iter().flat_map(State::nodes);
    Status {
        ready: lifecycle::healthy(&dir).is_some(),
        api_server_url: state.as_ref().map(State::api_server_url),
        nodes: nodes.map(|node| (node.clone(), process::running(&dir, &node).is_some())).collect(),
        processes: process::all(&dir).len(),
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_cluster_is_called_so_with_its_cure() {
        let status = Status {
            name: "dev".into(),
            ready: false,
            api_server_url: Some("https://10.200.240.1:6443".into()),
            nodes: vec![("node1".into(), true), ("node2".into(), false)],
            processes: 3,
        };
        let line = status.to_string();
        for part in ["dev: broken", "`down` removes it", "3 processes", "node1 runs", "node2 is dead"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
