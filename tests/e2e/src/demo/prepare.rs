//! The steps before the cluster: a Kubernetes, images, the operator.

use std::{io::Write, time::Duration};

use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt, api::ListParams};
use testbed::ClusterConfig;

use super::{Failure, Teller, settings::Settings, transcript::listed};
use crate::{
    Error, Kubernetes, images,
    operator::{self, Image},
    wait::{self, Look},
};

/// The demo's own local cluster, with two nodes.
const NAME: &str = "demo";

/// A new leader may have to wait for the Lease of the old one to run out.
const LEADER_PATIENCE: Duration = Duration::from_mins(1);

/// Finds or starts the Kubernetes.
///
/// # Errors
/// When there is none.
pub async fn kubernetes(teller: &mut Teller<impl Write>, settings: &Settings) -> Result<Kubernetes, Failure> {
    let work = async {
        let kubernetes = match settings {
            Settings::Local => Kubernetes::local(ClusterConfig::with_nodes(NAME, 2)).await?,
            Settings::Existing { kubeconfig, .. } => Kubernetes::existing(kubeconfig.clone()).await?,
        };
        let client = kubernetes.client().await?;
        let version = client.apiserver_version().await.map_err(Error::api("ask for the version"))?;
        let list = Api::<Node>::all(client).list(&ListParams::default()).await;
        let nodes = list.map_err(Error::api("list the nodes"))?;
        let names: Vec<_> = nodes.iter().map(ResourceExt::name_any).collect();
        let detail = match names.len() {
            0..5 => format!("{}, nodes {}", version.git_version, listed(&names)),
            count => format!("{}, {count} nodes", version.git_version),
        };
        Ok((kubernetes, detail))
    };
    teller.step("Kubernetes", "starting control plane and nodes", work).await
}

/// The images to use, on every node that needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// The operator's.
    pub operator: Image,
    /// Names the content of the operator's image, if its tag does not.
    pub operator_version: Option<String>,
    /// Dask's.
    pub dask: String,
}

/// Makes the images and brings them to the nodes.
///
/// # Errors
/// When one cannot be made or a node refuses it.
pub async fn images(
    teller: &mut Teller<impl Write>,
    settings: &Settings,
    kubernetes: &Kubernetes,
) -> Result<Images, Failure> {
    let Settings::Existing { operator, dask, .. } = settings else {
        let doing = "building the operator and the images (minutes the first time)";
        return teller.step("Images", doing, local_images(kubernetes)).await;
    };
    Ok(Images { operator: operator.clone(), operator_version: None, dask: dask.clone() })
}

async fn local_images(kubernetes: &Kubernetes) -> Result<(Images, String), Error> {
    let operator = images::operator().await?;
    let dask = images::dask(&[]).await?;
    let mut loaded = false;
    for archive in [&operator, &dask] {
        loaded |= kubernetes.load(archive).await?;
    }
    let names = format!("{} and {}", testbed::images::OPERATOR, testbed::images::DASK);
    let detail = format!("{names} {}", if loaded { "loaded" } else { "are there" });
    let version = operator.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let images = Images {
        operator: Image::parse(testbed::images::OPERATOR),
        operator_version: version,
        dask: testbed::images::DASK.to_owned(),
    };
    Ok((images, detail))
}

/// Installs the operator and waits until one of its replicas leads.
///
/// # Errors
/// When it does not become ready.
pub async fn operator(
    teller: &mut Teller<impl Write>,
    kubernetes: &Kubernetes,
    images: &Images,
) -> Result<(), Failure> {
    let work = async {
        operator::install(kubernetes, &images.operator, images.operator_version.as_deref()).await?;
        let client = kubernetes.client().await?;
        let pods: Vec<_> = operator::ready_pods(&client).await?.iter().map(ResourceExt::name_any).collect();
        let leader = wait::until("an operator pod that leads", LEADER_PATIENCE, async || {
            let holder = operator::leader(&client).await?;
            let leads = holder.clone().filter(|holder| pods.iter().any(|pod| holder.contains(pod.as_str())));
            Ok(leads.map_or_else(|| Look::NotYet(format!("the Lease is held by {holder:?}")), Look::Done))
        })
        .await?;
        Ok(((), format!("{} replicas ready, {leader} leads", pods.len())))
    };
    teller.step("Operator", "helm upgrade --install dask-operator", work).await
}
