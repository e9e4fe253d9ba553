//! Tools that stamp labels or annotations on clusters and groups again and again cost no write to each worker.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use integration_tests::wait::check;
use integration_tests::{World, holds_for, wait_for};
use kube::ResourceExt;
use serde_json::json;

/// As long as the operator lets values stand before it writes them to running workers, and half as long again.
const LONG: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_stamp_is_written_to_running_workers_when_it_stands() {
    let world = World::with_cluster("stamps", 3).await;
    let World { namespace, operator, observer, .. } = &world;
    let patches = || {
        operator.faults.writes().iter().filter(|call| call.verb == "patch" && call.is_about("pods")).count()
    };
    let (before, number) = (patches(), AtomicUsize::new(0));
    let stamp = async || {
        let number = number.fetch_add(1, Ordering::Relaxed) + 1;
        let metadata = json!({"annotations": {"example.org/seen": number.to_string()}, "labels": {"stamp": format!("n{number}")}});
        namespace.patch::<DaskCluster>("c", json!({"metadata": metadata})).await;
        number
    };
    holds_for(LONG, "no write to a worker", async || {
        stamp().await;
        check(patches() == before, || format!("{} patches", patches() - before))
    })
    .await;

    // A new worker has what there is at once, and counts as up to date.
    observer.allow("c-default", 4);
    namespace.scale_group("c-default", 4).await;
    namespace.wait_for_ready_workers("c-default", 4).await;
    let stamped = namespace.workers("c-default").await;
    let stamped = stamped.iter().filter(|pod| pod.annotations().contains_key("example.org/seen")).count();
    assert_eq!(stamped, 1);

    // An edit among the stamps reaches running workers, with one write to each.
    let team = json!({"spec": {"worker": {"metadata": {"labels": {"team": "a"}}}}});
    namespace.patch::<DaskWorkerGroup>("c-default", team).await;
    wait_for("the edit reaches the workers", async || {
        stamp().await;
        let workers = namespace.workers("c-default").await;
        let edited = workers.iter().filter(|pod| pod.labels().contains_key("team")).count();
        check(edited == 4, || format!("{edited} of 4 workers"))
    })
    .await;
    let written = patches() - before;
    assert!(written <= 4, "{written} writes to 4 workers for one edit");

    let last = stamp().await.to_string();
    wait_for("the last stamp reaches the workers", async || {
        let workers = namespace.workers("c-default").await;
        let seen: Vec<_> = workers.iter().map(|pod| pod.annotations().get("example.org/seen")).collect();
        check(seen.iter().all(|seen| *seen == Some(&last)), || format!("{seen:?}, not {last}"))
    })
    .await;
    observer.assert_no_violation();
}
