//! Where people use `KubeCluster`: a pod with no more rights than they are told to give it, or their own machine.

use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Error, Kubernetes,
    dask::{self, ClientPod},
    packages,
};

const COMMON: &str = include_str!("../python/kubecluster/common.py");

/// The functions `scaling` and `shrink`; the latter reports [`Shrinking`].
pub const SCALING: &str = include_str!("../python/kubecluster/scaling.py");

/// A script creates a cluster, scales and deletes it, on two busy cores.
const SCRIPT_PATIENCE: Duration = Duration::from_mins(6);

/// A cluster as the scripts know it.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// Where it is.
    pub namespace: &'a str,
    /// Its name.
    pub cluster: &'a str,
    /// The image of its pods.
    pub image: &'a str,
}

impl Names<'_> {
    fn arguments(&self, place: &str) -> [String; 4] {
        [self.namespace, self.image, self.cluster, place].map(str::to_owned)
    }
}

/// A pod to run scripts with a `KubeCluster` in.
#[derive(Debug)]
pub struct Notebook<'a> {
    pod: ClientPod<'a>,
}

impl<'a> Notebook<'a> {
    /// Starts the pod, with a service account of the same name that may do what the documentation of dask-kubernetes
    /// asks for, and read logs.
    ///
    /// # Errors
    /// When something is refused or does not start.
    pub async fn start(
        kubernetes: &'a Kubernetes,
        namespace: &str,
        name: &str,
        image: &str,
    ) -> Result<Self, Error> {
        let apply = kubernetes.kubectl(&format!("apply --namespace {namespace} -f -"));
        apply.input(rights(name).to_string()).run().await?;
        Ok(Self { pod: ClientPod::start_as(kubernetes, namespace, name, image, name).await? })
    }

    /// The pod, for scripts without a `KubeCluster`.
    #[must_use]
    pub fn pod(&self) -> &ClientPod<'a> {
        &self.pod
    }

    /// Runs scripts, one after the other in one Python; the last line is the answer.
    ///
    /// # Errors
    /// When one fails, or the answer is not understood.
    pub async fn run<T: DeserializeOwned>(&self, scripts: &[&str], names: Names<'_>) -> Result<T, Error> {
        self.pod.run(&whole(scripts), &names.arguments("inside"), SCRIPT_PATIENCE).await
    }
}

/// As [`Notebook::run`], on this machine, which reaches schedulers by port-forward through the API server.
///
/// # Errors
/// As there.
pub async fn run_outside<T: DeserializeOwned>(
    kubernetes: &Kubernetes,
    scripts: &[&str],
    names: Names<'_>,
) -> Result<T, Error> {
    let python = packages::python().await?.words("-").args(names.arguments("outside")).input(whole(scripts));
    let python = python.env("KUBECONFIG", kubernetes.kubeconfig());
    Ok(dask::parse(&python.deadline(SCRIPT_PATIENCE).run().await?)?)
}

fn whole(scripts: &[&str]) -> String {
    [&[COMMON], scripts].concat().join("\n")
}

/// What was seen of a cluster that shrank while all its workers held results and computed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Shrinking {
    /// Connected workers before and after.
    pub workers: [usize; 2],
    /// Tasks that were submitted.
    pub tasks: usize,
    /// Those that were not done when the number of workers was changed.
    pub unfinished: usize,
    /// How often a task began; it tells the scheduler, so one that was cut off and done again counts twice.
    pub executions: usize,
    /// Executions on workers that went.
    pub on_gone: usize,
    /// Workers that the scheduler removed.
    pub removed: usize,
    /// Results that went with them, by the scheduler's own record (`lost-computed-tasks`).
    pub lost: usize,
    /// Whether all results are what they should be.
    pub right: bool,
}

impl Shrinking {
    /// Nothing may have been lost, and the workers that went must have had something to lose.
    ///
    /// # Errors
    /// When it is not so.
    pub fn checked(self) -> Result<Self, dask::Error> {
        let nothing_lost = self.executions == self.tasks && self.lost == 0;
        let shrunk = self.workers[0] > self.workers[1] && self.removed == self.workers[0] - self.workers[1];
        let tried = self.unfinished > 0 && self.on_gone > 0;
        if self.right && nothing_lost && shrunk && tried {
            Ok(self)
        } else {
            Err(dask::Error::Shrinking(self))
        }
    }
}

/// The rights that users of dask-kubernetes are told to give, in one namespace, and `get` on logs.
fn rights(name: &str) -> Value {
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
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name}],
        },
    ]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notebook_may_not_write_pods_nor_read_secrets() {
        let rights = rights("notebook");
        for rule in rights["items"][1]["rules"].as_array().unwrap() {
            let core = rule["apiGroups"][0] == "";
            let writes = rule["verbs"].as_array().unwrap().iter().any(|verb| verb == "create");
            assert!(!(core && writes), "{rule}");
            assert!(!rule.to_string().contains("secrets") && !rule.to_string().contains('*'), "{rule}");
        }
    }

    #[test]
    fn a_cluster_that_lost_something_or_had_nothing_to_lose_is_an_error() {
        let good = Shrinking {
            workers: [4, 2],
            tasks: 80,
            unfinished: 20,
            executions: 80,
            on_gone: 30,
            removed: 2,
            lost: 0,
            right: true,
        };
        assert!(good.clone().checked().is_ok());
        for bad in [
            Shrinking { executions: 81, ..good.clone() },
            Shrinking { lost: 1, ..good.clone() },
            Shrinking { right: false, ..good.clone() },
            Shrinking { on_gone: 0, ..good.clone() },
            Shrinking { unfinished: 0, ..good.clone() },
            Shrinking { workers: [4, 4], removed: 0, ..good.clone() },
            Shrinking { removed: 3, ..good.clone() },
        ] {
            assert!(bad.clone().checked().is_err(), "{bad:?}");
        }
    }
}
