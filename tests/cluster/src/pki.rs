//! Certificates of a cluster and the kubeconfig files that carry them. ECDSA P-256 throughout, one authority per
//! cluster, made anew with it; they do not expire, as the cluster is thrown away long before.

use std::{fs, io, os::unix::fs::OpenOptionsExt, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Key or certificate.
    #[error("failed to make the certificate of {subject}")]
    Certificate {
        /// Its common name.
        subject: String,
        /// What was wrong.
        source: rcgen::Error,
    },
    /// A file.
    #[error("failed to write {path}")]
    File {
        /// Which one.
        path: std::path::PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// Who a certificate is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The user for Kubernetes.
    pub(crate) name: &'a str,
    /// The group for Kubernetes.
    pub(crate) group: Option<&'a str>,
    /// DNS names and addresses of a server; empty for a client.
    pub(crate) hosts: &'a [String],
}

impl<'a> Subject<'a> {
    pub(crate) fn user(name: &'a str) -> Self {
        Self { name, group: None, hosts: &[] }
    }

    /// A user who may do everything.
    pub(crate) fn administrator(name: &'a str) -> Self {
        Self { group: Some("system:masters"), ..Self::user(name) }
    }
}

/// A certificate with its private key, both PEM.
#[derive(Clone)]
pub(crate) struct Credentials {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The certificate authority of one cluster.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate and key, PEM.
    pub(crate) credentials: Credentials,
}

impl Authority {
    /// Makes a new authority.
    pub(crate) fn new() -> Result<Self, Error> {
        let subject = "dask-testbed-ca";
        let make = || {
            let key = KeyPair::generate()?;
            let mut params = named(Subject::user(subject))?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let certificate = params.self_signed(&key)?.pem();
            let credentials = Credentials { certificate, key: key.serialize_pem() };
            Ok(Self { issuer: Issuer::new(params, key), credentials })
        };
        make().map_err(|source| Error::Certificate { subject: subject.to_owned(), source })
    }

    /// Signs a certificate for use as client, and as server if the subject has hosts.
    pub(crate) fn issue(&self, subject: Subject<'_>) -> Result<Credentials, Error> {
        let make = || {
            let key = KeyPair::generate()?;
            let mut params = named(subject)?;
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            if !subject.hosts.is_empty() {
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            }
            params.use_authority_key_identifier_extension = true;
            let certificate = params.signed_by(&key, &self.issuer)?.pem();
            Ok(Credentials { certificate, key: key.serialize_pem() })
        };
        make().map_err(|source| Error::Certificate { subject: subject.name.to_owned(), source })
    }

    /// A kubeconfig (JSON, which is YAML) with everything inside, valid wherever it is copied on this machine.
    pub(crate) fn kubeconfig(&self, server: &str, user: &Credentials) -> String {
        let encode = |pem: &str| STANDARD.encode(pem);
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": {
                "server": server,
                "certificate-authority-data": encode(&self.credentials.certificate),
            }}],
            "users": [{"name": "user", "user": {
                "client-certificate-data": encode(&user.certificate),
                "client-key-data": encode(&user.key),
            }}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "user"}}],
            "current-context": "testbed",
        })
        .to_string()
    }
}

/// A key pair for signing service account tokens: the private key and the public key, both PEM.
pub(crate) fn service_account_keys() -> Result<(String, String), Error> {
    let key = KeyPair::generate()
        .map_err(|source| Error::Certificate { subject: "service accounts".to_owned(), source })?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

fn named(subject: Subject<'_>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(subject.hosts.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject.name);
    if let Some(group) = subject.group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    Ok(params)
}

/// Writes a file that only its owner can read.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<(), Error> {
    let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    open.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Writes `<stem>.crt` and `<stem>.key`.
pub(crate) fn write_credentials(dir: &Path, stem: &str, credentials: &Credentials) -> Result<(), Error> {
    write_secret(&dir.join(format!("{stem}.crt")), &credentials.certificate)?;
    write_secret(&dir.join(format!("{stem}.key")), &credentials.key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn kubeconfig_holds_the_credentials() {
        let authority = Authority::new().unwrap();
        let admin = authority.issue(Subject::administrator("admin")).unwrap();
        let text = authority.kubeconfig("https://127.0.0.1:1", &admin);
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:1");
        let key = config["users"][0]["user"]["client-key-data"].as_str().unwrap();
        assert_eq!(STANDARD.decode(key).unwrap(), admin.key.as_bytes());
        assert_eq!(config["current-context"], config["contexts"][0]["name"]);
    }

    #[test]
    fn every_authority_is_its_own() {
        let (one, two) = (Authority::new().unwrap(), Authority::new().unwrap());
        assert_ne!(one.credentials.certificate, two.credentials.certificate);
    }

    #[test]
    fn keys_are_in_the_forms_that_kubernetes_reads() {
        let (private, public) = service_account_keys().unwrap();
        assert!(private.starts_with("-----BEGIN PRIVATE KEY-----"), "{private}");
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----"), "{public}");
    }

    #[test]
    fn secrets_are_readable_by_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = Credentials { certificate: "c".into(), key: "k".into() };
        write_credentials(dir.path(), "x", &credentials).unwrap();
        let mode = fs::metadata(dir.path().join("x.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_to_string(dir.path().join("x.crt")).unwrap(), "c");
    }
}
