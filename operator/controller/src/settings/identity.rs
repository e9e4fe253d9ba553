//! Who this replica is, and where it lives.

use std::fs;

/// Where a pod finds the namespace of its service account.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
const HOST_NAME_FILE: &str = "/proc/sys/kernel/hostname";

/// The namespace as given, or that of the pod; `None` outside of Kubernetes.
pub(super) fn lease_namespace(given: Option<&str>) -> Option<String> {
    let given = given.filter(|name| !name.is_empty()).map(ToOwned::to_owned);
    given.or_else(|| first_word(NAMESPACE_FILE))
}

/// The host name with a random number, so that two processes on one host differ.
pub(super) fn random() -> String {
    let host = first_word(HOST_NAME_FILE).unwrap_or_else(|| "unknown-host".to_owned());
    format!("{host}-{:08x}", fastrand::u32(..))
}

fn first_word(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.split_whitespace().next().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_on_one_host_differ() {
        let (one, other) = (random(), random());
        assert_ne!(one, other);
        assert_eq!(one[..one.len() - 8], other[..other.len() - 8]);
    }

    #[test]
    fn a_given_namespace_wins() {
        assert_eq!(lease_namespace(Some("dask")).as_deref(), Some("dask"));
        assert_eq!(lease_namespace(Some("")), lease_namespace(None), "an empty variable is as good as none");
    }
}
