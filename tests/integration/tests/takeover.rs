//! What the Python operator left is taken over, and nothing that runs is restarted.

use std::collections::BTreeMap;

use dask_operator_api::{DaskCluster, DaskWorkerGroup, labels};
use integration_tests::fault::Refusal;
use integration_tests::link::ranking;
use integration_tests::operator::Launch;
use integration_tests::wait::check;
use integration_tests::{
    ApiServer, Fault, Kubelet, Link, Namespace, Operator, World, templates, wait_for, wait_until_quiet,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

const GROUP: &str = "old-default";

/// A Deployment as the Python operator made it.
fn deployment(name: &str, labels: &Value, owner: &Value, spec: &Value) -> Deployment {
    let metadata = json!({"name": name, "labels": labels, "ownerReferences": [owner]});
    serde_json::from_value(json!({
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }))
    .unwrap()
}

fn owner<K: Resource<DynamicType = ()>>(object: &K) -> Value {
    json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": K::kind(&()), "name": object.name_any(),
        "uid": object.uid(), "controller": true, "blockOwnerDeletion": true,
    })
}

/// A running cluster `old` of the Python operator, with workers of the default group.
async fn leave_a_cluster(namespace: &Namespace, workers: usize) {
    let mut cluster = templates::cluster("old", 5);
    cluster.metadata.finalizers = Some(vec![labels::KOPF_FINALIZER.to_owned()]);
    cluster
        .annotations_mut()
        .insert("kopf.zalando.org/last-handled-configuration".to_owned(), "{}".to_owned());
    let cluster = namespace.create_object(&cluster).await;
    let params = kube::api::PatchParams::default();
    let running = kube::api::Patch::Merge(json!({"status": {"phase": "Running"}}));
    namespace.api::<DaskCluster>().patch_status("old", &params, &running).await.unwrap();

    let scheduler = json!({
        "dask.org/cluster-name": "old", "dask.org/component": "scheduler", "sidecar.istio.io/inject": "false",
    });
    let spec = json!(cluster.spec.scheduler.spec);
    namespace.create_object(&deployment("old-scheduler", &scheduler, &owner(&cluster), &spec)).await;
    let service: Service = serde_json::from_value(json!({
        "metadata": {
            "name": "old-scheduler", "ownerReferences": [owner(&cluster)],
            "labels": {"dask.org/cluster-name": "old", "dask.org/component": "scheduler"},
        },
        "spec": cluster.spec.scheduler.service,
    }))
    .unwrap();
    namespace.create_object(&service).await;

    // The Python operator sets the owner late.
    let mut group = templates::group(GROUP, "old", i32::try_from(workers).unwrap());
    group.labels_mut().insert(labels::CLUSTER_NAME.to_owned(), "old".to_owned());
    let group = namespace.create_object(&group).await;
    for number in 0..workers {
        let name = format!("{GROUP}-worker-000000000{number}");
        let labels = json!({
            "dask.org/cluster-name": "old", "dask.org/component": "worker", "dask.org/workergroup-name": GROUP,
            "sidecar.istio.io/inject": "false",
        });
        let mut spec = json!(group.spec.worker.spec);
        spec["containers"][0]["env"] = json!([{"name": "DASK_WORKER_NAME", "value": name}]);
        namespace.create_object(&deployment(&name, &labels, &owner(&group), &spec)).await;
    }
    wait_for("all its pods run", async || {
        let pods = running_pods(namespace).await;
        check(pods.len() == workers + 1, || format!("{pods:?}"))
    })
    .await;
}

/// UIDs of the running pods by name.
async fn running_pods(namespace: &Namespace) -> BTreeMap<String, String> {
    let mut pods: Vec<Pod> = namespace.list("").await;
    pods.retain(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    });
    pods.into_iter().map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())).collect()
}

async fn old_workers(namespace: &Namespace) -> Vec<String> {
    let workers: Vec<Deployment> = namespace.list("dask.org/component=worker").await;
    workers.iter().map(ResourceExt::name_any).collect()
}

async fn wait_for_replicas(namespace: &Namespace, count: i32) {
    wait_for(&format!("{count} ready workers, old and new"), async || {
        let status = namespace.find::<DaskWorkerGroup>(GROUP).await?.status.unwrap_or_default();
        check((status.replicas, status.ready_replicas) == (count, count), || format!("{status:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_running_cluster_goes_on_and_its_workers_are_drained_like_ours() {
    let namespace = ApiServer::shared().await.namespace("takeover").await;
    let _kubelet = Kubelet::start(&namespace).await;
    Box::pin(leave_a_cluster(&namespace, 2)).await;
    let before = running_pods(&namespace).await;

    let link = Link::obliging();
    let operator = Operator::launch(Launch::alone(&namespace).link(&link)).await;
    operator.wait_until_ready().await;
    wait_for_replicas(&namespace, 2).await;
    wait_for("the finalizer is gone", async || {
        let finalizers = namespace.find::<DaskCluster>("old").await?.finalizers().to_vec();
        check(finalizers.is_empty(), || format!("{finalizers:?}"))
    })
    .await;
    namespace.wait_for_event("old", "TakenOver").await;
    wait_until_quiet(&operator.faults).await;
    assert_eq!(running_pods(&namespace).await, before, "nothing is restarted, nothing is made twice");
    assert_eq!(namespace.wait_for_event("old", "TakenOver").await.len(), 1);
    let scheduler: Deployment = namespace.get("old-scheduler").await;
    let strategy = scheduler.spec.and_then(|spec| spec.strategy).and_then(|strategy| strategy.type_);
    assert_eq!(strategy.as_deref(), Some("Recreate"));
    let (cluster, group): (DaskCluster, DaskWorkerGroup) =
        (namespace.get("old").await, namespace.get(GROUP).await);
    assert_eq!(group.owner_references()[0].uid, cluster.uid().unwrap());
    assert_eq!(group.spec.worker.replicas, 2, "the cluster's own number is not enforced");

    namespace.scale_group(GROUP, 3).await;
    wait_for_replicas(&namespace, 3).await;
    let grown = running_pods(&namespace).await;
    let new: Vec<_> = grown.keys().filter(|name| !before.contains_key(*name)).cloned().collect();
    assert_eq!((new.len(), old_workers(&namespace).await.len()), (1, 2), "new workers are pods");

    let dearest = new[0].clone();
    link.say(move |cluster| ranking(cluster, |name, number| Some(if name == dearest { 99 } else { number })));
    namespace.scale_group(GROUP, 1).await;
    wait_for("the old workers are gone", async || {
        let (workers, pods) = (old_workers(&namespace).await, running_pods(&namespace).await);
        check(workers.is_empty() && pods.len() == 2, || format!("{workers:?} {pods:?}"))
    })
    .await;
    wait_for_replicas(&namespace, 1).await;
    let after = running_pods(&namespace).await;
    assert!(
        after.contains_key(&new[0]) && after.iter().all(|(name, uid)| grown.get(name) == Some(uid)),
        "{after:?}"
    );
    let marks = operator.faults.writes();
    let marks = marks.iter().filter(|call| call.verb == "patch" && call.is_about("pods")).count();
    assert!(marks >= 2, "both were drained before their Deployment was deleted");
}

#[tokio::test]
async fn a_finalizer_that_may_not_be_taken_off_keeps_nothing_from_being_made() {
    let world = World::start("takeover-refused").await;
    let World { namespace, operator, observer, .. } = &world;
    operator.faults.set_plan(|call| {
        let refused = call.verb == "patch" && call.is_about("daskclusters");
        if refused { Fault::Refuse(Refusal::INVALID) } else { Fault::None }
    });
    observer.allow("c-default", 1);
    let mut cluster = templates::cluster("c", 1);
    cluster.metadata.finalizers = Some(vec![labels::KOPF_FINALIZER.to_owned()]);
    namespace.create_object(&cluster).await;
    namespace.wait_for_ready_workers("c-default", 1).await;
    namespace.wait_for_cluster_condition("c", "Ready", "AllReady").await;
    assert_eq!(namespace.wait_for_event("c", "AdmissionRefused").await.len(), 1);
    operator.faults.set_plan(|_| Fault::None);
    namespace.wait_for_event("c", "TakenOver").await;
}

#[tokio::test]
async fn a_deletion_that_waits_for_the_python_operator_ends() {
    let namespace = ApiServer::shared().await.namespace("takeover-delete").await;
    let mut cluster = templates::cluster("old", 0);
    let other = "example.org/mine".to_owned();
    cluster.metadata.finalizers = Some(vec![labels::KOPF_FINALIZER.to_owned(), other.clone()]);
    namespace.create_object(&cluster).await;
    namespace.delete::<DaskCluster>("old").await;
    let _operator = Operator::launch(Launch::alone(&namespace)).await;
    wait_for("only the stranger's finalizer is left", async || {
        let finalizers = namespace.find::<DaskCluster>("old").await?.finalizers().to_vec();
        check(finalizers == [other.as_str()], || format!("{finalizers:?}"))
    })
    .await;
    namespace.patch::<DaskCluster>("old", json!({"metadata": {"finalizers": null}})).await;
    wait_for("it is gone", async || {
        let clusters: Vec<DaskCluster> = namespace.list("").await;
        check(clusters.is_empty(), || format!("{}", clusters.len()))
    })
    .await;
}
