//! TLS: both sides show a certificate of the cluster's authority.
//!
//! Dask itself does not compare names; we do, so a worker's certificate cannot pass for the scheduler's if it has no
//! name of its.

use std::{io, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Error as ConnectionError, Step, address,
    connection::{dial, from_frame, within},
};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not PEM, or nothing in it.
    #[error("failed to read {0}: not valid PEM")]
    Pem(&'static str),
    /// They do not fit together, or are none.
    #[error("failed to use {what}")]
    Rejected {
        /// Which of them.
        what: &'static str,
        /// What is wrong.
        source: rustls::Error,
    },
    /// No name of a host, and no IP address.
    #[error("failed to use {0} as name of a server")]
    Name(String),
}

/// How to connect by TLS. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    client: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl TlsConfig {
    /// Trusts servers of the authority `ca`, and shows `certificate`. All are PEM.
    ///
    /// # Errors
    /// When one of them is not valid, or the key is another certificate's.
    pub fn new(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for root in certificates("certificate authority", ca)? {
            let rejected = |source| Error::Rejected { what: "certificate authority", source };
            roots.add(root).map_err(rejected)?;
        }
        let chain = certificates("certificate", certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Error::Pem("key"))?;
        let rejected = |source| Error::Rejected { what: "certificate and key", source };
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(rejected)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(rejected)?;
        Ok(Self { client: Arc::new(client), server_name: None })
    }

    /// Expects this name in the server's certificate instead of the host of its address: for pod IPs and forwarded
    /// ports.
    ///
    /// # Errors
    /// When it is no name.
    pub fn with_server_name(self, name: &str) -> Result<Self, Error> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| Error::Name(name.to_owned()))?;
        Ok(Self { server_name: Some(name), ..self })
    }
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    certificates.ok().filter(|certificates| !certificates.is_empty()).ok_or(Error::Pem(what))
}

/// Connects by TCP and agrees on TLS. A server that does not like our certificate says so with its first message only.
///
/// # Errors
/// When nobody listens there, its certificate is not the right one, or it takes too long.
pub async fn connect(
    host_port: &str,
    config: &TlsConfig,
    deadline: Duration,
) -> Result<TlsStream<TcpStream>, ConnectionError> {
    let stream = dial(host_port, deadline).await?;
    over(stream, address::host(host_port), config, deadline).await
}

/// Agrees on TLS over a stream that is there already; `host` is whose certificate to expect, if `config` does not tell.
///
/// # Errors
/// When the certificate is not the right one, or it takes too long.
pub async fn over<S>(
    stream: S,
    host: &str,
    config: &TlsConfig,
    deadline: Duration,
) -> Result<TlsStream<S>, ConnectionError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let failed = |error: io::Error| from_frame(Step::Tls, error.into(), deadline);
    let name = match &config.server_name {
        Some(name) => name.clone(),
        None => ServerName::try_from(host.to_owned())
            .map_err(|_| failed(io::Error::other("host has no valid name")))?,
    };
    let agreeing = TlsConnector::from(config.client.clone()).connect(name, stream);
    within(Step::Tls, deadline, agreeing).await?.map_err(failed)
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
