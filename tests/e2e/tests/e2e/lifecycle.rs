//! From `kubectl apply` to `kubectl delete`.

use std::time::Duration;

use e2e_tests::{
    Error,
    demo::{
        Teller,
        play::{self, Stage},
        transcript::Style,
    },
    manifest,
    wait::{self, Look},
};
use kube::ResourceExt;

use crate::{
    fixtures::{cluster, scheduler_of, workers_of},
    harness::{PATIENCE, Scenario, shared},
};

#[tokio::test]
async fn a_documented_manifest_works_unchanged() {
    shared("documented", async |scenario| {
        scenario.apply(include_str!("../../manifests/documented.yaml")).await?;
        scenario.ready("documented", 2).await?;

        let table = scenario.kubectl("get daskcluster").run().await?;
        let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["NAME", "PHASE", "READY", "AGE"], "{table}");
        assert_eq!(rows[1][..3], ["documented", "Running", "2/2"], "{table}");
        assert_eq!(scenario.kubectl("get dsk --output name").run().await?.lines().count(), 1);

        let description = scenario.kubectl("describe daskcluster documented").run().await?;
        for words in ["Ready", "SchedulerReady", "WorkersReady", "AllReady", "2 of 2 workers are ready"] {
            assert!(description.contains(words), "{words:?} is missing in\n{description}");
        }

        let client = scenario.client_pod().await?;
        let connected = client.wait_for_workers("documented", 2, PATIENCE).await?;
        let mut pods: Vec<_> =
            scenario.workers("documented").await?.iter().map(ResourceExt::name_any).collect();
        pods.sort();
        assert_eq!(connected, pods, "a worker's name in Dask is that of its pod");
        client.compute("documented", 1000).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_demo_plays() {
    shared("demo", async |scenario| {
        let Scenario { kubernetes, namespace, .. } = scenario;
        let stage = Stage { kubernetes, namespace, image: testbed::images::DASK };
        let mut teller = Teller::new(Vec::new(), Style::Plain);
        let outcome = play::play(&mut teller, stage).await;
        let told = String::from_utf8_lossy(&teller.into_inner()).into_owned();
        let summary = outcome.unwrap_or_else(|failure| panic!("{failure}: {}\n{told}", failure.source));
        assert_eq!(summary.workers, [2, 4, 2]);
        assert!(summary.table.contains("Running") && summary.table.contains("2/2"), "{}", summary.table);
        assert!(told.contains("2 → 4") && told.contains("4 → 2") && told.contains("answers 200"), "{told}");
        assert!(told.contains("80 tasks ran 80 times, 0 results lost"), "{told}");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn nothing_of_a_deleted_cluster_stays() {
    shared("deleted", async |scenario| {
        let example = manifest::read(&testbed::workspace::root().join("examples/cluster.yaml"))?;
        scenario.apply(manifest::with_image(example, testbed::images::DASK)).await?;
        scenario.ready("demo", 2).await?;
        let list = "get deployments,replicasets,services,pods,endpointslices,daskworkergroups,daskclusters,\
                    poddisruptionbudgets,networkpolicies,secrets,serviceaccounts --output name";
        let before = scenario.kubectl(list).run().await?;
        assert!(before.contains("demo-scheduler") && before.contains("demo-default"), "{before}");
        assert!(!before.contains("networkpolicies"), "{before}");

        scenario.kubectl("delete daskcluster demo").run().await?;
        wait::until("an empty namespace", PATIENCE, async || {
            let left = scenario.kubectl(list).run().await?;
            // The namespace's own.
            let left: Vec<_> = left.lines().filter(|name| *name != "serviceaccount/default").collect();
            Ok(if left.is_empty() { Look::Done(()) } else { Look::NotYet(left.join(", ")) })
        })
        .await
    })
    .await;
}

#[tokio::test]
async fn deleted_pods_come_back() {
    shared("pod-deleted", async |scenario| {
        scenario.apply(cluster("tough", 2)).await?;
        scenario.ready("tough", 2).await?;
        let client = scenario.client_pod().await?;

        let scheduler = scenario.pods(&scheduler_of("tough"), "a scheduler", |pods| pods.len() == 1).await?;
        let worker = scenario.workers("tough").await?.remove(0);
        let lost = [scheduler[0].name_any(), worker.name_any()];
        scenario.kubectl(&format!("delete pod {} --wait=false", lost.join(" "))).run().await?;

        let replaced = |pods: &[k8s_openapi::api::core::v1::Pod]| {
            !pods.is_empty() && pods.iter().all(|pod| !lost.contains(&pod.name_any()))
        };
        let schedulers = scenario.pods(&scheduler_of("tough"), "another scheduler", replaced).await?;
        assert_eq!(schedulers.len(), 1, "clients insist on one");
        scenario
            .pods(&workers_of("tough"), "another worker", |pods| replaced(pods) && pods.len() == 2)
            .await?;
        scenario.ready("tough", 2).await?;
        client.wait_for_workers("tough", 2, Duration::from_mins(1)).await?;
        client.compute("tough", 1000).await?;
        Ok::<(), Error>(())
    })
    .await;
}
