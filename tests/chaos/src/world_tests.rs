use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use rstest::rstest;

use super::*;

fn pod(ready: &str, revision: u32) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "w"},
        "spec": {"containers": [{"name": "worker", "env": [{"name": REVISION, "value": revision.to_string()}]}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
    }))
    .unwrap()
}

fn marked() -> Pod {
    let mut pod = pod("True", 0);
    pod.annotations_mut().insert(dask_operator_api::labels::DRAIN.to_owned(), "{}".to_owned());
    pod
}

#[rstest]
#[case(&[pod("True", 0), pod("True", 0)], true)]
#[case(&[pod("True", 0)], false)]
#[case(&[pod("True", 0), pod("False", 0)], false)]
#[case(&[pod("True", 0), pod("True", 1)], false)]
#[case(&[pod("True", 0), marked()], false)]
#[case(&[pod("True", 0), pod("True", 0), pod("True", 0)], false)]
fn two_of_revision_0(#[case] pods: &[Pod], #[case] settled: bool) {
    assert_eq!(is_settled(pods, 2, 0), settled, "{}", describe(pods));
}

#[test]
fn no_workers_can_be_what_is_wanted() {
    assert!(is_settled(&[], 0, 3));
}

#[test]
fn a_worker_with_the_preload_drains_itself() {
    let mut pod = pod("True", 0);
    assert!(!drains_itself(&pod));
    let words = ["dask-worker", "--preload", "/opt/dask_operator_worker.py"].map(str::to_owned);
    pod.spec.as_mut().unwrap().containers[0].args = Some(words.into());
    assert!(drains_itself(&pod));
}

#[test]
fn the_manifests_are_valid() {
    let cluster: DaskCluster = serde_json::from_value(cluster(4)).unwrap();
    assert_eq!(cluster.spec.worker.replicas, 4);
    let group: DaskWorkerGroup = serde_json::from_value(second_group(3)).unwrap();
    assert_eq!((group.spec.cluster.as_str(), group.spec.worker.replicas), (CLUSTER, 3));
    assert_eq!(group.name_any(), group_name(Group::Second));
}
