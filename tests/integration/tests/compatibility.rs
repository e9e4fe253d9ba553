//! The promises to unmodified clients of dask-kubernetes.

use std::time::{Duration, Instant};

use dask_operator_api::{ClusterPhase, DaskCluster, DaskWorkerGroup, labels};
use futures::StreamExt;
use integration_tests::wait::check;
use integration_tests::{
    ApiServer, Faults, Kubelet, Namespace, Object, Operator, PATIENCE, World, holds_for, templates, wait_for,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

type Seen = Vec<(String, Option<ClusterPhase>)>;

/// The phases of all clusters of a namespace, as a watching client sees them.
struct Phases {
    seen: watch::Receiver<Seen>,
    _task: AbortOnDropHandle<()>,
}

impl Phases {
    fn watch(namespace: &Namespace) -> Self {
        let (sender, seen) = watch::channel(Seen::new());
        let clusters = namespace.api::<DaskCluster>();
        let task = tokio::spawn(async move {
            let mut objects = std::pin::pin!(watcher(clusters, watcher::Config::default()).applied_objects());
            while let Some(cluster) = objects.next().await {
                let cluster: DaskCluster = cluster.unwrap();
                let phase = cluster.status.as_ref().and_then(|status| status.phase);
                sender.send_modify(|seen| seen.push((cluster.name_any(), phase)));
            }
        });
        Self { seen, _task: AbortOnDropHandle::new(task) }
    }

    /// Waits until a cluster has this phase.
    async fn wait_for(&self, cluster: &str, phase: ClusterPhase) {
        let mut seen = self.seen.clone();
        let reached = seen.wait_for(|seen| seen.iter().any(|one| one.0 == cluster && one.1 == Some(phase)));
        let reached = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        assert!(reached, "{cluster} is not {phase} after {PATIENCE:?}: {:?}", self.of(cluster));
    }

    /// Those of one cluster, repetitions left out.
    fn of(&self, cluster: &str) -> Vec<Option<ClusterPhase>> {
        let seen = self.seen.borrow();
        let mut phases: Vec<_> =
            seen.iter().filter(|(name, _)| name == cluster).map(|(_, phase)| *phase).collect();
        phases.dedup();
        phases
    }
}

#[tokio::test]
async fn running_comes_within_a_second_whatever_the_pods_do() {
    // No kubelet: no pod ever runs.
    let namespace = ApiServer::shared().await.namespace("second").await;
    let operator = Operator::start(&namespace, &Faults::recorder()).await;
    operator.wait_until_ready().await;
    let phases = Phases::watch(&namespace);
    let mut quickest = PATIENCE;
    for number in 0..5 {
        let name = format!("c{number}");
        namespace.create_object(&templates::cluster(&name, 3)).await;
        let start = Instant::now();
        phases.wait_for(&name, ClusterPhase::Running).await;
        quickest = quickest.min(start.elapsed());
    }
    // The other tests keep this machine busy; what the operator itself waits for would delay every one.
    assert!(quickest < Duration::from_secs(1), "the quickest took {quickest:?}");
}

#[tokio::test]
async fn running_is_never_left() {
    use ClusterPhase::{Created, Running};

    let mut world = World::start("never-left").await;
    let namespace = &world.namespace.clone();
    let phases = Phases::watch(namespace);
    namespace.create_object(&templates::cluster("c", 1)).await;
    phases.wait_for("c", Running).await;
    namespace.wait_for_ready_workers("c-default", 1).await;
    let old: Service = namespace.get("c-scheduler").await;
    namespace.delete::<Service>("c-scheduler").await;
    namespace.delete::<Deployment>("c-scheduler").await;
    for pod in namespace.list::<Pod>("").await {
        namespace.delete::<Pod>(&pod.name_any()).await;
    }
    wait_for("the Service is made again", async || {
        let service = namespace.find::<Service>("c-scheduler").await?;
        check(service.uid() != old.uid(), || "the old one".to_owned())
    })
    .await;
    world.operator.kill();
    let load_balancer = json!({"spec": {"scheduler": {"service": {"type": "LoadBalancer"}}}});
    namespace.patch::<DaskCluster>("c", load_balancer).await;
    world.restart_operator().await;
    namespace.wait_for_cluster_condition("c", "SchedulerReady", "WaitingForLoadBalancer").await;
    assert_eq!(phases.of("c"), [None, Some(Created), Some(Running)]);
}

#[tokio::test]
async fn a_load_balancer_is_pending_until_it_has_an_address() {
    use ClusterPhase::{Created, Pending, Running};

    let world = World::start("balancer").await;
    let namespace = &world.namespace;
    let phases = Phases::watch(namespace);
    let mut manifest = templates::cluster_json("c", 0);
    manifest["spec"]["scheduler"]["service"]["type"] = "LoadBalancer".into();
    namespace.create_object(&serde_json::from_value::<DaskCluster>(manifest).unwrap()).await;
    phases.wait_for("c", Pending).await;
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    let services = namespace.api::<Service>();
    services
        .patch_status("c-scheduler", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(address))
        .await
        .unwrap();
    phases.wait_for("c", Running).await;
    assert_eq!(phases.of("c"), [None, Some(Created), Some(Pending), Some(Running)]);
}

#[tokio::test]
async fn a_groups_number_is_the_clients() {
    let world = World::start("clients-number").await;
    let World { namespace, operator, .. } = &world;
    namespace.create_object(&templates::cluster("c", 1)).await;
    namespace.wait_for_ready_workers("c-default", 1).await;
    for replicas in [4, 0, 2] {
        namespace.scale_group("c-default", replicas).await;
        let group: DaskWorkerGroup = namespace.get("c-default").await;
        assert_eq!(group.spec.worker.replicas, replicas, "what was written is read back");
        namespace.wait_for_ready_workers("c-default", replicas).await;
    }
    let writes = operator
        .faults
        .writes()
        .into_iter()
        .filter(|call| call.verb == "patch" && call.is_about("daskworkergroups"));
    let rewrites: Vec<_> =
        writes.filter(|call| call.body.pointer("/spec/worker/replicas").is_some()).collect();
    assert!(rewrites.is_empty(), "{rewrites:?}");
}

#[tokio::test]
async fn only_a_change_of_the_clusters_number_reaches_the_group() {
    let mut world = World::start("handed-on").await;
    let namespace = &world.namespace.clone();
    namespace.create_object(&templates::cluster("c", 1)).await;
    namespace.wait_for_ready_workers("c-default", 1).await;
    namespace.scale_group("c-default", 4).await;
    namespace.wait_for_ready_workers("c-default", 4).await;

    let other_edit = json!({"metadata": {"labels": {"team": "a"}}, "spec": {"idleTimeout": 100}});
    namespace.patch::<DaskCluster>("c", other_edit).await;
    world.restart_operator().await;
    namespace.edit_cluster_replicas("c", 1).await;
    holds_for(Duration::from_secs(2), "the client's 4 stand", async || {
        let group = namespace.find::<DaskWorkerGroup>("c-default").await?;
        check(group.spec.worker.replicas == 4, || group.spec.worker.replicas.to_string())
    })
    .await;

    namespace.edit_cluster_replicas("c", 2).await;
    namespace.wait_for_ready_workers("c-default", 2).await;
}

#[tokio::test]
async fn a_cluster_of_the_python_operator_is_adopted_as_it_is() {
    let namespace = ApiServer::shared().await.namespace("adopted").await;
    let _kubelet = Kubelet::start(&namespace).await;
    // The operator is not there yet; the Python one had scaled the default group and not owned it.
    let cluster = namespace.create_object(&templates::cluster("c", 1)).await;
    let mut group = templates::group("c-default", "c", 3);
    let upstream = [(labels::CLUSTER_NAME, "c"), (labels::COMPONENT, labels::WORKER_GROUP)];
    group.labels_mut().extend(upstream.map(|(key, value)| (key.to_owned(), value.to_owned())));
    namespace.create_object(&group).await;

    let _operator = Operator::start(&namespace, &Faults::recorder()).await;
    namespace.wait_for_ready_workers("c-default", 3).await;
    let group: DaskWorkerGroup = namespace.get("c-default").await;
    assert_eq!(group.spec.worker.replicas, 3, "adopted, not enforced");
    assert_eq!(group.owner_references()[0].uid, cluster.uid().unwrap());
    namespace.edit_cluster_replicas("c", 2).await;
    namespace.wait_for_ready_workers("c-default", 2).await;
}

async fn finalizers<K: Object>(namespace: &Namespace) -> Vec<String> {
    namespace.list::<K>("").await.iter().flat_map(|object| object.finalizers().to_vec()).collect()
}

#[tokio::test]
async fn nothing_has_a_finalizer_of_ours() {
    let world = World::start("finalizers").await;
    let namespace = &world.namespace;
    namespace.create_object(&templates::cluster("c", 1)).await;
    namespace.create_object(&templates::group("c-extra", "c", 1)).await;
    namespace.wait_for_ready_workers("c-default", 1).await;
    namespace.wait_for_ready_workers("c-extra", 1).await;
    assert_eq!(finalizers::<DaskCluster>(namespace).await, [""; 0]);
    assert_eq!(finalizers::<DaskWorkerGroup>(namespace).await, [""; 0]);
    assert_eq!(finalizers::<Pod>(namespace).await, [""; 0]);
    assert_eq!(finalizers::<Service>(namespace).await, [""; 0]);
    assert_eq!(finalizers::<Deployment>(namespace).await, [""; 0]);
}

#[tokio::test]
async fn env_follows_the_users_in_containers_only() {
    let world = World::start("env").await;
    let namespace = &world.namespace;
    let mut manifest = templates::cluster_json("c", 1);
    let pod = &mut manifest["spec"]["worker"]["spec"];
    pod["initContainers"] =
        json!([{"name": "init", "image": "dask:test", "env": [{"name": "OWN", "value": "1"}]}]);
    pod["containers"][0]["env"] = json!([{"name": "FIRST", "value": "1"}, {"name": "SECOND", "value": "2"}]);
    let sidecar = json!({"name": "sidecar", "image": "dask:test", "env": [{"name": "DASK_SCHEDULER_ADDRESS", "value": "tcp://mine:1"}]});
    pod["containers"].as_array_mut().unwrap().push(sidecar);
    namespace.create_object(&serde_json::from_value::<DaskCluster>(manifest).unwrap()).await;
    let worker = namespace.wait_for_ready_workers("c-default", 1).await.remove(0);
    let name = worker.name_any();
    let spec = worker.spec.unwrap();
    let env = |container: &k8s_openapi::api::core::v1::Container| -> Vec<(String, String)> {
        let variables = container.env.iter().flatten();
        variables
            .map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default()))
            .collect()
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let address = format!("tcp://c-scheduler.{}.svc.cluster.local:8786", namespace.name);
    assert_eq!(
        env(&spec.containers[0]),
        pairs(&[
            ("FIRST", "1"),
            ("SECOND", "2"),
            ("DASK_WORKER_NAME", &name),
            ("DASK_SCHEDULER_ADDRESS", &address)
        ])
    );
    assert_eq!(
        env(&spec.containers[1]),
        pairs(&[("DASK_SCHEDULER_ADDRESS", "tcp://mine:1"), ("DASK_WORKER_NAME", &name)])
    );
    assert_eq!(env(&spec.init_containers.unwrap()[0]), pairs(&[("OWN", "1")]));
}

#[tokio::test]
async fn groups_of_users_are_owned_but_not_labelled() {
    let world = World::start("user-group").await;
    let namespace = &world.namespace;
    let cluster = namespace.create_object(&templates::cluster("c", 1)).await;
    namespace.create_object(&templates::group("c-extra", "c", 1)).await;
    namespace.wait_for_ready_workers("c-default", 1).await;
    namespace.wait_for_ready_workers("c-extra", 1).await;
    let extra: DaskWorkerGroup = namespace.get("c-extra").await;
    assert!(extra.labels().is_empty(), "{:?}", extra.labels());
    let owner = &extra.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("DaskCluster", cluster.uid().unwrap().as_str()));
    assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
    let listed: Vec<DaskWorkerGroup> = namespace.list(&format!("{}=c", labels::CLUSTER_NAME)).await;
    assert_eq!(listed.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["c-default"]);
}

#[tokio::test]
async fn one_deployment_one_service_and_one_pod_are_the_scheduler() {
    let world = World::start("one-scheduler").await;
    let namespace = &world.namespace;
    let mut cluster = templates::cluster("c", 2);
    cluster.labels_mut().insert("team".to_owned(), "a".to_owned());
    cluster.annotations_mut().insert("note".to_owned(), "x".to_owned());
    let wanted = cluster.spec.scheduler.service.clone();
    namespace.create_object(&cluster).await;
    namespace.wait_for_ready_workers("c-default", 2).await;
    namespace.wait_for_cluster_condition("c", "Ready", "AllReady").await;

    let selector = format!("{}=c,{}={}", labels::CLUSTER_NAME, labels::COMPONENT, labels::SCHEDULER);
    let deployments: Vec<Deployment> = namespace.list(&selector).await;
    let services: Vec<Service> = namespace.list(&selector).await;
    let pods: Vec<Pod> = namespace.list(&selector).await;
    assert_eq!((deployments.len(), services.len(), pods.len()), (1, 1, 1));
    let spec = deployments[0].spec.clone().unwrap();
    assert_eq!(spec.strategy.unwrap().type_.as_deref(), Some("Recreate"));
    assert_eq!(spec.replicas, Some(1));
    for meta in [deployments[0].meta(), services[0].meta()] {
        assert_eq!(meta.name.as_deref(), Some("c-scheduler"));
        assert_eq!(meta.labels.as_ref().unwrap()["team"], "a");
        assert_eq!(meta.annotations.as_ref().unwrap()["note"], "x");
        assert_eq!(meta.owner_references.as_ref().unwrap()[0].kind, "DaskCluster");
    }
    assert_eq!(deployments[0].labels()[labels::ISTIO_INJECT], "false");
    assert!(!services[0].labels().contains_key(labels::ISTIO_INJECT));
    assert!(pods[0].name_any().starts_with("c-scheduler-"));
    let service = services[0].spec.clone().unwrap();
    assert_eq!(
        (service.type_, service.selector),
        (wanted.type_, wanted.selector),
        "the Service is as written"
    );

    let all: Vec<Pod> = namespace.list(&format!("{}=c", labels::CLUSTER_NAME)).await;
    assert_eq!(all.len(), 3);
    for pod in all {
        let name = pod.name_any();
        assert!(
            name.contains("scheduler") || name.contains("worker"),
            "get_logs() looks for these words: {name}"
        );
    }
}
