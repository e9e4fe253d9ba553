//! Plays Kubernetes' own controllers where none run: makes the pod of every scheduler, for which workers wait.

use std::collections::HashSet;
use std::fmt::Debug;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

/// Pods that are made at a time: these controllers hold up nobody.
const IN_FLIGHT: usize = 8;

/// What the Deployment controller would append to the name of the ReplicaSet.
const HASH: &str = "5c689d8";

/// Makes pods until it is dropped.
#[derive(Debug)]
pub struct SchedulerPods {
    _task: AbortOnDropHandle<()>,
}

impl SchedulerPods {
    /// Begins.
    #[must_use]
    #[expect(clippy::print_stderr, reason = "a bench prints why it cannot go on")]
    pub fn make(client: Client) -> Self {
        let work = async move {
            if let Err(error) = make_all(&client).await {
                eprintln!("the pods of schedulers are not made any more: {error:#}");
            }
        };
        Self { _task: AbortOnDropHandle::new(tokio::spawn(work)) }
    }
}

async fn make_all(client: &Client) -> Result<()> {
    let deployments = watcher(Api::<Deployment>::all(client.clone()), watcher::Config::default());
    let mut known = HashSet::new();
    deployments
        .default_backoff()
        .applied_objects()
        // After an error the watch begins anew.
        .filter_map(async |seen| seen.ok())
        .filter(|deployment| std::future::ready(known.insert(deployment.uid())))
        .map(Ok)
        .try_for_each_concurrent(IN_FLIGHT, async |deployment| {
            let pods: Api<Pod> = Api::namespaced(client.clone(), &deployment.namespace().unwrap_or_default());
            match pods.create(&PostParams::default(), &pod(&deployment)?).await {
                // The watch began anew, the round is over, or a quota is full.
                Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404 | 409) => Ok(()),
                made => made.map(|_| ()).context("failed to create the pod of a scheduler"),
            }
        })
        .await
}

/// Name of the pod of a Deployment.
#[must_use]
pub fn name(deployment: &str) -> String {
    format!("{deployment}-pod")
}

fn pod(deployment: &Deployment) -> Result<Pod> {
    let template =
        deployment.spec.as_ref().map(|spec| &spec.template).context("a Deployment without spec")?;
    let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
    let mut labels = labels.unwrap_or_default();
    labels.insert("pod-template-hash".to_owned(), HASH.to_owned());
    // A scheduler is told by its owner. Nobody collects garbage here, so that owner need not exist.
    let replica_set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true,
        "name": format!("{}-{HASH}", deployment.name_any()), "uid": deployment.uid().unwrap_or_default(),
    });
    Ok(serde_json::from_value(json!({
        "metadata": {
            "name": name(&deployment.name_any()), "labels": labels, "ownerReferences": [replica_set],
        },
        "spec": template.spec,
    }))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_is_that_of_the_template() {
        let cluster = crate::workload::cluster("ns", "c", 1).unwrap();
        let pod = pod(&crate::workload::parts(&cluster).unwrap().deployment).unwrap();
        assert_eq!(pod.name_any(), "c-scheduler-pod");
        assert_eq!(pod.labels()["dask.org/component"], "scheduler");
        assert_eq!(pod.labels()["dask.org/cluster-name"], "c");
        assert_eq!(pod.labels()["pod-template-hash"], HASH);
        assert_eq!(pod.owner_references()[0].name, format!("c-scheduler-{HASH}"));
        assert_eq!(pod.spec.unwrap().containers[0].name, "scheduler");
    }
}
