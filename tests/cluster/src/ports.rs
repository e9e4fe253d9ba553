//! Ports of the control plane on the loopback interface.

use std::net::TcpListener;

use serde::{Deserialize, Serialize};

/// Below the range that the kernel hands out to clients (32768 and up), so that no connection takes one from us
/// between choosing it and listening on it.
const RANGE: std::ops::Range<u16> = 20_000..30_000;

/// Ports of one cluster on 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) etcd_client: u16,
    pub(crate) etcd_peer: u16,
    /// Used by the API tier; with nodes the API server has an address of its own.
    pub(crate) api_server: u16,
}

impl Ports {
    fn all(self) -> [u16; 3] {
        [self.etcd_client, self.etcd_peer, self.api_server]
    }
}

/// Chooses ports on which nobody listens and that no other cluster has recorded. The caller holds the machine's
/// lock until it has recorded them itself. `None` when the range is exhausted.
pub(crate) fn choose(recorded: &[Ports], seed: u16) -> Option<Ports> {
    let recorded: Vec<u16> = recorded.iter().flat_map(|ports| ports.all()).collect();
    let offset = seed % (RANGE.end - RANGE.start);
    let rotated = (RANGE.start + offset..RANGE.end).chain(RANGE.start..RANGE.start + offset);
    let mut free = rotated.filter(|port| !recorded.contains(port) && is_free(*port));
    Some(Ports { etcd_client: free.next()?, etcd_peer: free.next()?, api_server: free.next()? })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_in_range() {
        let ports = choose(&[], 0).unwrap().all();
        assert!(ports.iter().all(|port| RANGE.contains(port)), "{ports:?}");
        assert!(ports[0] != ports[1] && ports[1] != ports[2] && ports[0] != ports[2], "{ports:?}");
    }

    #[test]
    fn recorded_and_occupied_ports_are_skipped() {
        // Far from where other tests and clusters look.
        let seed = 9_000;
        let recorded = choose(&[], seed).unwrap();
        let occupied = choose(&[recorded], seed).unwrap();
        let _listener = TcpListener::bind(("127.0.0.1", occupied.etcd_client)).unwrap();
        let chosen = choose(&[recorded], seed).unwrap().all();
        assert!(!chosen.contains(&occupied.etcd_client), "{chosen:?}");
        assert!(recorded.all().iter().all(|port| !chosen.contains(port)), "{chosen:?}");
    }

    #[test]
    fn search_wraps_around_the_end() {
        let ports = choose(&[], RANGE.end - RANGE.start - 1).unwrap().all();
        assert!(ports.iter().any(|port| *port < RANGE.end - 2), "{ports:?}");
    }
}
