//! Workers that are ready in Kubernetes' eyes, and of which the scheduler knows nothing.

use std::sync::Arc;

use dask_operator::cluster_cache::snapshot::{ClusterSnapshot, GroupMembers};
use dask_operator::scheduler_link::LinkView;
use dask_operator_api::DaskWorkerGroup;
use integration_tests::dask::{Dask, set_ip};
use integration_tests::kubelet::wait_until_running;
use integration_tests::link::{obliging, unreachable};
use integration_tests::operator::Launch;
use integration_tests::wait::check;
use integration_tests::{
    ApiServer, Kubelet, Namespace, Operator, World, templates, wait_for, wait_until_quiet,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

const GROUP: &str = "c-default";

/// Lets the pod be ready since some minutes ago.
async fn backdate(namespace: &Namespace, pod: &Pod) {
    let then = (Timestamp::now() - SignedDuration::from_mins(5)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": then});
    let patch = Patch::Strategic(json!({"status": {"conditions": [ready]}}));
    let pods: Api<Pod> = namespace.api();
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await.unwrap();
}

/// A scheduler that knows no worker of the first pods of the cluster, as many as this.
fn misses(cluster: &ClusterSnapshot, count: usize) -> LinkView {
    let mut view = obliging(cluster);
    let pods = cluster.groups.iter().flat_map(GroupMembers::pods).take(count);
    if let Some(sample) = &mut view.sample {
        Arc::make_mut(sample).absent = Some(pods.map(|pod| pod.uid.clone()).collect());
    }
    view
}

async fn warnings(namespace: &Namespace) -> usize {
    let events = namespace.events_about(GROUP).await;
    events.iter().filter(|event| event.reason.as_deref() == Some("WorkersNotJoined")).count()
}

#[tokio::test]
async fn workers_that_never_join_are_named_until_they_do() {
    let mut world = World::with_cluster("not-joined", 2).await;
    let namespace = &world.namespace.clone();
    let before = namespace.workers(GROUP).await;
    world.link.say(|cluster| misses(cluster, 2));
    for pod in &before {
        backdate(namespace, pod).await;
    }
    wait_for("both are named", async || {
        let group = namespace.find::<DaskWorkerGroup>(GROUP).await?;
        let conditions = group.status.unwrap_or_default().conditions;
        let told = conditions.iter().find(|c| c.type_ == "WorkersReady" && c.reason == "WorkersNotJoined");
        let words = |pod: &Pod| format!("no worker of 2 of them, such as \"{}\"", pod.name_any());
        let named = told.is_some_and(|told| {
            told.status == "False" && before.iter().any(|pod| told.message.contains(&words(pod)))
        });
        check(named, || format!("{conditions:?}"))
    })
    .await;
    let summary = namespace.wait_for_cluster_condition("c", "Ready", "WorkersNotJoined").await;
    assert!(summary.message.contains("DASK_SCHEDULER_ADDRESS"), "{}", summary.message);
    namespace.wait_for_event(GROUP, "WorkersNotJoined").await;

    // A new operator that does not hear the scheduler at first knows nothing better, and says nothing twice.
    wait_until_quiet(&world.operator.faults).await;
    world.link.say(|_| LinkView::default());
    world.restart_operator().await;
    wait_until_quiet(&world.operator.faults).await;
    let changes = || world.operator.faults.write_count();
    let quiet = changes();
    world.link.say(|cluster| misses(cluster, 2));
    wait_until_quiet(&world.operator.faults).await;
    assert_eq!(changes(), quiet, "what is known already is not written again");
    namespace.wait_for_group_reason(GROUP, "WorkersNotJoined").await;
    assert_eq!(warnings(namespace).await, 1);

    // Silence is no news either, for a while; long silence is.
    world.link.say(|_| unreachable());
    namespace.wait_for_group_reason(GROUP, "AllReady").await;
    world.link.say(obliging);
    namespace.wait_for_cluster_condition("c", "Ready", "AllReady").await;
    let uids = |pods: &[Pod]| pods.iter().map(ResourceExt::uid).collect::<Vec<_>>();
    assert_eq!(uids(&namespace.workers(GROUP).await), uids(&before), "nothing was done to them");
    world.observer.assert_no_violation();
}

/// With a real scheduler, whose list of workers is asked for because of their number.
#[tokio::test]
async fn workers_that_never_join_are_missed_by_their_scheduler() {
    let mut dask = Dask::new().await;
    dask.start_scheduler().await;
    let namespace = ApiServer::shared().await.namespace("never-joined").await;
    let _kubelet = Kubelet::start(&namespace).await;
    let arguments = ["--leader-elect=false", "--scheduler-access=direct"];
    let _operator = Operator::launch(Launch::with_arguments(&namespace, &arguments)).await;
    namespace.create_object(&templates::cluster("c", 2)).await;
    let pods = namespace.wait_for_ready_workers(GROUP, 2).await;
    let schedulers = wait_for("the scheduler's pod is there", async || {
        let pods = namespace.list::<Pod>("dask.org/component=scheduler").await;
        check(pods.len() == 1, || format!("{} pods", pods.len())).map(|()| pods)
    })
    .await;
    let scheduler = wait_until_running(&namespace, &schedulers[0].name_any()).await;
    set_ip(&namespace, &scheduler, dask.scheduler_ip()).await;
    let join = async |dask: &mut Dask, pod: &Pod| {
        let worker = dask.start_worker(&pod.name_any());
        set_ip(&namespace, pod, worker.ip).await;
        worker
    };
    let _one = join(&mut dask, &pods[0]).await;
    for pod in &pods {
        backdate(&namespace, pod).await;
    }
    let told = namespace.wait_for_group_reason(GROUP, "WorkersNotJoined").await;
    let words = format!("no worker of 1 of them, such as \"{}\"", pods[1].name_any());
    assert!(told.message.contains(&words), "{}", told.message);
    let _other = join(&mut dask, &pods[1]).await;
    namespace.wait_for_group_reason(GROUP, "AllReady").await;
    assert_eq!(warnings(&namespace).await, 1);
}
