//! The operator, installed by Helm from the chart of this source tree.

use std::time::Duration;

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use crate::{
    Error, Kubernetes,
    command::{self, Invocation},
};

/// Name of the release, of its namespace and of the operator's Deployment.
pub const RELEASE: &str = "dask-operator";

/// Selects the operator's pods.
pub const SELECTOR: &str = "app.kubernetes.io/name=dask-operator";

/// An image is there already, so a pod needs seconds.
const READY_PATIENCE: Duration = Duration::from_mins(3);

/// Which image the chart is installed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// The chart's own.
    OfTheChart,
    /// Another one.
    Named {
        /// Without tag.
        name: String,
        /// The tag.
        tag: String,
    },
}

impl Image {
    /// Splits `name:tag`; without tag it is `latest`, as everywhere.
    #[must_use]
    pub fn parse(reference: &str) -> Self {
        // The colon of a registry's port comes before the last slash.
        let (name, tag) = match reference.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (reference, "latest"),
        };
        Self::Named { name: name.to_owned(), tag: tag.to_owned() }
    }
}

/// Values for the chart. `version` names the image's content: pods are replaced when it changes, though the tag of
/// a development image stays.
fn values(image: &Image, version: Option<&str>) -> Value {
    let mut values = json!({});
    if let Image::Named { name, tag } = image {
        values["image"] = json!({"name": name, "tag": tag});
    }
    if let Some(version) = version {
        values["podAnnotations"] = json!({"dask-operator/image-version": version});
    }
    values
}

/// Installs or upgrades the operator, in a namespace that allows only pods of the Pod Security level "restricted",
/// and waits until both replicas are ready.
///
/// # Errors
/// When helm fails or the pods do not become ready.
pub async fn install(kubernetes: &Kubernetes, image: &Image, version: Option<&str>) -> Result<(), Error> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": RELEASE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    });
    kubernetes.kubectl("apply -f -").input(namespace.to_string()).run().await?;
    let upgrade = || helm_upgrade(kubernetes, &values(image, version));
    match upgrade().run().await {
        Err(error) if is_interrupted(&error) => {
            // The definitions stay, and with them every cluster.
            let uninstall = format!("uninstall {RELEASE} --namespace {RELEASE} --wait");
            kubernetes.helm(&uninstall).deadline(READY_PATIENCE).run().await?;
            upgrade().run().await?;
        }
        other => drop(other?),
    }
    Ok(())
}

/// Uninstalls the operator; definitions and clusters stay.
///
/// # Errors
/// When helm fails.
pub async fn uninstall(kubernetes: &Kubernetes) -> Result<(), Error> {
    let uninstall = format!("uninstall {RELEASE} --namespace {RELEASE} --wait --ignore-not-found");
    kubernetes.helm(&uninstall).deadline(READY_PATIENCE).run().await?;
    Ok(())
}

/// Stops every replica of the installed operator, or starts them again, and waits until it is so.
///
/// # Errors
/// When the API server refuses, or the pods stay or do not come.
pub async fn set_replicas(kubernetes: &Kubernetes, replicas: u32) -> Result<(), Error> {
    let scale = format!("scale deployment --namespace {RELEASE} --selector {SELECTOR} --replicas {replicas}");
    kubernetes.kubectl(&scale).run().await?;
    let seconds = READY_PATIENCE.as_secs();
    let settled = match replicas {
        0 => format!("wait pods --selector {SELECTOR} --for delete"),
        _ => format!("rollout status deployment --selector {SELECTOR}"),
    };
    let wait = kubernetes.kubectl(&format!("{settled} --namespace {RELEASE} --timeout {seconds}s"));
    wait.deadline(READY_PATIENCE * 2).run().await?;
    Ok(())
}

fn helm_upgrade(kubernetes: &Kubernetes, values: &Value) -> Invocation {
    kubernetes
        .helm(&format!("upgrade --install {RELEASE}"))
        .args([testbed::workspace::root().join("charts/dask-operator")])
        .words(&format!(
            "--namespace {RELEASE} --values - --take-ownership --force-conflicts --wait --timeout {}s",
            READY_PATIENCE.as_secs()
        ))
        .input(values.to_string())
        .deadline(READY_PATIENCE + Duration::from_secs(30))
}

/// Whether an earlier helm was killed at its work: it left a mark that stops every later one.
fn is_interrupted(error: &command::Error) -> bool {
    matches!(error, command::Error::Failed { output, .. } if output.contains("another operation"))
}

/// The operator's pods that are ready, without those on their way out.
///
/// # Errors
/// When the API server does not answer.
pub async fn ready_pods(client: &kube::Client) -> Result<Vec<Pod>, Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), RELEASE);
    let list = pods.list(&ListParams::default().labels(SELECTOR)).await;
    let list = list.map_err(Error::api("list the operator's pods"))?;
    Ok(list.items.into_iter().filter(is_ready).collect())
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let ready =
        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Who holds the Lease by which the replicas choose the one that writes.
///
/// # Errors
/// When the API server does not answer.
pub async fn leader(client: &kube::Client) -> Result<Option<String>, Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), RELEASE);
    let list = leases.list(&ListParams::default()).await.map_err(Error::api("list the operator's leases"))?;
    let holders = list.items.into_iter().filter_map(|lease| lease.spec?.holder_identity);
    Ok(holders.into_iter().find(|holder| !holder.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case("localhost/dask-operator:dev", "localhost/dask-operator", "dev")]
    #[case("localhost:5000/dask-operator", "localhost:5000/dask-operator", "latest")]
    #[case("localhost:5000/dask-operator:1", "localhost:5000/dask-operator", "1")]
    #[case("operator", "operator", "latest")]
    fn references_are_split_at_the_tag(#[case] reference: &str, #[case] name: &str, #[case] tag: &str) {
        let expected = Image::Named { name: name.to_owned(), tag: tag.to_owned() };
        assert_eq!(Image::parse(reference), expected);
    }

    #[test]
    fn pods_that_start_or_go_are_not_ready() {
        let pod = |status: &str, going: Option<&str>| {
            let pod = json!({
                "metadata": {"deletionTimestamp": going},
                "status": {"conditions": [{"type": "Ready", "status": status}]},
            });
            is_ready(&serde_json::from_value(pod).unwrap())
        };
        assert!(pod("True", None));
        assert!(!pod("False", None));
        assert!(!pod("True", Some("2026-11-23T10:00:00Z")));
        assert!(!is_ready(&Pod::default()));
    }

    #[test]
    fn values_say_only_what_differs_from_the_chart() {
        assert_eq!(values(&Image::OfTheChart, None), json!({}));
        let values = values(&Image::parse("o:dev"), Some("operator-1"));
        assert_eq!(values["image"], json!({"name": "o", "tag": "dev"}));
        assert_eq!(values["podAnnotations"]["dask-operator/image-version"], "operator-1");
    }
}
