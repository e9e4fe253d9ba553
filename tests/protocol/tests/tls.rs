//! Real schedulers behind TLS.

use std::{fs, path::Path, process::Stdio, time::Duration};

use dask_protocol::{Deadlines, Error, Limits, SchedulerClient, tls::TlsConfig};
use protocol_tests::{lab::python_with, wait::until};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rstest::rstest;
use tokio::process::{Child, Command};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, hosts: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        // OpenSSL takes a certificate for its own issuer if both have one name.
        params.distinguished_name.push(DnType::CommonName, "peer");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Of a client that this authority vouches for, and that trusts servers of `trusted`.
    fn client(&self, trusted: &Self) -> TlsConfig {
        let (certificate, key) = self.issue(&[]);
        TlsConfig::new(trusted.pem.as_bytes(), certificate.as_bytes(), key.as_bytes()).unwrap()
    }
}

/// A scheduler started as in a container, which writes where it listens into a file.
struct Scheduler {
    host_port: String,
    _process: Child,
}

async fn start(release: &str, authority: &Authority, dir: &Path, name: &str) -> Scheduler {
    let (certificate, key) = authority.issue(&[name]);
    for (file, content) in [("ca.crt", &authority.pem), ("tls.crt", &certificate), ("tls.key", &key)] {
        fs::write(dir.join(file), content).unwrap();
    }
    let address = dir.join("scheduler.json");
    let process = Command::new(python_with(release).await)
        .args([
            "-m",
            "distributed.cli.dask_scheduler",
            "--protocol",
            "tls",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
        ])
        .args(["--dashboard-address", "127.0.0.1:0", "--tls-ca-file", "ca.crt"])
        .args(["--tls-cert", "tls.crt", "--tls-key", "tls.key", "--scheduler-file", "scheduler.json"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let read = async || {
        let text = fs::read_to_string(&address).unwrap_or_default();
        let identity: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        identity["address"].as_str().map(str::to_owned)
    };
    let address = until("the scheduler listens", read, Option::is_some).await.unwrap();
    let host_port = address.strip_prefix("tls://").expect(&address).to_owned();
    Scheduler { host_port, _process: process }
}

#[rstest]
#[case("2024.12.0")]
#[case("2026.8.0")]
#[tokio::test(flavor = "multi_thread")]
async fn scheduler_is_asked_through_tls(#[case] release: &str) {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let scheduler = start(release, &authority, dir.path(), "scheduler.ns.svc").await;
    let (limits, deadlines) = (Limits::default(), Deadlines::default());
    let connect = async |config: TlsConfig| {
        SchedulerClient::connect_tls(&scheduler.host_port, &config, limits.clone(), deadlines).await
    };

    let named = authority.client(&authority).with_server_name("scheduler.ns.svc").unwrap();
    let mut client = connect(named).await.unwrap();
    let identity = client.identity(true).await.unwrap();
    assert!(identity.address.starts_with("tls://"), "{identity:?}");
    assert_eq!(client.adaptive_target().await.unwrap(), 0);
    client.close().await;

    let error = connect(authority.client(&authority)).await.unwrap_err();
    assert!(matches!(error, Error::Garbled { .. }), "the name of another host: {error:?}");
    let stranger = Authority::new().client(&authority).with_server_name("scheduler.ns.svc").unwrap();
    let error = connect(stranger).await.unwrap_err();
    assert!(
        matches!(error, Error::Garbled { .. } | Error::Closed { .. }),
        "another authority's client: {error:?}"
    );

    let short = Deadlines { handshake: Duration::from_secs(20), ..deadlines };
    let error = SchedulerClient::connect(&scheduler.host_port, limits.clone(), short).await.unwrap_err();
    assert!(!error.is_timeout(), "plain text is refused, not left waiting: {error:?}");
}
