//! The runner pod of a job.

use dask_operator_api::labels::SCHEDULER_GATE;
use dask_operator_api::{DaskCluster, DaskJob};
use k8s_openapi::api::core::v1::{Pod, PodSchedulingGate, PodSpec};

use super::runner_name;
use crate::controllers::cluster::build::scheduler_address;
use crate::pods::{env, metadata};

/// The pod that runs the program. `cluster` is the job's.
#[must_use]
pub fn runner(job: &DaskJob, cluster: &DaskCluster) -> Pod {
    let mut spec = job.spec.job.spec.clone();
    env::append(&mut spec, &env::of_runner(&scheduler_address(cluster)));
    add_gate(&mut spec);
    // Kubernetes' own default would run the program again for ever.
    spec.restart_policy.get_or_insert_with(|| "OnFailure".to_owned());
    let name = cluster.metadata.name.clone().unwrap_or_default();
    Pod { metadata: metadata::of_runner(job, &runner_name(&name)), spec: Some(spec), status: None }
}

/// Keeps the pod from being given to a node until the job's scheduler can be reached. It exists nevertheless, and has its
/// place in a quota. A pod whose node is fixed cannot have a gate.
fn add_gate(spec: &mut PodSpec) {
    if spec.node_name.is_some() {
        return;
    }
    let gates = spec.scheduling_gates.get_or_insert_default();
    if gates.iter().all(|gate| gate.name != SCHEDULER_GATE) {
        gates.push(PodSchedulingGate { name: SCHEDULER_GATE.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::job::build::cluster;
    use crate::controllers::job::testing::job;

    fn made(job: &DaskJob) -> serde_json::Value {
        json!(runner(job, &cluster(job, &"job".parse().unwrap())))
    }

    #[test]
    fn every_container_is_told_the_address_unless_it_has_one() {
        let mut job = job("job");
        let own = json!([
            {"name": "job", "env": [{"name": "MINE", "value": "1"}]},
            {"name": "sidecar", "env": [{"name": "DASK_SCHEDULER_ADDRESS", "value": "tcp://other:1"}]},
        ]);
        job.spec.job.spec = serde_json::from_value(json!({"containers": own})).unwrap();
        let pod = made(&job);
        let address = "tcp://job-scheduler.ns.svc.cluster.local:8786";
        assert_eq!(
            pod["spec"]["containers"][0]["env"],
            json!([{"name": "MINE", "value": "1"}, {"name": "DASK_SCHEDULER_ADDRESS", "value": address}])
        );
        assert_eq!(
            pod["spec"]["containers"][1]["env"],
            json!([{"name": "DASK_SCHEDULER_ADDRESS", "value": "tcp://other:1"}])
        );
    }

    #[test]
    fn the_restart_policy_is_the_users_or_on_failure() {
        let mut job = job("job");
        assert_eq!(made(&job)["spec"]["restartPolicy"], "OnFailure");
        job.spec.job.spec.restart_policy = Some("Never".to_owned());
        assert_eq!(made(&job)["spec"]["restartPolicy"], "Never");
    }

    #[test]
    fn names_and_owner() {
        let pod = made(&job("job"));
        assert_eq!(pod["metadata"]["name"], "job-runner");
        assert_eq!(pod["metadata"]["namespace"], "ns");
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "job-uid");
    }

    #[test]
    fn it_waits_for_the_scheduler_unless_its_node_is_fixed() {
        let mut job = job("job");
        assert_eq!(made(&job)["spec"]["schedulingGates"], json!([{"name": SCHEDULER_GATE}]));
        job.spec.job.spec.scheduling_gates =
            Some(vec![PodSchedulingGate { name: "example.org/x".to_owned() }]);
        let gates = json!([{"name": "example.org/x"}, {"name": SCHEDULER_GATE}]);
        assert_eq!(made(&job)["spec"]["schedulingGates"], gates, "the user's stay");
        job.spec.job.spec.scheduling_gates = None;
        job.spec.job.spec.node_name = Some("node".to_owned());
        assert_eq!(made(&job)["spec"].get("schedulingGates"), None);
    }
}
