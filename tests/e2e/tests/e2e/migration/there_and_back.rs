//! A cluster of the Python operator changes hands twice, with its pods and what they hold.

use std::collections::BTreeMap;

use e2e_tests::{
    Error,
    dask::ClientPod,
    notebook::{Names, Notebook},
    operator, python_operator,
    wait::{self, Look},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use testbed::images::DASK;

use super::guide::Guide;
use crate::{
    fixtures::{cluster, workers_of},
    harness::{PATIENCE, Scenario, alone_then, install_operator},
};

const RESULTS: u8 = 40;
/// The cluster that a `KubeCluster` makes.
const KUBECLUSTER: &str = "notebooks";
/// Makes it, with no workers at first as by default, scales it, and leaves it behind.
const LEAVE: &str = include_str!("../../../python/kubecluster/leave.py");

#[derive(Debug, serde::Deserialize)]
struct Left {
    workers: usize,
}

/// UID and restarts of every pod: the same before and after means that nobody touched them.
type Lives = BTreeMap<String, (String, i32)>;

fn lives(pods: &[Pod]) -> Lives {
    let life = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        (pod.uid().unwrap_or_default(), statuses.map(|status| status.restart_count).sum())
    };
    pods.iter().map(|pod| (pod.name_any(), life(pod))).collect()
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready.next().is_some() && pod.metadata.deletion_timestamp.is_none()
}

fn owned_by(pod: &Pod, kind: &str) -> bool {
    pod.owner_references().iter().any(|owner| owner.kind == kind)
}

impl Scenario {
    async fn ready_workers(&self, cluster: &str, count: usize) -> Result<Vec<Pod>, Error> {
        let holds = |pods: &[Pod]| pods.len() == count && pods.iter().all(ready);
        self.pods(&workers_of(cluster), &format!("{count} ready workers of {cluster}"), holds).await
    }

    async fn all_pods(&self, cluster: &str) -> Result<Vec<Pod>, Error> {
        self.pods(&format!("dask.org/cluster-name={cluster}"), "the pods", |_| true).await
    }

    async fn gone(&self, cluster: &str) -> Result<(), Error> {
        wait::until(&format!("DaskCluster {cluster:?} and its pods to be gone"), PATIENCE, async || {
            let objects = "daskclusters,daskworkergroups,deployments,services,pods --output name";
            let left = self.kubectl(&format!("get {objects}")).run().await?;
            let left: Vec<_> = left.lines().filter(|name| name.contains(cluster)).collect();
            Ok(if left.is_empty() { Look::Done(()) } else { Look::NotYet(left.join(", ")) })
        })
        .await
    }
}

#[tokio::test]
async fn clusters_move_from_the_python_operator_and_back() {
    alone_then("migration", there_and_back, async |kubernetes| {
        python_operator::uninstall(kubernetes).await?;
        install_operator(kubernetes).await
    })
    .await;
}

async fn there_and_back(scenario: &Scenario) -> Result<(), Error> {
    let kubernetes = scenario.kubernetes;
    operator::uninstall(kubernetes).await?;
    python_operator::install_definitions(kubernetes).await?;
    python_operator::install(kubernetes).await?;
    for name in ["moving", "leaving"] {
        scenario.apply(cluster(name, 2)).await?;
    }
    for name in ["moving", "leaving"] {
        let workers = scenario.ready_workers(name, 2).await?;
        assert!(workers.iter().all(|pod| owned_by(pod, "ReplicaSet")), "these are not the Python operator's");
    }
    let client = scenario.client_pod().await?;
    client.wait_for_workers("moving", 2, PATIENCE).await?;
    let held = client.keep("moving", RESULTS).await?;
    assert!(held.right && held.executions == u32::from(RESULTS), "{held:?}");
    let before = lives(&scenario.all_pods("moving").await?);
    assert_eq!(before.len(), 3, "{before:?}");
    assert!(before.values().all(|(_, restarts)| *restarts == 0), "{before:?}");

    there(scenario, &client, &before).await?;
    back(scenario, &client, &before).await
}

async fn there(scenario: &Scenario, client: &ClientPod<'_>, before: &Lives) -> Result<(), Error> {
    let guide = Guide::new(scenario.kubernetes, &scenario.namespace).await?;
    guide.follow("There", 1).await?;
    // Deleted while nobody is there to take kopf's finalizer off.
    scenario.kubectl("delete daskcluster leaving --wait=false").run().await?;
    guide.follow("There", 2).await?;
    scenario.ready("moving", 2).await?;
    scenario.gone("leaving").await?;
    assert_eq!(&lives(&scenario.all_pods("moving").await?), before, "pods were touched");
    let finalizers = "get daskcluster moving --output jsonpath={.metadata.finalizers}";
    let finalizers = scenario.kubectl(finalizers).run().await?;
    assert!(!finalizers.contains("kopf"), "{finalizers}");
    let seen = guide.follow("There", 3).await?;
    assert!(seen.contains("moving") && seen.contains("TakenOver"), "{seen}");
    client.compute("moving", 1000).await?;

    // Up with pods, down through a drain, Deployments among them; one of the four stays.
    scenario.scale("moving", 4).await?;
    scenario.ready("moving", 4).await?;
    let workers = scenario.ready_workers("moving", 4).await?;
    let bare = workers.iter().filter(|pod| owned_by(pod, "DaskWorkerGroup")).count();
    assert_eq!(bare, 2, "two of the Python operator, two of ours");
    client.wait_for_workers("moving", 4, PATIENCE).await?;
    scenario.scale("moving", 1).await?;
    scenario.ready("moving", 1).await?;
    client.wait_for_workers("moving", 1, PATIENCE).await?;
    let held = client.take_last("moving", RESULTS).await?;
    let kept = held.right && held.executions == u32::from(RESULTS);
    assert!(kept, "results were lost or computed again: {held:?}");
    Ok(())
}

async fn back(scenario: &Scenario, client: &ClientPod<'_>, before: &Lives) -> Result<(), Error> {
    // One that the Python operator never saw.
    scenario.apply(cluster("born", 1)).await?;
    scenario.ready("born", 1).await?;
    scaled_by_its_group(scenario).await?;
    let guide = Guide::new(scenario.kubernetes, &scenario.namespace).await?;
    guide.follow("Back", 1).await?;
    let left = scenario.pods("dask.org/component=worker", "no workers", <[_]>::is_empty).await?;
    assert!(left.is_empty(), "{:?}", lives(&left));
    guide.follow("Back", 2).await?;
    for name in ["moving", "born", KUBECLUSTER] {
        guide.follow_for("Back", 3, name, 2).await?;
    }
    guide.follow("Back", 4).await?;
    for name in ["moving", "born", KUBECLUSTER] {
        let workers = scenario.ready_workers(name, 2).await?;
        assert!(workers.iter().all(|pod| owned_by(pod, "ReplicaSet")), "{:?}", lives(&workers));
        client.wait_for_workers(name, 2, PATIENCE).await?;
        client.compute(name, 1000).await?;
    }
    let after = lives(&scenario.all_pods("moving").await?);
    assert_eq!(after.len(), 3, "{after:?}");
    assert_eq!(scheduler(&after), scheduler(before), "the scheduler ran through it all");
    scenario.kubectl(&format!("delete daskcluster moving born {KUBECLUSTER}")).run().await?;
    for name in ["moving", "born", KUBECLUSTER] {
        scenario.gone(name).await?;
    }
    Ok(())
}

/// A cluster of an unmodified `KubeCluster`, which creates it without workers and scales its group, and an autoscaler
/// that would fill it again.
async fn scaled_by_its_group(scenario: &Scenario) -> Result<(), Error> {
    let namespace = scenario.namespace.as_str();
    let notebook = Notebook::start(scenario.kubernetes, namespace, "notebook", DASK).await?;
    let names = Names { namespace, cluster: KUBECLUSTER, image: DASK };
    let left: Left = notebook.run(&[LEAVE], names).await?;
    assert_eq!(left.workers, 2);
    let seen = scenario.kubectl(&format!("get daskcluster {KUBECLUSTER} --output json")).run().await?;
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap_or_default();
    assert_eq!(seen["spec"]["worker"]["replicas"], 0, "only its group was scaled");
    let autoscaler = serde_json::json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler", "metadata": {"name": KUBECLUSTER},
        "spec": {"cluster": KUBECLUSTER, "minimum": 2, "maximum": 2},
    });
    scenario.apply(autoscaler).await?;
    scenario.ready_workers(KUBECLUSTER, 2).await.map(drop)
}

fn scheduler(lives: &Lives) -> Option<&(String, i32)> {
    lives.iter().find(|(name, _)| name.contains("-scheduler-")).map(|(_, life)| life)
}
