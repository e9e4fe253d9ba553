//! The life of a cluster from creation to deletion, with an operator that may be killed at any moment.

use std::collections::BTreeMap;
use std::time::Duration;

use dask_operator_api::{ClusterPhase, DaskCluster, DaskWorkerGroup};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::fault::{Call, Faults, listed};
use crate::kubelet::Kubelet;
use crate::namespace::{Namespace, Object};
use crate::objects;
use crate::observer::Observer;
use crate::operator::{Launch, Operator};
use crate::templates;
use crate::wait::{check, holds_for, wait_for};

/// How long the second pass must stay silent.
const SILENCE: Duration = Duration::from_secs(1);

/// What a run of the scenario came to.
#[derive(Debug)]
pub struct Outcome {
    /// All objects before the deletion; see [`objects::comparable`].
    pub objects: BTreeMap<String, Value>,
    /// The writes of the operator that the faults were for.
    pub writes: Vec<Call>,
    /// How many requests were spoiled.
    pub spoiled: usize,
}

/// Runs the scenario in a namespace of its own, with an operator whose requests pass `faults`. When a planned crash
/// happens, another operator without faults takes its place.
pub async fn run(server: &ApiServer, name: &str, faults: &Faults) -> Outcome {
    let namespace = server.namespace(name).await;
    play(&namespace, &Launch::alone(&namespace).faults(faults)).await
}

/// The same in this namespace, with an operator that is launched so.
pub async fn play(namespace: &Namespace, launch: &Launch) -> Outcome {
    let faults = &launch.faults;
    let kubelet = Kubelet::start(namespace).await;
    let observer = Observer::start(namespace);
    let mut operator = Operator::launch(launch.clone()).await;
    let scenario = Scenario { namespace, observer: &observer, launch };

    let mut driver = Box::pin(scenario.until_converged());
    tokio::select! {
        () = &mut driver => {}
        () = faults.crashed() => {
            operator.kill();
            operator = Operator::launch(launch.clone().faults(&Faults::recorder())).await;
            driver.await;
        }
    }
    let objects = objects::comparable(namespace).await;
    operator.stop().await;
    operator = Box::pin(scenario.second_pass()).await;
    Box::pin(scenario.delete()).await;
    observer.assert_no_violation();
    drop(kubelet);
    operator.stop().await;
    Outcome { objects, writes: faults.writes(), spoiled: faults.spoiled() }
}

struct Scenario<'a> {
    namespace: &'a Namespace,
    observer: &'a Observer,
    launch: &'a Launch,
}

impl Scenario<'_> {
    /// Create, scale 0 → 5 → 2, edit, add a group, scale by `kubectl scale` both ways.
    async fn until_converged(&self) {
        let namespace = self.namespace;
        namespace.create_object(&templates::cluster("sim", 0)).await;
        wait_for("the cluster runs", async || {
            let cluster = namespace.find::<DaskCluster>("sim").await?;
            let phase = cluster.status.as_ref().and_then(|status| status.phase);
            check(phase == Some(ClusterPhase::Running), || format!("{:?}", cluster.status))?;
            namespace.find::<Service>("sim-scheduler").await?;
            namespace.find::<Deployment>("sim-scheduler").await?;
            namespace.find::<DaskWorkerGroup>("sim-default").await
        })
        .await;

        for replicas in [5, 2] {
            self.observer.allow("sim-default", replicas);
            namespace.scale_group("sim-default", replicas).await;
            self.settled("sim-default", replicas).await;
        }

        self.observer.allow("sim-default", 3);
        namespace.edit_cluster_replicas("sim", 3).await;
        self.settled("sim-default", 3).await;

        self.edit_service().await;

        self.observer.allow("sim-extra", 2);
        namespace.create_object(&templates::group("sim-extra", "sim", 2)).await;
        self.settled("sim-extra", 2).await;

        self.observer.allow("sim-default", 4);
        namespace.kubectl_scale::<DaskCluster>("sim", 4).await;
        self.settled("sim-default", 4).await;
        namespace.kubectl_scale::<DaskWorkerGroup>("sim-extra", 1).await;
        self.settled("sim-extra", 1).await;

        wait_for("all is ready, and the status says so", async || {
            let cluster = namespace.find::<DaskCluster>("sim").await?;
            let status = cluster.status.clone().unwrap_or_default();
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
            let settled = ready.is_some_and(|ready| ready.status == "True" && ready.reason == "AllReady")
                && status.ready.as_deref() == Some("5/5")
                && status.groups.iter().all(|group| group.terminating == 0 && group.draining == 0)
                && status.observed_generation == cluster.metadata.generation;
            check(settled, || format!("{status:?}"))?;
            for group in namespace.list::<DaskWorkerGroup>("").await {
                let status = group.status.clone().unwrap_or_default();
                let scaling = status.conditions.iter().find(|condition| condition.type_ == "Scaling");
                let at_rest = scaling.is_some_and(|scaling| scaling.reason == "AtDesiredSize");
                check(at_rest, || format!("{}: {status:?}", group.name_any()))?;
            }
            let orphans = objects::orphans(namespace).await;
            check(orphans.is_empty(), || format!("orphans: {orphans:?}"))
        })
        .await;
    }

    async fn edit_service(&self) {
        let mut edited = templates::cluster_json("sim", 0)["spec"]["scheduler"]["service"].clone();
        edited["type"] = "NodePort".into();
        let extra = json!({"name": "extra", "port": 9000, "targetPort": 9000});
        edited["ports"].as_array_mut().expect("a list").push(extra);
        self.namespace.patch::<DaskCluster>("sim", json!({"spec": {"scheduler": {"service": edited}}})).await;
        wait_for("the Service is as edited", async || {
            let service = self.namespace.find::<Service>("sim-scheduler").await?;
            let spec = service.spec.unwrap_or_default();
            let ports: Vec<_> = spec.ports.iter().flatten().filter_map(|port| port.name.as_deref()).collect();
            let edited =
                spec.type_.as_deref() == Some("NodePort") && ports == ["tcp-comm", "http-dashboard", "extra"];
            check(edited, || format!("{:?} {ports:?}", spec.type_))
        })
        .await;
    }

    async fn settled(&self, group: &str, workers: i32) {
        self.namespace.wait_for_ready_workers(group, workers).await;
        self.observer.settle(group, workers).await;
    }

    /// A new operator looks at everything, also when it is woken, and finds nothing to write.
    async fn second_pass(&self) -> Operator {
        let faults = Faults::recorder();
        let operator = Operator::launch(self.launch.clone().faults(&faults)).await;
        operator.wait_until_ready().await;
        for group in ["sim-default", "sim-extra"] {
            self.touch::<DaskWorkerGroup>(group).await;
        }
        self.touch::<DaskCluster>("sim").await;
        holds_for(SILENCE, "the second pass writes nothing", async || {
            let mut writes = faults.writes();
            writes.retain(|call| call.is_in(&self.namespace.name));
            check(writes.is_empty(), || listed(&writes))
        })
        .await;
        let reconciles = operator.metric("dask_operator_reconciles_total", "outcome=\"success\"").await;
        assert!(reconciles >= 3.0, "the objects were looked at: {}", operator.metrics().await);
        operator
    }

    async fn touch<K: Object>(&self, name: &str) {
        let patch = json!({"metadata": {"annotations": {"kubectl.kubernetes.io/touched": "true"}}});
        self.namespace.patch::<K>(name, patch).await;
    }

    /// Deletion leaves nothing.
    async fn delete(&self) {
        self.namespace.delete::<DaskCluster>("sim").await;
        wait_for("everything is gone", async || {
            let pods = self.namespace.list::<Pod>("").await;
            let groups = self.namespace.list::<DaskWorkerGroup>("").await;
            let services = self.namespace.list::<Service>("").await;
            let deployments = self.namespace.list::<Deployment>("").await;
            let left = pods.iter().map(ResourceExt::name_any).chain(groups.iter().map(ResourceExt::name_any));
            let left = left.chain(services.iter().map(ResourceExt::name_any));
            let left: Vec<_> = left.chain(deployments.iter().map(ResourceExt::name_any)).collect();
            check(left.is_empty(), || format!("{left:?}"))
        })
        .await;
    }
}
