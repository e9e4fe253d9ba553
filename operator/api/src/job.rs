//! `DaskJob`: a runner pod with a cluster of its own.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr};

use crate::cluster::{DaskClusterSpec, TemplateMetadata};
use crate::pod_spec::deserialize_pod_spec;

/// Desired state of a job.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "kubernetes.dask.org",
    version = "v1",
    kind = "DaskJob",
    plural = "daskjobs",
    singular = "daskjob",
    shortname = "djb",
    namespaced,
    status = "DaskJobStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "A program that runs once in a pod of its own, on a DaskCluster of its own.",
    printcolumn(name = "Status", type_ = "string", json_path = ".status.jobStatus"),
    printcolumn(
        name = "Number Of Workers",
        type_ = "integer",
        json_path = ".spec.cluster.spec.worker.replicas"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct DaskJobSpec {
    /// The cluster that the job runs on.
    pub cluster: JobClusterTemplate,
    /// The pod that runs the program.
    pub job: JobRunnerSpec,
}

/// Template of the job's cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobClusterTemplate {
    /// Labels and annotations of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// Spec of the cluster.
    pub spec: DaskClusterSpec,
}

/// Template of the runner pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobRunnerSpec {
    /// Labels and annotations of the runner pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,
    /// The runner pod, as in `kubectl explain pod.spec`; `restartPolicy` defaults to `OnFailure`.
    #[serde(deserialize_with = "deserialize_pod_spec")]
    pub spec: PodSpec,
}

/// Where a job is, in the words of dask-kubernetes; Flyte reads these strings.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Display, EnumString, IntoStaticStr,
)]
pub enum JobStatus {
    /// Seen by the operator.
    JobCreated,
    /// Its cluster and runner pod were created.
    ClusterCreated,
    /// The runner pod runs.
    Running,
    /// The runner pod succeeded; the cluster is gone.
    Successful,
    /// The runner pod failed; the cluster is gone.
    Failed,
}

/// Observed state of a job: exactly these five keys, because clients compare the whole object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DaskJobStatus {
    /// Name of the job's DaskCluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// When the runner pod ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<Time>,
    /// Name of the runner pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_runner_pod_name: Option<String>,
    /// Where the job is.
    #[serde(default)]
    pub job_status: Option<JobStatus>,
    /// When the runner pod started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_final_status_has_exactly_the_five_keys_and_times_without_a_fraction() {
        let time = |text: &str| Some(Time(text.parse().unwrap()));
        let status = DaskJobStatus {
            cluster_name: Some("job".to_owned()),
            end_time: time("2026-01-01T00:01:00.75Z"),
            job_runner_pod_name: Some("job-runner".to_owned()),
            job_status: Some(JobStatus::Successful),
            start_time: time("2026-01-01T00:00:00Z"),
        };
        assert_eq!(
            serde_json::to_value(status).unwrap(),
            json!({
                "clusterName": "job",
                "endTime": "2026-01-01T00:01:00Z",
                "jobRunnerPodName": "job-runner",
                "jobStatus": "Successful",
                "startTime": "2026-01-01T00:00:00Z",
            })
        );
    }

    #[test]
    fn a_status_is_read_with_nulls_as_dask_kubernetes_leaves_them() {
        let status: DaskJobStatus =
            serde_json::from_value(json!({"jobStatus": null, "startTime": null, "endTime": null})).unwrap();
        assert_eq!(status, DaskJobStatus::default());
    }

    #[test]
    fn statuses_are_the_words_that_flyte_reads() {
        use JobStatus::{ClusterCreated, Failed, JobCreated, Running, Successful};
        let words =
            [JobCreated, ClusterCreated, Running, Successful, Failed].map(|status| status.to_string());
        assert_eq!(words, ["JobCreated", "ClusterCreated", "Running", "Successful", "Failed"]);
    }
}
