//! The worker pods of a group: one template, serialised once, from which each worker is cut.

use dask_operator_api::{DaskCluster, DaskWorkerGroup, GroupName};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::controllers::cluster::build::scheduler_address;
use crate::pods::{env, metadata, probes};

/// The JSON of a group's worker pods, with places for what differs between them.
#[derive(Clone, Debug)]
pub struct WorkerTemplate {
    json: String,
    name_mark: String,
    ordinal_mark: String,
    group: GroupName,
    group_uid: String,
}

impl WorkerTemplate {
    /// Builds the template.
    ///
    /// # Errors
    /// When the pod cannot be written as JSON, which no pod that came from the API server causes.
    pub fn new(
        group: &DaskWorkerGroup,
        group_name: &GroupName,
        cluster: &DaskCluster,
    ) -> Result<Self, serde_json::Error> {
        let group_uid = group.uid().unwrap_or_default();
        let name_mark = format!("worker-name-of-{group_uid}");
        let ordinal_mark = format!("worker-ordinal-of-{group_uid}");
        let mut spec = group.spec.worker.spec.clone();
        probes::add_to_worker(&mut spec);
        env::append(&mut spec, &env::of_worker(&name_mark, &scheduler_address(cluster)));
        let pod = Pod {
            metadata: metadata::of_worker(group, cluster, &name_mark, &ordinal_mark),
            spec: Some(spec),
            status: None,
        };
        let json = serde_json::to_string(&pod)?;
        Ok(Self { json, name_mark, ordinal_mark, group: group_name.clone(), group_uid })
    }

    /// Name of the worker with this ordinal.
    #[must_use]
    pub fn name(&self, ordinal: i64) -> String {
        self.group.worker(&self.group_uid, ordinal)
    }

    /// The JSON of the worker with this ordinal.
    #[must_use]
    pub fn pod(&self, ordinal: i64) -> Vec<u8> {
        let named = self.json.replace(&self.name_mark, &self.name(ordinal));
        named.replace(&self.ordinal_mark, &ordinal.to_string()).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::group::testing::{cluster, group};

    fn pod(group: &DaskWorkerGroup, ordinal: i64) -> (WorkerTemplate, serde_json::Value) {
        let name: GroupName = group.name_any().parse().unwrap();
        let template = WorkerTemplate::new(group, &name, &cluster()).unwrap();
        let pod = serde_json::from_slice(&template.pod(ordinal)).unwrap();
        (template, pod)
    }

    #[test]
    fn the_whole_pod() {
        let (template, pod) = pod(&group(3), 7);
        let name = template.name(7);
        assert_eq!(
            pod,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": name, "namespace": "ns",
                    "labels": {
                        "dask.org/cluster-name": "simple", "dask.org/component": "worker",
                        "dask.org/workergroup-name": "simple-default", "sidecar.istio.io/inject": "false",
                    },
                    "annotations": {"kubernetes.dask.org/ordinal": "7"},
                    "ownerReferences": [{
                        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup",
                        "name": "simple-default", "uid": "group-uid",
                        "controller": true, "blockOwnerDeletion": true,
                    }],
                },
                "spec": {"containers": [{
                    "name": "worker", "image": "dask", "args": ["dask-worker", "--name", "$(DASK_WORKER_NAME)"],
                    "env": [
                        {"name": "WORKER_ENV", "value": "x"},
                        {"name": "DASK_WORKER_NAME", "value": name},
                        {"name": "DASK_SCHEDULER_ADDRESS", "value": "tcp://simple-scheduler.ns.svc.cluster.local:8786"},
                    ],
                }]},
            })
        );
    }

    #[test]
    fn workers_differ_only_in_name_and_ordinal() {
        let (template, mut one) = pod(&group(3), 1);
        let (_, mut two) = pod(&group(3), 2);
        assert_ne!(template.name(1), template.name(2));
        for pod in [&mut one, &mut two] {
            pod["metadata"]["name"] = json!("x");
            pod["metadata"]["annotations"] = json!({});
            pod["spec"]["containers"][0]["env"][1]["value"] = json!("x");
        }
        assert_eq!(one, two);
    }

    #[test]
    fn a_restart_policy_is_honoured() {
        let mut group = group(1);
        group.spec.worker.spec.restart_policy = Some("Never".to_owned());
        assert_eq!(pod(&group, 1).1["spec"]["restartPolicy"], "Never");
    }
}
