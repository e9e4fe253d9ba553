//! Where people use `KubeCluster`: a pod with no more rights than they are told to give it, or their own machine.

use std::{path::PathBuf, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::{images::DASK, workspace};

use crate::{
    Error, Kubernetes,
    command::Invocation,
    dask::{self, ClientPod},
    images,
};

const COMMON: &str = include_str!("../python/kubecluster/common.py");
const UNPACK: &str = include_str!("../python/unpack.py");

/// The account and the pod of a notebook.
const NAME: &str = "notebook";

/// A script creates a cluster, scales and deletes it, on two busy cores.
const SCRIPT_PATIENCE: Duration = Duration::from_mins(6);

/// A place to run scripts with a `KubeCluster` in.
#[derive(Debug)]
pub enum Notebook<'a> {
    /// A pod.
    Inside(ClientPod<'a>),
    /// This machine, with the packages of the Dask test image.
    Outside {
        /// Where the clusters are.
        kubernetes: &'a Kubernetes,
        /// The packages.
        packages: PathBuf,
    },
}

impl<'a> Notebook<'a> {
    /// Starts the pod, with a service account that may do what the documentation of dask-kubernetes asks for and
    /// read logs.
    ///
    /// # Errors
    /// When something is refused or does not start.
    pub async fn inside(kubernetes: &'a Kubernetes, namespace: &str) -> Result<Self, Error> {
        let apply = kubernetes.kubectl(&format!("apply --namespace {namespace} -f -"));
        apply.input(rights().to_string()).run().await?;
        Ok(Self::Inside(ClientPod::start_as(kubernetes, namespace, NAME, DASK, NAME).await?))
    }

    /// Takes this machine.
    ///
    /// # Errors
    /// When the packages cannot be unpacked.
    pub async fn outside(kubernetes: &'a Kubernetes) -> Result<Self, Error> {
        Ok(Self::Outside { kubernetes, packages: packages().await? })
    }

    /// Runs a script of `python/kubecluster` for a cluster of this name; its last line is the answer.
    ///
    /// # Errors
    /// When it fails, or its answer is not understood.
    pub async fn run<T: DeserializeOwned>(
        &self,
        script: &str,
        namespace: &str,
        cluster: &str,
    ) -> Result<T, Error> {
        let script = format!("{COMMON}\n{script}");
        let place = if matches!(self, Self::Inside(_)) { "inside" } else { "outside" };
        let arguments = [namespace, DASK, cluster, place].map(str::to_owned);
        match self {
            Self::Inside(pod) => pod.run(&script, &arguments, SCRIPT_PATIENCE).await,
            Self::Outside { kubernetes, packages } => {
                let python = Invocation::new("/usr/bin/python3").words("-").args(&arguments).input(script);
                let python = python.env("PYTHONPATH", packages).env("KUBECONFIG", kubernetes.kubeconfig());
                Ok(dask::parse(&python.deadline(SCRIPT_PATIENCE).run().await?)?)
            }
        }
    }
}

/// The Python packages of the Dask test image on this machine, unpacked once. The image has the Python of this
/// machine, so they fit.
///
/// # Errors
/// When the image cannot be made or unpacked.
pub async fn packages() -> Result<PathBuf, Error> {
    let archive = images::dask(&[]).await?;
    let target = workspace::data_dir().join("python").join(archive.file_stem().unwrap_or_default());
    if !target.exists() {
        // Renamed when it is whole; two at once make the same.
        let scratch = target.with_extension(std::process::id().to_string());
        let python = Invocation::new("/usr/bin/python3").words("-").args([&archive, &scratch]).input(UNPACK);
        python.deadline(Duration::from_mins(3)).run().await?;
        if let Err(source) = std::fs::rename(&scratch, &target)
            && !target.exists()
        {
            return Err(Error::Read { path: target, source });
        }
    }
    // usr/local/lib/python3.N/dist-packages
    let libraries = target.join("usr/local/lib");
    let mut entries =
        std::fs::read_dir(&libraries).map_err(|source| Error::Read { path: libraries.clone(), source })?;
    let python = entries.find_map(|entry| Some(entry.ok()?.path())).unwrap_or(libraries);
    Ok(python.join("dist-packages"))
}

/// The rights that users of dask-kubernetes are told to give, in one namespace, and `get` on logs.
fn rights() -> Value {
    let verbs = ["get", "list", "watch", "patch", "create", "delete"];
    let resources =
        ["daskclusters", "daskworkergroups", "daskworkergroups/scale", "daskjobs", "daskautoscalers"];
    let rules = json!([
        {"apiGroups": ["kubernetes.dask.org"], "resources": resources, "verbs": verbs},
        {"apiGroups": [""], "resources": ["pods", "pods/status", "services"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]);
    let rbac = "rbac.authorization.k8s.io";
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME}},
        {"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": {"name": NAME}, "rules": rules},
        {
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": {"name": NAME},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME}],
        },
    ]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notebook_may_not_write_pods_nor_read_secrets() {
        let rights = rights();
        for rule in rights["items"][1]["rules"].as_array().unwrap() {
            let core = rule["apiGroups"][0] == "";
            let writes = rule["verbs"].as_array().unwrap().iter().any(|verb| verb == "create");
            assert!(!(core && writes), "{rule}");
            assert!(!rule.to_string().contains("secrets") && !rule.to_string().contains('*'), "{rule}");
        }
    }
}
