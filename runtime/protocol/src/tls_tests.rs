use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

const LONG: Duration = Duration::from_secs(30);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, hosts: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn config(&self) -> TlsConfig {
        let (certificate, key) = self.issue(&[]);
        TlsConfig::new(self.pem.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap()
    }

    /// A server that demands certificates and echoes four bytes.
    async fn serve(&self, hosts: &[&str]) -> String {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let (certificate, key) = self.issue(hosts);
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(server));
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut echo = [0; 4];
                if stream.read_exact(&mut echo).await.is_ok() {
                    let _ = stream.write_all(&echo).await;
                }
            }
        });
        address
    }
}

#[tokio::test]
async fn both_sides_trust_their_authority() {
    let authority = Authority::new();
    let address = authority.serve(&["127.0.0.1"]).await;
    let mut stream = connect(&format!("tls://{address}"), &authority.config(), LONG).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping");
}

#[tokio::test]
async fn name_is_compared_and_can_be_given() {
    let authority = Authority::new();
    let address = authority.serve(&["scheduler.ns.svc"]).await;
    let error = connect(&address, &authority.config(), LONG).await.unwrap_err();
    assert!(matches!(error, ConnectionError::Garbled { step: Step::Tls, .. }), "{error:?}");
    let named = authority.config().with_server_name("scheduler.ns.svc").unwrap();
    connect(&address, &named, LONG).await.unwrap();
}

#[tokio::test]
async fn another_authority_is_refused_on_either_side() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let address = theirs.serve(&["127.0.0.1"]).await;
    connect(&address, &ours.config(), LONG).await.unwrap_err();
    let (certificate, key) = ours.issue(&[]);
    let stranger = TlsConfig::new(theirs.pem.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap();
    let refused = async {
        let mut stream = connect(&address, &stranger, LONG).await.map_err(|_| ())?;
        stream.read_u8().await.map_err(|_| ())
    };
    assert!(refused.await.is_err(), "told with the first read at the latest");
}

#[test]
fn certificates_that_cannot_be_used_are_refused_early() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&[]);
    let (_, other_key) = authority.issue(&[]);
    let make = |ca: &str, certificate: &str, key: &str| {
        TlsConfig::new(ca.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(make("", &certificate, &key), "failed to read certificate authority: not valid PEM");
    assert_eq!(make(&authority.pem, "x", &key), "failed to read certificate: not valid PEM");
    assert_eq!(make(&authority.pem, &certificate, ""), "failed to read key: not valid PEM");
    assert_eq!(make(&authority.pem, &certificate, &other_key), "failed to use certificate and key");
    let error = authority.config().with_server_name("no name").unwrap_err();
    assert_eq!(error.to_string(), "failed to use no name as name of a server");
}
