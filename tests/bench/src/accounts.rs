//! Who writes: each side is a service account of its own, so that the API server itself counts its writes.
//!
//! The count comes from API Priority and Fairness: a FlowSchema that matches only the writes of one account. It is
//! exact and costs nothing, while an audit log would slow down every request that is measured.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::PostParams;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde_json::json;

use crate::wait::wait_for;

/// Where the accounts are.
const NAMESPACE: &str = "default";
/// Longer than any run.
const TOKEN_SECONDS: i64 = 6 * 3600;
/// The level of service accounts by default: what an operator in a pod gets.
const PRIORITY_LEVEL: &str = "workload-low";
/// In every answer: the UID of the FlowSchema that the request was matched with.
const FLOW_SCHEMA_HEADER: &str = "x-kubernetes-pf-flowschema-uid";

/// A service account that may do everything.
#[derive(Debug)]
pub struct Account {
    /// Its kubeconfig, with its token inside.
    pub kubeconfig: PathBuf,
    /// Name of the FlowSchema of its writes.
    pub flow_schema: String,
    /// Its name as the API server tells it.
    pub user: String,
}

impl Account {
    /// Makes the account; its kubeconfig goes into `folder`.
    ///
    /// # Errors
    /// When the API server refuses a part, or does not count its writes soon.
    pub async fn create(admin: &Client, admin_kubeconfig: &Path, folder: &Path, name: &str) -> Result<Self> {
        let create = PostParams::default();
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), NAMESPACE);
        accounts.create(&create, &serde_json::from_value(json!({"metadata": {"name": name}}))?).await?;
        let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
        bindings.create(&create, &administrator(name)?).await?;
        let schemas: Api<FlowSchema> = Api::all(admin.clone());
        let schema = schemas.create(&create, &writes_of(name)?).await?;

        let wanted = TokenRequest { spec: serde_json::from_value(token_spec())?, ..TokenRequest::default() };
        let answer = accounts.create_token_request(name, &create, &wanted).await?;
        let token = answer.status.context("the API server returned no token")?.token;
        let kubeconfig = folder.join(format!("{name}.kubeconfig"));
        write_kubeconfig(admin_kubeconfig, &kubeconfig, &token)?;

        let user = format!("system:serviceaccount:{NAMESPACE}:{name}");
        let account = Self { kubeconfig, flow_schema: schema.name_any(), user };
        let client = account.client().await?;
        let uid = schema.uid().context("the FlowSchema has no UID")?;
        wait_for("the FlowSchema to take effect", async || {
            matched_schema(&client).await.is_ok_and(|matched| matched.as_deref() == Some(&uid))
        })
        .await?;
        Ok(account)
    }

    /// A client of its own, with kube's defaults, as the operator's.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<Client> {
        client(&self.kubeconfig).await
    }
}

/// A client with kube's defaults.
///
/// # Errors
/// When the kubeconfig cannot be used.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn token_spec() -> serde_json::Value {
    json!({"audiences": [], "expirationSeconds": TOKEN_SECONDS})
}

fn administrator(name: &str) -> serde_json::Result<ClusterRoleBinding> {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "namespace": NAMESPACE, "name": name}],
    }))
}

fn writes_of(name: &str) -> serde_json::Result<FlowSchema> {
    serde_json::from_value(json!({
        "metadata": {"name": format!("{name}-writes")},
        "spec": {
            "priorityLevelConfiguration": {"name": PRIORITY_LEVEL},
            "matchingPrecedence": 100,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": NAMESPACE, "name": name}}],
                "resourceRules": [{
                    "verbs": ["create", "update", "patch", "delete", "deletecollection"],
                    "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true,
                }],
            }],
        },
    }))
}

/// The administrator's kubeconfig with another user.
fn write_kubeconfig(admin: &Path, path: &Path, token: &str) -> Result<()> {
    let mut kubeconfig = serde_json::to_value(Kubeconfig::read_from(admin)?)?;
    let user =
        kubeconfig.pointer_mut("/users/0/user").context("the administrator's kubeconfig has no user")?;
    *user = json!({"token": token});
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    Ok(file.write_all(&serde_json::to_vec(&kubeconfig)?)?)
}

/// The FlowSchema that a write of this client is matched with. Nothing is stored.
async fn matched_schema(client: &Client) -> Result<Option<String>> {
    let object: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "flow-schema-probe"}}))?;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let url = ConfigMap::url_path(&(), Some(NAMESPACE));
    let request = Request::new(url).create(&dry_run, serde_json::to_vec(&object)?)?;
    let answer = client.send(request.map(Body::from)).await?;
    let header = answer.headers().get(FLOW_SCHEMA_HEADER);
    Ok(header.map(|uid| uid.to_str().map(str::to_owned)).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_differs_from_the_administrators_kubeconfig() {
        let folder = std::env::temp_dir().join(format!("dask-operator-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (admin, path) = (folder.join("admin"), folder.join("account"));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1"}}],
            "users": [{"name": "u", "user": {"client-key-data": "c2VjcmV0"}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        });
        fs::write(&admin, config.to_string()).unwrap();
        write_kubeconfig(&admin, &path, "abc").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let written: serde_json::Value = serde_json::from_str(&text).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(written["users"][0]["user"], json!({"token": "abc"}));
        assert_eq!(written["clusters"][0]["cluster"]["server"], "https://127.0.0.1:1");
        assert!(!text.contains("c2VjcmV0"), "{text}");
    }

    #[test]
    fn reads_are_not_counted_as_writes() {
        let schema = serde_json::to_value(writes_of("a").unwrap()).unwrap();
        let verbs = schema["spec"]["rules"][0]["resourceRules"][0]["verbs"].as_array().unwrap();
        assert!(["create", "patch", "delete"].iter().all(|verb| verbs.contains(&json!(verb))));
        assert!(!["get", "list", "watch", "*"].iter().any(|verb| verbs.contains(&json!(verb))));
    }
}
