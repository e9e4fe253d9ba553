//! How to reach the API server.

use std::fmt;
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::InferConfigError;
use kube::{Client, Config};
use thiserror::Error;

use crate::leader::Connect;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest silence on a connection: more than that on a watch, which is bookmarked about every minute. Single calls
/// have shorter limits of their own.
const READ: Duration = Duration::from_mins(5);
/// Longest time to send.
const WRITE: Duration = Duration::from_secs(30);

/// No client can be made.
#[derive(Debug, Error)]
pub enum ClientError {
    /// It is not known where the API server is.
    #[error("failed to find the API server: run in a pod with a service account, or set KUBECONFIG")]
    Config(#[from] InferConfigError),
    /// The configuration is contradictory.
    #[error("failed to make a client for {url}")]
    Client {
        /// Address of the API server.
        url: String,
        /// What is wrong.
        source: Box<kube::Error>,
    },
}

/// Clients of one API server.
pub struct Clients {
    /// For everything but the election.
    pub client: Client,
    /// Makes the one for the election, on the election's thread.
    pub for_election: Connect<ClientError>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

/// Clients for the API server of the pod, or that of `KUBECONFIG`.
///
/// # Errors
/// When none is known, or its configuration is contradictory. It is not contacted.
pub async fn clients() -> Result<Clients, ClientError> {
    let config = patient(Config::infer().await?);
    let client = client(config.clone())?;
    Ok(Clients { client, for_election: Box::new(|| self::client(config)) })
}

fn client(config: Config) -> Result<Client, ClientError> {
    let url = config.cluster_url.to_string();
    let builder = ClientBuilder::try_from(config)
        .map_err(|source| ClientError::Client { url, source: Box::new(source) })?;
    Ok(builder.build())
}

fn patient(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(READ);
    config.write_timeout = Some(WRITE);
    // Otherwise the time that a connection was idle counts too.
    config.reset_reader_on_write = true;
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_may_be_silent_longer_than_a_quiet_watch_but_not_for_ever() {
        let config = patient(Config::new(http::Uri::from_static("https://127.0.0.1:1")));
        assert_eq!((config.connect_timeout, config.write_timeout), (Some(CONNECT), Some(WRITE)));
        assert!(config.read_timeout.is_some_and(|limit| limit > Duration::from_mins(4)));
        assert!(config.reset_reader_on_write, "idle time does not count");
    }
}
