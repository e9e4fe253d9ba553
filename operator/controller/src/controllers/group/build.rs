//! The worker pods of a group: one template, serialised once, from which each worker is cut.

use dask_operator_api::{DaskCluster, DaskWorkerGroup, GroupName, labels};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::controllers::cluster::build::scheduler_address;
use crate::digest;
use crate::pods::form::{self, PodForm};
use crate::pods::invocation::Role;
use crate::pods::{env, metadata, probes, telemetry};

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
        form: PodForm,
    ) -> Result<Self, serde_json::Error> {
        let group_uid = group.uid().unwrap_or_default();
        let name_mark = format!("worker-name-of-{group_uid}");
        let ordinal_mark = format!("worker-ordinal-of-{group_uid}");
        let mut spec = group.spec.worker.spec.clone();
        if let Some(image) = form.lacking {
            form::use_module(&mut spec, Role::Worker, image);
        }
        probes::add_to_worker(&mut spec);
        env::append(&mut spec, &env::of_worker(&name_mark, &scheduler_address(cluster)));
        if form.telemetry.is_on() {
            telemetry::add_to_worker(&mut spec, &cluster.name_any());
        }
        let mut metadata = metadata::of_worker(group, cluster, &name_mark, &ordinal_mark);
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(labels::TEMPLATE_HASH.to_owned(), template_hash(group)?);
        if let Some(image) = form.lacking {
            annotations.insert(labels::MODULE_COMMAND.to_owned(), image.to_annotation());
        }
        let pod = Pod { metadata, spec: Some(spec), status: None };
        let json = serde_json::to_string(&pod)?;
        Ok(Self { json, name_mark, ordinal_mark, group: group_name.clone(), group_uid })
    }

    /// The same workers, which count as having the labels and annotations of digest `counted` instead of those that
    /// they have, of digest `own`.
    #[must_use]
    pub(super) fn counted_as(self, own: &str, counted: &str) -> Self {
        if own == counted {
            return self;
        }
        let annotation = |digest: &str| format!("\"{}\":\"{digest}\"", labels::METADATA_HASH);
        Self { json: self.json.replace(&annotation(own), &annotation(counted)), ..self }
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

/// Digest of the group's worker template, as the user wrote it: what the operator adds does not count, so that another
/// release of the operator replaces no worker.
///
/// # Errors
/// As [`WorkerTemplate::new`].
pub(super) fn template_hash(group: &DaskWorkerGroup) -> Result<String, serde_json::Error> {
    digest::of_json(&group.spec.worker.spec)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controllers::group::testing::{cluster, group};
    use crate::pods::form::Image;
    use crate::pods::telemetry::Telemetry;

    fn pod(group: &DaskWorkerGroup, ordinal: i64) -> (WorkerTemplate, serde_json::Value) {
        let name: GroupName = group.name_any().parse().unwrap();
        let template = WorkerTemplate::new(group, &name, &cluster(), PodForm::default()).unwrap();
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
                    "annotations": {
                        "kubernetes.dask.org/metadata-hash": pod["metadata"]["annotations"][labels::METADATA_HASH],
                        "kubernetes.dask.org/ordinal": "7",
                        "kubernetes.dask.org/template-hash": template_hash(&group(3)).unwrap(),
                    },
                    "ownerReferences": [{
                        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup",
                        "name": "simple-default", "uid": "group-uid",
                        "controller": true, "blockOwnerDeletion": true,
                    }],
                },
                "spec": {"containers": [{
                    "name": "worker", "image": "dask", "args": [
                        "dask-worker", "--name", "$(DASK_WORKER_NAME)",
                        "--preload", "/etc/dask-operator/dask_operator_worker.py",
                        "--preload-nanny", "/etc/dask-operator/dask_operator_worker.py",
                    ],
                    "volumeMounts": [
                        {"name": "dask-operator", "mountPath": "/etc/dask-operator", "readOnly": true},
                    ],
                    "env": [
                        {"name": "WORKER_ENV", "value": "x"},
                        {"name": "DASK_WORKER_NAME", "value": name},
                        {"name": "DASK_SCHEDULER_ADDRESS", "value": "tcp://simple-scheduler.ns.svc.cluster.local:8786"},
                    ],
                }],
                "terminationGracePeriodSeconds": 35,
                "volumes": [{"name": "dask-operator", "configMap": {"name": "simple-dask-operator"}}]},
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
    fn only_edits_of_the_pod_template_change_its_digest() {
        let hash = |group: &DaskWorkerGroup| template_hash(group).unwrap();
        let (one, mut other) = (group(3), group(4));
        other.metadata.labels = Some([("team".to_owned(), "a".to_owned())].into());
        assert_eq!(hash(&one), hash(&other), "labels are patched in place, numbers are no template");
        other.spec.worker.spec.containers[0].image = Some("dask:new".to_owned());
        assert_ne!(hash(&one), hash(&other));
        let name: GroupName = one.name_any().parse().unwrap();
        let digests = [Telemetry::On, Telemetry::Off].map(|telemetry| {
            let form = PodForm { telemetry, lacking: Some(Image::new("dask")) };
            let template = WorkerTemplate::new(&one, &name, &cluster(), form).unwrap();
            let pod: serde_json::Value = serde_json::from_slice(&template.pod(1)).unwrap();
            pod["metadata"]["annotations"][labels::TEMPLATE_HASH].clone()
        });
        assert_eq!(digests[0], digests[1], "what the operator adds does not count");
        assert_eq!(digests[0], hash(&one));
    }

    #[test]
    fn workers_can_count_as_having_other_labels() {
        let (template, pod) = pod(&group(3), 7);
        let own = pod["metadata"]["annotations"][labels::METADATA_HASH].as_str().unwrap().to_owned();
        let counted = template.clone().counted_as(&own, "earlier");
        let mut expected = pod;
        expected["metadata"]["annotations"][labels::METADATA_HASH] = json!("earlier");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&counted.pod(7)).unwrap(), expected);
        assert_eq!(template.clone().counted_as(&own, &own).pod(7), template.pod(7));
    }

    #[test]
    fn a_restart_policy_is_honoured() {
        let mut group = group(1);
        group.spec.worker.spec.restart_policy = Some("Never".to_owned());
        assert_eq!(pod(&group, 1).1["spec"]["restartPolicy"], "Never");
    }

    #[test]
    fn a_worker_whose_image_lacks_the_command_runs_the_module() {
        let form = PodForm { lacking: Some(Image::new("dask")), ..PodForm::default() };
        let name: GroupName = group(1).name_any().parse().unwrap();
        let template = WorkerTemplate::new(&group(1), &name, &cluster(), form).unwrap();
        let pod: serde_json::Value = serde_json::from_slice(&template.pod(1)).unwrap();
        assert_eq!(
            pod["spec"]["containers"][0]["args"],
            json!([
                "python",
                "-m",
                "distributed.cli.dask_worker",
                "--name",
                "$(DASK_WORKER_NAME)",
                "--preload",
                "/etc/dask-operator/dask_operator_worker.py",
                "--preload-nanny",
                "/etc/dask-operator/dask_operator_worker.py",
            ])
        );
        let annotation = &pod["metadata"]["annotations"][labels::MODULE_COMMAND];
        assert_eq!(*annotation, json!(Image::new("dask").to_annotation()));
    }
}
