//! Addresses of a scheduler inside the cluster.

use std::fmt;

/// Port that Dask's scheduler listens on, unless its Service says otherwise.
pub const DEFAULT_COMM_PORT: u16 = 8786;

/// Address that workers and clients in the cluster connect to.
///
/// It names the Service by its full DNS name under `cluster.local`, as dask-kubernetes does: a user whose
/// cluster has another domain sets `DASK_SCHEDULER_ADDRESS` in the worker's env, which wins.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SchedulerAddress {
    service: String,
    namespace: String,
    port: u16,
}

impl SchedulerAddress {
    /// Address of a scheduler's Service.
    #[must_use]
    pub fn new(service: impl Into<String>, namespace: impl Into<String>, port: u16) -> Self {
        Self { service: service.into(), namespace: namespace.into(), port }
    }

    /// URL of the dashboard on another port of the same Service; `prefix` is empty or begins with a slash.
    #[must_use]
    pub fn dashboard(&self, scheme: &str, port: u16, prefix: &str) -> String {
        format!("{scheme}://{}:{port}{prefix}/status", self.host())
    }

    fn host(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.service, self.namespace)
    }
}

impl fmt::Display for SchedulerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}:{}", self.host(), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_that_clients_expect() {
        let address = SchedulerAddress::new("simple-scheduler", "default", DEFAULT_COMM_PORT);
        assert_eq!(address.to_string(), "tcp://simple-scheduler.default.svc.cluster.local:8786");
        assert_eq!(
            address.dashboard("http", 8787, ""),
            "http://simple-scheduler.default.svc.cluster.local:8787/status"
        );
        assert_eq!(
            address.dashboard("https", 443, "/team"),
            "https://simple-scheduler.default.svc.cluster.local:443/team/status"
        );
    }
}
