//! DaskJobs: upstream's contract, whatever happens on the way.

use std::time::Duration;

use dask_operator_api::labels::{KOPF_FINALIZER, SCHEDULER_GATE};
use dask_operator_api::{DaskCluster, DaskJob, JobStatus};
use futures::{StreamExt, stream};
use integration_tests::fault::Call;
use integration_tests::jobs::{JobObserver, assert_final, job, job_json, raw_status, run, wait_for_status};
use integration_tests::kubelet::{Ending, wait_until_running};
use integration_tests::link::{obliging, unreachable};
use integration_tests::templates::{FATE, FATE_NO_NODE};
use integration_tests::wait::check;
use integration_tests::{ApiServer, Fault, Faults, Kubelet, Namespace, Operator, World, holds_for, wait_for};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota, Service};
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};

#[rstest]
#[case::successful("job-good", Ending::Completed, JobStatus::Successful)]
#[case::failed("job-bad", Ending::Error, JobStatus::Failed)]
#[case::evicted("job-evicted", Ending::Evicted, JobStatus::Failed)]
#[tokio::test]
async fn a_job_runs_to_its_end(#[case] name: &str, #[case] ending: Ending, #[case] last: JobStatus) {
    let outcome = run(ApiServer::shared().await, name, &Faults::recorder(), ending).await;
    let mut expected = vec![
        None,
        Some(JobStatus::JobCreated),
        Some(JobStatus::ClusterCreated),
        Some(JobStatus::Running),
        Some(last),
    ];
    // A watch may begin or come too late for a status that stands shortly.
    expected.retain(|status| outcome.statuses.contains(status));
    assert_eq!(outcome.statuses, expected);
    assert!(outcome.statuses.contains(&Some(JobStatus::Running)));
    let verbs = |verb: &str, path: &str| {
        outcome.writes.iter().filter(|call| call.verb == verb && call.is_about(path)).count()
    };
    assert_eq!(verbs("delete", "daskclusters"), 1);
    assert!(verbs("patch", "daskjobs/status") <= 4, "{:?}", outcome.writes);
}

/// Names and env are known from the beginning; see also the unit tests of the builders.
#[tokio::test]
async fn cluster_and_runner_are_upstreams() {
    let world = World::start("job-shape").await;
    let mut template = job_json("job");
    template["metadata"]["labels"] = json!({"team": "a"});
    template["spec"]["cluster"]["spec"]["idleTimeout"] = json!(3600);
    template["spec"]["cluster"]["metadata"] = json!({"labels": {"level": "cluster"}});
    template["spec"]["job"]["metadata"] = json!({"labels": {"level": "runner"}});
    world.namespace.create_object(&serde_json::from_value::<DaskJob>(template).unwrap()).await;
    let job = wait_for_status(&world.namespace, "job", JobStatus::Running).await;
    let cluster: DaskCluster = world.namespace.get("job").await;
    assert_eq!(cluster.spec.idle_timeout, 3600);
    assert_eq!(
        json!(cluster.labels()),
        json!({"dask.org/cluster-name": "job", "level": "cluster", "team": "a"})
    );
    assert_eq!(cluster.owner_references()[0].uid, job.uid().unwrap());
    let runner: Pod = world.namespace.get("job-runner").await;
    assert_eq!(runner.labels()["dask.org/component"], "job-runner");
    assert_eq!((&*runner.labels()["level"], &*runner.labels()["team"]), ("runner", "a"));
    assert_eq!(runner.owner_references()[0].uid, job.uid().unwrap());
    let spec = json!(runner.spec);
    assert_eq!(spec["restartPolicy"], "OnFailure");
    let address = format!("tcp://job-scheduler.{}.svc.cluster.local:8786", world.namespace.name);
    assert_eq!(spec["containers"][0]["env"], json!([{"name": "DASK_SCHEDULER_ADDRESS", "value": address}]));
    world.namespace.wait_for_cluster_condition("job", "RunnerReady", "AllReady").await;
    assert!(
        (world.operator.metric("dask_operator_jobs", "status=\"Running\"").await - 1.0).abs() < f64::EPSILON
    );
}

const AT_ONCE: usize = 6;

/// One run of the scenario for each write, in which that write is spoiled so; returns how many were.
async fn each_write(name: &str, fault: Fault) -> (usize, usize) {
    let server = ApiServer::shared().await;
    let writes =
        run(server, &format!("{name}-clean"), &Faults::recorder(), Ending::Completed).await.writes.len();
    let spoiled: Vec<usize> = stream::iter(1..=writes)
        .map(async |number| {
            let fault = fault.clone();
            let faults = Faults::plan(
                move |call: &Call| {
                    if call.write == Some(number) { fault.clone() } else { Fault::None }
                },
            );
            run(server, &format!("{name}-{number}"), &faults, Ending::Completed).await.spoiled
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    (spoiled.iter().filter(|count| **count == 1).count(), writes)
}

#[rstest]
#[case::crash("job-crash", Fault::Crash)]
#[case::lost_reply("job-lost", Fault::LoseReply)]
#[case::too_many("job-429", Fault::Refuse(integration_tests::fault::Refusal::TOO_MANY_REQUESTS))]
#[case::conflict("job-409", Fault::Refuse(integration_tests::fault::Refusal::CONFLICT))]
#[tokio::test]
async fn each_write_is_spoiled_once(#[case] name: &str, #[case] fault: Fault) {
    let (spoiled, writes) = each_write(name, fault).await;
    // How often the cluster's status is written depends on the pace, so the last numbers may not come.
    assert!(spoiled * 10 >= writes * 7, "{spoiled} of {writes} runs were spoiled");
}

#[tokio::test]
async fn a_runner_that_is_deleted_while_it_runs_fails_the_job() {
    let world = World::start("job-deleted").await;
    let namespace = &world.namespace;
    namespace.create_object(&job("job")).await;
    wait_for_status(namespace, "job", JobStatus::Running).await;
    namespace.delete::<Pod>("job-runner").await;
    wait_for_status(namespace, "job", JobStatus::Failed).await;
    assert_final(&raw_status(namespace, "job").await, "job", JobStatus::Failed);
    let events = namespace.wait_for_event("job", "JobFailed").await;
    let note = events[0].note.clone().unwrap_or_default();
    assert!(note.contains("was deleted while it ran"), "{note}");
    holds_for(Duration::from_secs(1), "it is not made again", async || {
        let pods: Vec<Pod> = namespace.list("dask.org/component=job-runner").await;
        check(pods.is_empty(), || format!("{} runners", pods.len()))
    })
    .await;
}

#[tokio::test]
async fn a_runner_that_is_deleted_before_it_runs_is_made_again() {
    let world = World::start("job-undone").await;
    let namespace = &world.namespace;
    let mut template = job_json("job");
    template["spec"]["job"]["metadata"] = json!({"annotations": {FATE: FATE_NO_NODE}});
    namespace.create_object(&serde_json::from_value::<DaskJob>(template).unwrap()).await;
    wait_for_status(namespace, "job", JobStatus::ClusterCreated).await;
    let first: Pod = namespace.get("job-runner").await;
    namespace.delete::<Pod>("job-runner").await;
    let second = wait_for("another runner", async || {
        let pod = namespace.find::<Pod>("job-runner").await?;
        check(pod.uid() != first.uid(), || "still the first one".to_owned())?;
        Ok(pod)
    })
    .await;
    assert_eq!(second.owner_references(), first.owner_references());
    let status = namespace.get::<DaskJob>("job").await.status.unwrap();
    assert_eq!(status.job_status, Some(JobStatus::ClusterCreated));
}

#[tokio::test]
async fn a_job_made_again_at_once_waits_for_what_the_first_one_left() {
    let world = World::start("job-again").await;
    let namespace = &world.namespace;
    let observer = JobObserver::start(namespace);
    for round in 1..=3 {
        let created = namespace.create_object(&job("job")).await;
        wait_for(&format!("round {round} runs"), async || {
            let found = namespace.find::<DaskJob>("job").await?;
            let running =
                found.status.as_ref().and_then(|status| status.job_status) == Some(JobStatus::Running);
            check(running && found.uid() == created.uid(), || format!("{:?}", found.status))
        })
        .await;
        for owner in [
            namespace.get::<DaskCluster>("job").await.owner_references()[0].uid.clone(),
            namespace.get::<Pod>("job-runner").await.owner_references()[0].uid.clone(),
        ] {
            assert_eq!(Some(owner), created.uid(), "nothing of another job is used");
        }
        namespace.delete::<DaskJob>("job").await;
    }
    assert_eq!((observer.ever("DaskCluster", "job"), observer.ever("Pod", "job-runner")), (3, 3));
}

#[tokio::test]
async fn a_quota_is_told_on_job_and_cluster_and_waited_for() {
    let world = World::start("job-quota").await;
    let namespace = &world.namespace;
    namespace.limit("none", json!({"pods": "0"})).await;
    namespace.create_object(&job("job")).await;
    let condition = namespace.wait_for_cluster_condition("job", "RunnerReady", "QuotaExceeded").await;
    assert!(condition.message.contains("none"), "{}", condition.message);
    let events = namespace.wait_for_event("job", "QuotaExceeded").await;
    assert!(events.iter().all(|event| event.type_.as_deref() == Some("Warning")), "{events:?}");
    let about_job = |event: &&k8s_openapi::api::events::v1::Event| {
        event.regarding.as_ref().and_then(|about| about.kind.as_deref()) == Some("DaskJob")
    };
    assert_eq!(events.iter().filter(about_job).count(), 1, "{events:?}");
    let problems = world
        .operator
        .metric("dask_operator_problems_total", "kind=\"DaskJob\",reason=\"QuotaExceeded\"")
        .await;
    assert!(problems >= 1.0, "{problems}");
    let status = raw_status(namespace, "job").await;
    assert_eq!(
        status,
        json!({"clusterName": "job", "jobRunnerPodName": "job-runner", "jobStatus": "JobCreated"})
    );
    namespace.delete::<ResourceQuota>("none").await;
    wait_for_status(namespace, "job", JobStatus::Running).await;
    namespace.wait_for_cluster_condition("job", "RunnerReady", "AllReady").await;
}

#[tokio::test]
async fn workers_do_not_take_the_room_of_their_jobs_runner() {
    let world = World::start("job-order").await;
    let World { namespace, operator, .. } = &world;
    namespace.limit("cpu", json!({"requests.cpu": "1"})).await;
    let mut template = job_json("job");
    let requests = |cpu: &str| json!({"requests": {"cpu": cpu}});
    template["spec"]["job"]["spec"]["containers"][0]["resources"] = requests("2");
    for (part, cpu) in [("scheduler", "100m"), ("worker", "400m")] {
        template["spec"]["cluster"]["spec"][part]["spec"]["containers"][0]["resources"] = requests(cpu);
    }
    template["spec"]["cluster"]["spec"]["worker"]["replicas"] = json!(2);
    namespace.create_object(&serde_json::from_value::<DaskJob>(template).unwrap()).await;

    let condition = namespace.wait_for_group_reason("job-default", "WaitingForRunner").await;
    assert!(condition.message.contains("the runner of their job"), "{}", condition.message);
    let schedulers: Vec<Pod> = namespace.list("dask.org/component=scheduler").await;
    assert_eq!((schedulers.len(), namespace.workers("job-default").await.len()), (1, 0));
    namespace.wait_for_cluster_condition("job", "RunnerReady", "QuotaExceeded").await;
    let is_worker = |call: &&Call| call.body["metadata"]["labels"]["dask.org/component"] == "worker";
    assert_eq!(
        operator.faults.writes().iter().filter(is_worker).count(),
        0,
        "none is tried before the runner"
    );

    namespace.patch::<ResourceQuota>("cpu", json!({"spec": {"hard": {"requests.cpu": "2500m"}}})).await;
    wait_for_status(namespace, "job", JobStatus::Running).await;
    namespace.wait_for_group_reason("job-default", "QuotaExceeded").await;
    assert_eq!(namespace.workers("job-default").await.len(), 1, "that is what is left");
}

#[tokio::test]
async fn a_bad_name_fails_the_job_and_says_so() {
    let world = World::start("job-name").await;
    let name = "a".repeat(54);
    world.namespace.create_object(&job(&name)).await;
    wait_for_status(&world.namespace, &name, JobStatus::Failed).await;
    let events = world.namespace.wait_for_event(&name, "InvalidName").await;
    assert!(events[0].note.clone().unwrap_or_default().contains("54 characters"), "{events:?}");
    assert!(world.namespace.list::<DaskCluster>("").await.is_empty());
}

#[tokio::test]
async fn a_strangers_cluster_is_not_taken() {
    let world = World::start("job-stranger").await;
    let namespace = &world.namespace;
    let stranger = namespace.create_object(&integration_tests::templates::cluster("job", 0)).await;
    namespace.create_object(&job("job")).await;
    let events = namespace.wait_for_event("job", "NameTaken").await;
    assert!(events[0].note.clone().unwrap_or_default().contains("DaskCluster \"job\""), "{events:?}");
    let still: DaskCluster = namespace.get("job").await;
    assert_eq!((still.uid(), still.owner_references()), (stranger.uid(), &[][..]));
    namespace.delete::<DaskCluster>("job").await;
    wait_for_status(namespace, "job", JobStatus::Running).await;
}

#[rstest]
#[case::successful("job-legacy-good", "Succeeded", JobStatus::Successful)]
#[case::failed("job-legacy-bad", "Failed", JobStatus::Failed)]
#[tokio::test]
async fn a_job_that_the_python_operator_left_running_gets_its_final_state(
    #[case] test: &str,
    #[case] phase: &str,
    #[case] last: JobStatus,
) {
    let namespace = ApiServer::shared().await.namespace(test).await;
    let _kubelet = Kubelet::start(&namespace).await;
    let before = Box::pin(left_running(&namespace)).await;
    let status = json!({"status": {"phase": phase}});
    let runner: Pod = namespace.get("job-runner").await;
    let patch = Patch::Merge(status);
    namespace.api::<Pod>().patch_status("job-runner", &PatchParams::default(), &patch).await.unwrap();

    let _operator = Operator::start(&namespace, &Faults::recorder()).await;
    let job = wait_for_status(&namespace, "job", last).await;
    assert_final(&raw_status(&namespace, "job").await, "job", last);
    assert_eq!(job.status.unwrap().start_time, before.status.unwrap().start_time, "the start stays");
    assert_eq!(job.metadata.finalizers.unwrap_or_default(), [""; 0]);
    assert_eq!(namespace.get::<Pod>("job-runner").await.uid(), runner.uid());
    wait_for("the cluster is gone", async || {
        let clusters = namespace.list::<DaskCluster>("").await.len();
        check(clusters == 0, || clusters.to_string())
    })
    .await;
}

/// A job with its cluster and its runner, which runs, as the Python operator made them.
async fn left_running(namespace: &Namespace) -> DaskJob {
    let mut template = job("job");
    template.metadata.finalizers = Some(vec![KOPF_FINALIZER.to_owned()]);
    let job = namespace.create_object(&template).await;
    let owner = json!([{
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskJob", "name": "job", "uid": job.uid(),
        "controller": true, "blockOwnerDeletion": true,
    }]);
    let mut cluster = integration_tests::templates::cluster("job", 0);
    cluster.metadata.owner_references = serde_json::from_value(owner.clone()).unwrap();
    namespace.create_object(&cluster).await;
    let runner: Value = json!({
        "metadata": {
            "name": "job-runner", "ownerReferences": owner,
            "labels": {"dask.org/cluster-name": "job", "dask.org/component": "job-runner"},
        },
        "spec": job.spec.job.spec,
    });
    namespace.create_object(&serde_json::from_value::<Pod>(runner).unwrap()).await;
    wait_until_running(namespace, "job-runner").await;
    let status = json!({"status": {
        "jobStatus": "Running", "clusterName": "job", "jobRunnerPodName": "job-runner",
        "startTime": "2026-01-01T00:00:00Z",
    }});
    let patch = Patch::Merge(status);
    namespace.api::<DaskJob>().patch_status("job", &PatchParams::default(), &patch).await.unwrap()
}

/// The names of the runner's scheduling gates.
async fn gates(namespace: &Namespace) -> Vec<String> {
    let spec = namespace.get::<Pod>("job-runner").await.spec.unwrap();
    spec.scheduling_gates.into_iter().flatten().map(|gate| gate.name).collect()
}

#[tokio::test]
async fn the_program_starts_when_the_scheduler_answers() {
    let world = World::start("job-gate").await;
    let namespace = &world.namespace;
    world.link.say(|_| unreachable());
    let mut template = job_json("job");
    template["spec"]["cluster"]["spec"]["scheduler"]["metadata"] =
        json!({"annotations": {FATE: FATE_NO_NODE}});
    template["spec"]["job"]["spec"]["schedulingGates"] = json!([{"name": "example.org/mine"}]);
    namespace.create_object(&serde_json::from_value::<DaskJob>(template).unwrap()).await;
    wait_for_status(namespace, "job", JobStatus::ClusterCreated).await;
    let waits = namespace.wait_for_cluster_condition("job", "RunnerReady", "WaitingForScheduler").await;
    assert!(waits.message.contains("\"job-runner\" is started when the scheduler"), "{}", waits.message);
    namespace.wait_for_ready_workers("job-default", 1).await;
    let (mine, ours) = ("example.org/mine".to_owned(), SCHEDULER_GATE.to_owned());
    assert_eq!(gates(namespace).await, [mine.clone(), ours.clone()]);

    let schedulers: Vec<Pod> = namespace.list("dask.org/component=scheduler").await;
    let mend = json!({"metadata": {"annotations": {FATE: null}}});
    namespace.patch::<Pod>(&schedulers[0].name_any(), mend).await;
    namespace.wait_for_cluster_condition("job", "SchedulerReady", "AllReady").await;
    holds_for(Duration::from_secs(3), "a scheduler that does not answer is waited for", async || {
        let gates = gates(namespace).await;
        check(gates == [mine.clone(), ours.clone()], || format!("{gates:?}"))
    })
    .await;
    world.link.say(obliging);
    wait_for("only the gate of another is left", async || {
        let gates = gates(namespace).await;
        check(gates == [mine.clone()], || format!("{gates:?}"))
    })
    .await;
    namespace.patch::<Pod>("job-runner", json!({"spec": {"schedulingGates": null}})).await;
    wait_for_status(namespace, "job", JobStatus::Running).await;
    namespace.wait_for_cluster_condition("job", "RunnerReady", "AllReady").await;
}

#[tokio::test]
async fn a_job_whose_service_names_another_cluster_gets_its_own() {
    let world = World::start("job-selector").await;
    let namespace = &world.namespace;
    let mut template = job_json("job");
    let selector = json!({"dask.org/cluster-name": "example", "dask.org/component": "scheduler"});
    template["spec"]["cluster"]["spec"]["scheduler"]["service"]["selector"] = selector;
    namespace.create_object(&serde_json::from_value::<DaskJob>(template).unwrap()).await;
    wait_for_status(namespace, "job", JobStatus::Running).await;
    let selector = namespace.get::<Service>("job-scheduler").await.spec.unwrap().selector.unwrap();
    assert_eq!(json!(selector), json!({"dask.org/cluster-name": "job", "dask.org/component": "scheduler"}));
    namespace.wait_for_cluster_condition("job", "SchedulerReady", "AllReady").await;
    let told = namespace.wait_for_event("job", "SelectorCorrected").await;
    assert_eq!((told.len(), told[0].type_.as_deref()), (1, Some("Normal")));
    let note = told[0].note.clone().unwrap_or_default();
    assert!(note.contains("dask.org/cluster-name=example") && note.contains("=job instead"), "{note}");
}

#[tokio::test]
async fn an_edit_that_comes_too_late_is_told() {
    let world = World::start("job-edit").await;
    let namespace = &world.namespace;
    namespace.create_object(&job("job")).await;
    wait_for_status(namespace, "job", JobStatus::Running).await;
    namespace.wait_for_cluster_condition("job", "Updating", "UpToDate").await;
    let edit = json!({"spec": {"cluster": {"spec": {"worker": {"replicas": 4}}}}});
    namespace.patch::<DaskJob>("job", edit).await;
    let told = namespace.wait_for_cluster_condition("job", "Updating", "EditIgnored").await;
    assert!(told.message.contains("edit DaskCluster \"job\""), "{}", told.message);
    let about_job = wait_for("the job says so, too", async || {
        let mut events = namespace.events_about("job").await;
        events.retain(|event| {
            let kind = event.regarding.as_ref().and_then(|about| about.kind.as_deref());
            kind == Some("DaskJob") && event.reason.as_deref() == Some("EditIgnored")
        });
        check(!events.is_empty(), || "no Event".to_owned())?;
        Ok(events.len())
    })
    .await;
    assert_eq!((about_job, namespace.workers("job-default").await.len()), (1, 1));
}

/// A watch of pods that is behind must not be taken for a runner that vanished, nor lead to a second one.
#[tokio::test]
async fn late_watches_change_nothing() {
    let (period, open) = (Duration::from_millis(1500), Duration::from_millis(100));
    let faults = Faults::plan(move |call: &Call| {
        if call.verb == "watch" && call.is_about("pods") {
            Fault::HoldBackWatch { period, open }
        } else {
            Fault::None
        }
    });
    let outcome = run(ApiServer::shared().await, "job-late", &faults, Ending::Completed).await;
    assert!(outcome.spoiled > 0);
}
