//! Where the server for probes and metrics listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use thiserror::Error;

/// Paths that the server answers besides the health probe.
const OWN_PATHS: [&str; 3] = ["/readyz", "/metrics", "/log-level"];

/// Where the server for probes and metrics listens, written as kopf's `--liveness`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeServer {
    /// No server.
    Off,
    /// A server.
    At {
        /// Address to bind; port 0 takes any free one.
        address: SocketAddr,
        /// Path of the health probe.
        health_path: String,
    },
}

/// A URL that the server cannot listen on.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidProbeServer {
    /// Another protocol.
    #[error("must begin with http://, as http://0.0.0.0:8080/healthz")]
    Scheme,
    /// A host name, which may mean several addresses.
    #[error("{0:?} is not an IP address: give 0.0.0.0 for all interfaces, as http://0.0.0.0:8080/healthz")]
    Host(String),
    /// No port.
    #[error("the port must be a number up to 65535, as http://0.0.0.0:8080/healthz")]
    Port,
    /// A path that cannot be, or must not be, a probe's.
    #[error("the path {0:?} cannot be the health probe's: give another one, as http://0.0.0.0:8080/healthz")]
    Path(String),
}

impl FromStr for ProbeServer {
    type Err = InvalidProbeServer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if matches!(text, "" | "none") {
            return Ok(Self::Off);
        }
        let rest = text.strip_prefix("http://").ok_or(InvalidProbeServer::Scheme)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = authority.rsplit_once(':').ok_or(InvalidProbeServer::Port)?;
        let port = port.parse().map_err(|_| InvalidProbeServer::Port)?;
        let host = match host.trim_start_matches('[').trim_end_matches(']') {
            "" | "*" => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            "localhost" => IpAddr::from(Ipv4Addr::LOCALHOST),
            host => host.parse().map_err(|_| InvalidProbeServer::Host(host.to_owned()))?,
        };
        let health_path = if path.is_empty() { "/" } else { path };
        let unusual = health_path.contains(|c: char| !c.is_ascii_alphanumeric() && !"/-._~".contains(c));
        if unusual || OWN_PATHS.contains(&health_path) {
            return Err(InvalidProbeServer::Path(health_path.to_owned()));
        }
        Ok(Self::At { address: SocketAddr::new(host, port), health_path: health_path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("http://0.0.0.0:8080/healthz", "0.0.0.0:8080", "/healthz")]
    #[case("http://:8080/live", "0.0.0.0:8080", "/live")]
    #[case("http://*:9000", "0.0.0.0:9000", "/")]
    #[case("http://localhost:0/healthz", "127.0.0.1:0", "/healthz")]
    #[case("http://[::]:8080/a/b", "[::]:8080", "/a/b")]
    fn addresses(#[case] text: &str, #[case] address: &str, #[case] path: &str) {
        let expected = ProbeServer::At { address: address.parse().unwrap(), health_path: path.to_owned() };
        assert_eq!(text.parse(), Ok(expected));
    }

    #[test]
    fn no_server() {
        assert_eq!("none".parse(), Ok(ProbeServer::Off));
        assert_eq!("".parse(), Ok(ProbeServer::Off));
    }

    #[rstest]
    #[case("https://0.0.0.0:8080/healthz", InvalidProbeServer::Scheme)]
    #[case("8080", InvalidProbeServer::Scheme)]
    #[case("http://0.0.0.0/healthz", InvalidProbeServer::Port)]
    #[case("http://0.0.0.0:99999/", InvalidProbeServer::Port)]
    #[case("http://operator:8080/", InvalidProbeServer::Host("operator".to_owned()))]
    #[case("http://0.0.0.0:8080/metrics", InvalidProbeServer::Path("/metrics".to_owned()))]
    #[case("http://0.0.0.0:8080/{id}", InvalidProbeServer::Path("/{id}".to_owned()))]
    fn refusals(#[case] text: &str, #[case] error: InvalidProbeServer) {
        assert_eq!(text.parse::<ProbeServer>(), Err(error));
    }
}
