use kube::ResourceExt;
use serde_json::{Value, json};

use super::*;
use crate::cluster_cache::records::PodState;
use crate::cluster_cache::wire_pod::WirePod;

/// An index whose watches all stand at version 1 and see nothing.
fn index() -> Index {
    let mut index = Index::default();
    index.clusters.add_watch(None);
    index.groups.add_watch(None);
    index.jobs.add_watch(None);
    index.autoscalers.add_watch(None);
    index.pods.add_watch(None);
    index.services.add_watch(None);
    index.deployments.add_watch(None);
    assert!(!index.is_ready());
    list_nothing(&mut index, 1);
    assert!(index.is_ready());
    index
}

fn list_nothing(index: &mut Index, version: u64) -> Wakes {
    let mut wakes = Wakes::default();
    index.deliver_cluster(0, Delivery::ListBegins, &mut wakes);
    index.deliver_cluster(0, Delivery::ListEnds(version), &mut wakes);
    index.deliver_group(0, Delivery::ListBegins, &mut wakes);
    index.deliver_group(0, Delivery::ListEnds(version), &mut wakes);
    index.deliver_job(0, Delivery::ListBegins, &mut wakes);
    index.deliver_job(0, Delivery::ListEnds(version), &mut wakes);
    index.deliver_autoscaler(0, Delivery::ListBegins, &mut wakes);
    index.deliver_autoscaler(0, Delivery::ListEnds(version), &mut wakes);
    index.deliver_pod(0, Delivery::ListBegins, &mut wakes);
    index.deliver_pod(0, Delivery::ListEnds(version), &mut wakes);
    index.deliver_service(0, Delivery::ListBegins, &mut wakes);
    index.deliver_service(0, Delivery::ListEnds(version), &mut wakes);
    index.deliver_deployment(0, Delivery::ListBegins, &mut wakes);
    index.deliver_deployment(0, Delivery::ListEnds(version), &mut wakes);
    wakes
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("ns", name)
}

fn wakes(clusters: &[&str], groups: &[&str]) -> Wakes {
    let keys = |names: &[&str]| names.iter().map(|name| key(name)).collect();
    Wakes { clusters: keys(clusters), groups: keys(groups), ..Wakes::default() }
}

fn metadata(name: &str, version: u64) -> Value {
    json!({"name": name, "namespace": "ns", "uid": format!("{name}-uid"), "resourceVersion": version.to_string()})
}

fn cluster(name: &str, version: u64) -> DaskCluster {
    serde_json::from_value(json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "metadata": metadata(name, version),
        "spec": {"scheduler": {"spec": {"containers": []}, "service": {}}, "worker": {"spec": {"containers": []}}},
    }))
    .unwrap()
}

fn group(name: &str, cluster: &str, version: u64) -> DaskWorkerGroup {
    serde_json::from_value(json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup", "metadata": metadata(name, version),
        "spec": {"cluster": cluster, "worker": {"spec": {"containers": []}}},
    }))
    .unwrap()
}

fn wire_pod(name: &str, labels: &Value, owner: &str, version: u64) -> WirePod {
    let mut metadata = metadata(name, version);
    metadata["labels"] = labels.clone();
    metadata["annotations"] = json!({"kubernetes.dask.org/ordinal": name.trim_start_matches("w-")});
    metadata["ownerReferences"] = json!([{"uid": owner, "controller": true}]);
    serde_json::from_value(json!({"metadata": metadata})).unwrap()
}

/// A worker of group `g` of cluster `c`.
fn worker(name: &str, version: u64) -> WirePod {
    let labels = json!({"dask.org/cluster-name": "c", "dask.org/workergroup-name": "g", "dask.org/component": "worker"});
    wire_pod(name, &labels, "g-uid", version)
}

impl Index {
    fn see_cluster(&mut self, cluster: DaskCluster) -> Wakes {
        let (mut wakes, version) = (Wakes::default(), version(&cluster));
        let applied = Delivery::Applied(ObjectKey::of(&cluster), Some(Arc::new(cluster)), version);
        self.deliver_cluster(0, applied, &mut wakes);
        wakes
    }

    fn see_group(&mut self, group: DaskWorkerGroup) -> Wakes {
        let (mut wakes, version) = (Wakes::default(), version(&group));
        self.deliver_group(
            0,
            Delivery::Applied(ObjectKey::of(&group), Some(Arc::new(group)), version),
            &mut wakes,
        );
        wakes
    }

    fn see_pod(&mut self, pod: &WirePod) -> Wakes {
        let mut wakes = Wakes::default();
        let entry = PodEntry::new(pod, &mut self.strings);
        let applied =
            Delivery::Applied(key(pod.metadata.name()), Some(entry), pod.metadata.resource_version());
        self.deliver_pod(0, applied, &mut wakes);
        wakes
    }

    fn lose_pod(&mut self, name: &str, version: u64) -> Wakes {
        let mut wakes = Wakes::default();
        self.deliver_pod(0, Delivery::Deleted(key(name), format!("{name}-uid").into(), version), &mut wakes);
        wakes
    }

    fn workers(&self, group: &str) -> Vec<(String, PodState)> {
        let snapshot = self.group_snapshot(&key(group)).unwrap();
        snapshot.members.workers.iter().map(|pod| (pod.name.to_string(), pod.state)).collect()
    }
}

fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().unwrap().parse().unwrap()
}

/// Cluster `c` with group `g`.
fn with_cluster_and_group() -> Index {
    let mut index = index();
    index.see_cluster(cluster("c", 2));
    index.see_group(group("g", "c", 3));
    index
}

#[test]
fn snapshots_show_what_belongs_together() {
    let mut index = with_cluster_and_group();
    index.see_group(group("c-default", "c", 4));
    index.see_group(group("stranger", "other", 5));
    index.see_pod(&worker("w-2", 6));
    index.see_pod(&worker("w-1", 7));
    let scheduler = json!({"dask.org/cluster-name": "c", "dask.org/component": "scheduler"});
    index.see_pod(&wire_pod("c-scheduler-x", &scheduler, "replicaset-uid", 8));
    let service = json!({"metadata": metadata("c-scheduler", 9), "spec": {}});
    let service =
        ServiceRecord::from(serde_json::from_value::<k8s_openapi::api::core::v1::Service>(service).unwrap());
    let applied = Delivery::Applied(key("c-scheduler"), Some(Arc::new(service)), 9);
    let mut woken = Wakes::default();
    index.deliver_service(0, applied, &mut woken);
    assert_eq!(woken, wakes(&["c"], &[]));

    let snapshot = index.cluster_snapshot(&key("c")).unwrap();
    assert_eq!(snapshot.cluster.name_any(), "c");
    assert_eq!(snapshot.service.unwrap().name, "c-scheduler");
    assert!(snapshot.deployment.is_none());
    assert_eq!(snapshot.scheduler_pods.iter().map(|pod| &*pod.name).collect::<Vec<_>>(), ["c-scheduler-x"]);
    let groups: Vec<_> = snapshot.groups.iter().map(|m| (m.group.name_any(), m.workers.len())).collect();
    assert_eq!(groups, [("c-default".to_owned(), 0), ("g".to_owned(), 2)]);
    assert_eq!(snapshot.default_group.unwrap().name_any(), "c-default");

    let snapshot = index.group_snapshot(&key("g")).unwrap();
    assert_eq!(snapshot.cluster.unwrap().name_any(), "c");
    assert_eq!(snapshot.members.workers.iter().map(|pod| &*pod.name).collect::<Vec<_>>(), ["w-1", "w-2"]);
    assert_eq!(snapshot.members.workers[0].ordinal, Some(1));
    assert!(index.cluster_snapshot(&key("none")).is_none() && index.group_snapshot(&key("none")).is_none());
}

#[test]
fn groups_are_woken_when_their_scheduler_gets_a_pod() {
    let mut index = index();
    let mut woken = Wakes::default();
    index.deliver_cluster(0, Delivery::Applied(key("c"), Some(Arc::new(cluster("c", 2))), 2), &mut woken);
    for (name, of) in [("c-default", "c"), ("extra", "c"), ("other", "d")] {
        let applied = Delivery::Applied(key(name), Some(Arc::new(group(name, of, 2))), 2);
        index.deliver_group(0, applied, &mut woken);
    }
    let labels = json!({"dask.org/cluster-name": "c", "dask.org/component": "scheduler"});
    let pod = |version, status: Value| {
        let mut pod = wire_pod("c-scheduler-x", &labels, "replicaset-uid", version);
        pod.status = serde_json::from_value(status).unwrap();
        pod
    };
    assert_eq!(index.see_pod(&pod(8, json!({}))), wakes(&["c"], &["c-default", "extra"]));
    let started = json!({"phase": "Running", "podIP": "10.0.0.1"});
    assert_eq!(index.see_pod(&pod(9, started)), wakes(&["c"], &[]));
    let evicted = json!({"phase": "Failed", "reason": "Evicted"});
    assert_eq!(index.see_pod(&pod(10, evicted)), wakes(&["c"], &[]));
}

#[test]
fn a_pod_belongs_to_its_controller_whatever_its_labels_say() {
    let mut index = with_cluster_and_group();
    index.see_group(group("other", "c", 4));
    let labels = json!({"dask.org/cluster-name": "c", "dask.org/workergroup-name": "other"});
    let woken = index.see_pod(&wire_pod("w-1", &labels, "g-uid", 5));
    assert_eq!((index.workers("g").len(), index.workers("other").len()), (1, 0));
    assert_eq!(woken, wakes(&["c"], &["g", "other"]), "those by label and by owner look");

    let woken = index.see_pod(&wire_pod("w-1", &json!({"dask.org/cluster-name": "c"}), "somebody", 6));
    assert_eq!(index.workers("g").len(), 0, "it was given to somebody else");
    assert_eq!(woken, wakes(&["c"], &["g", "other"]));
}

#[test]
fn pods_wake_their_group_and_cluster() {
    let mut index = with_cluster_and_group();
    assert_eq!(index.see_pod(&worker("w-1", 5)), wakes(&["c"], &["g"]));
    assert_eq!(index.see_pod(&worker("w-1", 6)), wakes(&[], &[]), "nothing that is read has changed");
    let mut running = worker("w-1", 7);
    running.status.phase = Some("Running".to_owned());
    assert_eq!(index.see_pod(&running), wakes(&["c"], &["g"]));
    assert_eq!(index.lose_pod("w-1", 8), wakes(&["c"], &["g"]));
    assert_eq!(index.workers("g"), []);
}

#[test]
fn pods_of_the_unknown_wake_nobody_until_their_group_comes() {
    let mut index = index();
    assert_eq!(index.see_pod(&worker("w-1", 2)), wakes(&[], &[]));
    assert_eq!(index.see_group(group("g", "c", 3)), wakes(&[], &["g"]));
    assert_eq!(index.workers("g").len(), 1);
}

#[test]
fn a_cluster_wakes_its_groups_when_it_comes_goes_or_is_edited() {
    let mut index = index();
    index.see_group(group("g", "c", 2));
    assert_eq!(index.see_cluster(cluster("c", 3)), wakes(&["c"], &["g"]));

    let mut with_status = cluster("c", 4);
    with_status.status = Some(dask_operator_api::DaskClusterStatus::default());
    assert_eq!(index.see_cluster(with_status), wakes(&["c"], &[]), "its status is none of theirs");

    let mut edited = cluster("c", 5);
    edited.metadata.generation = Some(2);
    assert_eq!(index.see_cluster(edited), wakes(&["c"], &["g"]));

    let mut woken = Wakes::default();
    index.deliver_cluster(0, Delivery::Deleted(key("c"), "c-uid".into(), 6), &mut woken);
    assert_eq!(woken, wakes(&["c"], &["g"]), "its own key, so that what was kept for it is dropped");
    assert!(index.group_snapshot(&key("g")).unwrap().cluster.is_none());
}

#[test]
fn a_group_wakes_the_clusters_it_joins_and_leaves() {
    let mut index = index();
    index.see_cluster(cluster("a", 2));
    index.see_cluster(cluster("b", 3));
    assert_eq!(index.see_group(group("g", "a", 4)), wakes(&["a"], &["g"]));
    assert_eq!(index.see_group(group("g", "b", 5)), wakes(&["a", "b"], &["g"]));
    assert!(index.cluster_snapshot(&key("a")).unwrap().groups.is_empty());
    assert_eq!(
        index.see_group(group("a-default", "b", 6)),
        wakes(&["a", "b"], &["a-default"]),
        "it took a's name"
    );

    let mut woken = Wakes::default();
    index.deliver_group(0, Delivery::Deleted(key("g"), "g-uid".into(), 7), &mut woken);
    assert_eq!(woken, wakes(&["b"], &["g"]));
}

#[test]
fn deletions_in_a_gap_wake_like_others() {
    let mut index = with_cluster_and_group();
    index.see_pod(&worker("w-1", 5));
    let mut woken = Wakes::default();
    index.deliver_pod(0, Delivery::ListBegins, &mut woken);
    index.deliver_pod(0, Delivery::ListEnds(9), &mut woken);
    assert_eq!(woken, wakes(&["c"], &["g"]));
    assert_eq!(list_nothing(&mut index, 10), wakes(&["c"], &["g"]));
}

#[test]
fn a_deleted_pod_is_on_its_way_whatever_is_shown_later() {
    let mut index = with_cluster_and_group();
    index.see_pod(&worker("w-1", 5));
    let mut woken = Wakes::default();
    let change = index.pods.deleted(&key("w-1"), "w-1-uid");
    index.pods_changed(change, &mut woken);
    assert_eq!(woken, wakes(&["c"], &["g"]));

    let mut late = worker("w-1", 6);
    late.status.phase = Some("Running".to_owned());
    index.see_pod(&late);
    assert_eq!(index.workers("g"), [("w-1".to_owned(), PodState::Terminating)]);
    index.lose_pod("w-1", 7);
    assert_eq!(index.workers("g"), []);

    let mut again = worker("w-1", 8);
    again.metadata.object.uid = Some("second".to_owned());
    index.see_pod(&again);
    assert_eq!(
        index.workers("g"),
        [("w-1".to_owned(), PodState::Pending)],
        "a new pod of that name is another pod"
    );
    assert!(index.pods.deleted(&key("w-1"), "w-1-uid").is_none());
}

#[test]
fn unanswered_creations_are_remembered_until_the_pod_or_an_answer_comes() {
    let mut index = with_cluster_and_group();
    let unanswered = |index: &Index| -> Vec<i64> {
        index.group_snapshot(&key("g")).unwrap().unanswered.into_iter().collect()
    };
    for ordinal in [1, 2, 3] {
        index.unanswered(&key("g"), ordinal);
    }
    assert_eq!(unanswered(&index), [1, 2, 3]);
    index.answered(&key("g"), 2);
    index.see_pod(&worker("w-1", 5));
    assert_eq!(unanswered(&index), [3]);

    let mut replaced = group("g", "c", 6);
    replaced.metadata.uid = Some("second".to_owned());
    index.see_group(replaced);
    assert_eq!(unanswered(&index), [0_i64; 0], "a new group of that name starts afresh");
    index.unanswered(&key("none"), 1);
    assert!(index.unanswered.is_empty(), "nothing is kept for a group that is gone");
}

#[test]
fn everything_can_be_woken() {
    let index = with_cluster_and_group();
    assert_eq!(index.everything(), wakes(&["c"], &["g"]));
}

#[test]
fn what_is_gone_leaves_nothing_behind() {
    let mut index = with_cluster_and_group();
    index.see_pod(&worker("w-1", 5));
    let change = index.pods.deleted(&key("w-1"), "w-1-uid");
    index.pods_changed(change, &mut Wakes::default());
    index.unanswered(&key("g"), 9);
    list_nothing(&mut index, 20);
    assert!(index.pods.is_empty());
    assert!(
        index.groups_by_cluster.is_empty() && index.groups_by_uid.is_empty() && index.unanswered.is_empty()
    );
}

fn job(name: &str, version: u64) -> DaskJob {
    serde_json::from_value(json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskJob", "metadata": metadata(name, version),
        "spec": {
            "cluster": {"spec": cluster(name, version).spec},
            "job": {"spec": {"containers": []}},
        },
    }))
    .unwrap()
}

fn autoscaler(name: &str, cluster: &str, version: u64) -> DaskAutoscaler {
    serde_json::from_value(json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskAutoscaler", "metadata": metadata(name, version),
        "spec": {"cluster": cluster, "minimum": 0, "maximum": 1},
    }))
    .unwrap()
}

/// The runner of job `j`, which belongs to the job with this UID.
fn runner_pod(owner: &str, phase: &str, version: u64) -> WirePod {
    runner_pod_of(owner, "j-runner-uid", phase, version)
}

fn runner_pod_of(owner: &str, uid: &str, phase: &str, version: u64) -> WirePod {
    let labels = json!({"dask.org/cluster-name": "j", "dask.org/component": "job-runner"});
    let mut metadata = metadata("j-runner", version);
    metadata["uid"] = json!(uid);
    metadata["labels"] = labels;
    metadata["ownerReferences"] = json!([{"uid": owner, "controller": true}]);
    let status = json!({"phase": phase, "startTime": "2026-01-01T00:00:00Z"});
    serde_json::from_value(json!({"metadata": metadata, "status": status})).unwrap()
}

impl Index {
    fn see_job(&mut self, job: Option<DaskJob>, version: u64) -> Wakes {
        let mut wakes = Wakes::default();
        let delivery = match job {
            Some(job) => Delivery::Applied(ObjectKey::of(&job), Some(Arc::new(job)), version),
            None => Delivery::Deleted(key("j"), "j-uid".into(), version),
        };
        self.deliver_job(0, delivery, &mut wakes);
        wakes
    }

    fn see_autoscaler(&mut self, autoscaler: DaskAutoscaler, version: u64) -> Wakes {
        let mut wakes = Wakes::default();
        let applied = Delivery::Applied(ObjectKey::of(&autoscaler), Some(Arc::new(autoscaler)), version);
        self.deliver_autoscaler(0, applied, &mut wakes);
        wakes
    }
}

fn woken(wakes: &Wakes) -> (Vec<&str>, Vec<&str>) {
    (
        wakes.jobs.iter().map(|key| &*key.name).collect(),
        wakes.autoscalers.iter().map(|key| &*key.name).collect(),
    )
}

#[test]
fn a_job_is_woken_by_its_cluster_and_its_runner() {
    let mut index = index();
    assert_eq!(woken(&index.see_job(Some(job("j", 2)), 2)).0, ["j"]);
    assert_eq!(woken(&index.see_cluster(cluster("j", 3))).0, ["j"]);
    assert_eq!(woken(&index.see_cluster(cluster("other", 4))).0, [""; 0]);
    assert_eq!(woken(&index.see_pod(&runner_pod("j-uid", "Pending", 5))).0, ["j"]);
    let snapshot = index.job_snapshot(&key("j")).unwrap();
    assert!(snapshot.cluster.is_some() && snapshot.last_run.is_none());
    assert_eq!(&*snapshot.runner.unwrap().name, "j-runner");
    assert_eq!(
        index.cluster_snapshot(&key("j")).unwrap().runner.unwrap().owner_uid.as_deref(),
        Some("j-uid")
    );
    assert_eq!(woken(&index.lose_pod("j-runner", 6)).0, ["j"]);
    assert!(index.job_snapshot(&key("j")).unwrap().runner.is_none());
}

#[test]
fn workers_of_a_job_are_woken_when_its_runner_exists_or_is_not_needed() {
    let mut index = index();
    index.see_cluster(cluster("j", 2));
    index.see_group(group("j-default", "j", 3));
    let groups = |wakes: Wakes| wakes.groups.into_iter().map(|key| key.to_string()).collect::<Vec<_>>();
    assert_eq!(groups(index.see_pod(&runner_pod("j-uid", "Pending", 4))), ["ns/j-default"]);
    assert_eq!(groups(index.see_pod(&runner_pod("j-uid", "Running", 5))), [""; 0]);
    assert!(index.group_snapshot(&key("j-default")).unwrap().runner.is_some());
    // A list may show the next one without the end of the last.
    let next = runner_pod_of("other-uid", "next-uid", "Pending", 6);
    assert_eq!(groups(index.see_pod(&next)), ["ns/j-default"]);
    let mut disowned = cluster("j", 7);
    disowned.metadata.owner_references = Some(vec![]);
    assert_eq!(groups(index.see_cluster(disowned)), ["ns/j-default"]);
}

#[test]
fn a_run_is_remembered_until_its_job_goes() {
    let mut index = index();
    index.see_job(Some(job("j", 2)), 2);
    index.see_pod(&runner_pod("j-uid", "Running", 3));
    index.see_pod(&runner_pod("j-uid", "Succeeded", 4));
    index.lose_pod("j-runner", 5);
    let last_run = index.job_snapshot(&key("j")).unwrap().last_run.unwrap();
    assert!(last_run.phase.is_final());
    index.see_job(None, 6);
    assert!(index.last_runs.is_empty());
}

#[test]
fn a_run_of_somebody_else_is_not_remembered() {
    let mut index = index();
    index.see_pod(&runner_pod("earlier-uid", "Running", 2));
    index.see_job(Some(job("j", 3)), 3);
    index.see_pod(&runner_pod("earlier-uid", "Succeeded", 4));
    let snapshot = index.job_snapshot(&key("j")).unwrap();
    assert!(snapshot.runner.is_some() && snapshot.last_run.is_none());
}

#[test]
fn a_run_that_was_seen_before_its_job_counts() {
    let mut index = index();
    index.see_pod(&runner_pod("j-uid", "Running", 2));
    index.see_job(Some(job("j", 3)), 3);
    index.lose_pod("j-runner", 4);
    assert!(index.job_snapshot(&key("j")).unwrap().last_run.is_some());
}

#[test]
fn an_autoscaler_is_woken_by_cluster_and_group_and_the_cluster_knows_of_it() {
    let mut index = index();
    assert_eq!(woken(&index.see_autoscaler(autoscaler("a", "c", 2), 2)).1, ["a"]);
    assert_eq!(woken(&index.see_cluster(cluster("c", 3))).1, ["a"]);
    assert!(index.cluster_snapshot(&key("c")).unwrap().has_autoscaler);
    assert_eq!(woken(&index.see_group(group("c-default", "c", 4))).1, ["a"]);
    assert_eq!(woken(&index.see_group(group("c-default", "c", 5))).1, [""; 0], "no other number of workers");
    assert_eq!(woken(&index.see_group(group("c-extra", "c", 6))).1, [""; 0]);
    let snapshot = index.autoscaler_snapshot(&key("a")).unwrap();
    assert!(snapshot.cluster.is_some() && snapshot.group.is_some());

    let wakes = index.see_autoscaler(autoscaler("a", "d", 7), 7);
    assert_eq!(wakes.clusters, [key("c")].into(), "it is not asked for any more");
    assert!(!index.cluster_snapshot(&key("c")).unwrap().has_autoscaler);
    assert!(index.autoscaler_snapshot(&key("a")).unwrap().cluster.is_none());
    assert_eq!(index.autoscalers_of(&key("d")).collect::<Vec<_>>(), [key("a")]);
}

#[test]
fn autoscalers_of_one_cluster_know_and_wake_each_other() {
    let mut index = index();
    index.see_cluster(cluster("c", 2));
    index.see_autoscaler(autoscaler("a", "c", 3), 3);
    assert_eq!(woken(&index.see_autoscaler(autoscaler("b", "c", 4), 4)).1, ["a", "b"]);
    let others = index.autoscaler_snapshot(&key("a")).unwrap().others;
    assert_eq!(others.iter().map(|other| other.metadata.name.as_deref()).collect::<Vec<_>>(), [Some("b")]);
    assert_eq!(woken(&index.see_autoscaler(autoscaler("b", "d", 5), 5)).1, ["a", "b"], "it went elsewhere");
    assert!(index.autoscaler_snapshot(&key("a")).unwrap().others.is_empty());
}
