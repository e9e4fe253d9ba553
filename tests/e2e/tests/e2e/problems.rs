//! What goes wrong for users is said in words that help.

use serde_json::json;

use crate::{
    fixtures::{cluster, workers_of},
    harness::shared,
};
use e2e_tests::clusters::condition;

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named_and_the_cluster_can_be_made_again() {
    shared("image", async |scenario| {
        let mut manifest = cluster("typo", 1);
        manifest["spec"]["scheduler"]["spec"]["containers"][0]["image"] =
            json!("localhost/no-such-scheduler:1");
        manifest["spec"]["worker"]["spec"]["containers"][0]["image"] = json!("localhost/no-such-worker:1");
        scenario.apply(&manifest).await?;

        for (type_, image) in [
            ("SchedulerReady", "localhost/no-such-scheduler:1"),
            ("WorkersReady", "localhost/no-such-worker:1"),
        ] {
            let seen = scenario.reason("typo", type_, "ImagePullFailed").await?;
            let message = &condition(&seen, type_).unwrap().message;
            assert!(message.contains(image), "{message}");
        }
        let ready = scenario.reason("typo", "Ready", "ImagePullFailed").await?;
        assert_eq!(condition(&ready, "Ready").unwrap().status, "False");
        let words = scenario.event("typo", "ImagePullFailed").await?;
        assert!(words.contains("localhost/no-such-"), "{words}");
        let description = scenario.kubectl("describe daskcluster typo").run().await?;
        let events = description.split_once("Events:").unwrap().1;
        assert!(events.contains("Warning") && events.contains("ImagePullFailed"), "{description}");

        scenario.kubectl("delete daskcluster typo").run().await?;
        scenario.apply(cluster("typo", 1)).await?;
        scenario.ready("typo", 1).await?;
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn workers_that_fit_no_node_are_reported_in_the_schedulers_words() {
    shared("unschedulable", async |scenario| {
        let mut manifest = cluster("huge", 2);
        manifest["spec"]["worker"]["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": "1000"}});
        scenario.apply(&manifest).await?;
        let seen = scenario.reason("huge", "WorkersReady", "Unschedulable").await?;
        let message = &condition(&seen, "WorkersReady").unwrap().message;
        assert!(message.contains("Insufficient cpu"), "{message}");
        scenario.reason("huge", "SchedulerReady", "AllReady").await?;
        let words = scenario.event("huge", "Unschedulable").await?;
        assert!(words.contains("Insufficient cpu"), "{words}");

        scenario.scale("huge", 0).await?;
        scenario.pods(&workers_of("huge"), "no workers", <[_]>::is_empty).await?;
        scenario.ready("huge", 0).await?;
        Ok(())
    })
    .await;
}
