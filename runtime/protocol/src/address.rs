//! Dask's addresses.

/// Dask writes `tcp://10.0.0.1:8786`; sockets want `10.0.0.1:8786`.
pub(crate) fn host_port(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, rest)| rest)
}

/// The host of an address, without the brackets of IPv6.
pub(crate) fn host(address: &str) -> &str {
    let host_port = host_port(address);
    let host = host_port.rsplit_once(':').map_or(host_port, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("tcp://10.0.0.1:8786", "10.0.0.1:8786", "10.0.0.1")]
    #[case("tls://scheduler.ns.svc:8786", "scheduler.ns.svc:8786", "scheduler.ns.svc")]
    #[case("[fd00::1]:8786", "[fd00::1]:8786", "fd00::1")]
    #[case("localhost:1", "localhost:1", "localhost")]
    #[case("", "", "")]
    fn scheme_port_and_brackets_are_removed(#[case] address: &str, #[case] socket: &str, #[case] name: &str) {
        assert_eq!(host_port(address), socket);
        assert_eq!(host(address), name);
    }
}
