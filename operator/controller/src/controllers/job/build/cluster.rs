//! The cluster of a job.

use dask_operator_api::labels::{CLUSTER_NAME, JOB_GENERATION};
use dask_operator_api::{ClusterName, DaskCluster, DaskJob};
use kube::ResourceExt;

use crate::pods::metadata;

/// The cluster, which has the job's name.
#[must_use]
pub fn cluster(job: &DaskJob, name: &ClusterName) -> DaskCluster {
    let mut cluster = DaskCluster::new(name.as_str(), job.spec.cluster.spec.clone());
    cluster.metadata = metadata::of_job_cluster(job, name.as_str());
    if let Some(generation) = job.metadata.generation {
        cluster.annotations_mut().insert(JOB_GENERATION.to_owned(), generation.to_string());
    }
    let selector = cluster.spec.scheduler.service.selector.as_mut();
    if let Some(named) = selector.and_then(|selector| selector.get_mut(CLUSTER_NAME)) {
        name.as_str().clone_into(named);
    }
    cluster
}

/// The cluster that the selector of the job's Service names, if it is another one than the job's own: of an example that
/// was copied, or because nobody knows the name of a job that has `generateName`. The Service of the job's cluster
/// selects its own scheduler instead.
#[must_use]
pub fn foreign_selector(job: &DaskJob, name: &ClusterName) -> Option<String> {
    let selector = job.spec.cluster.spec.scheduler.service.selector.as_ref()?;
    selector.get(CLUSTER_NAME).filter(|named| *named != name.as_str()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::job::testing::job;

    #[test]
    fn the_cluster_is_the_template_with_the_idle_timeout() {
        let mut job = job("job");
        job.spec.cluster.spec.idle_timeout = 300;
        let cluster = cluster(&job, &"job".parse().unwrap());
        assert_eq!(cluster.spec, job.spec.cluster.spec);
        assert_eq!(cluster.spec.idle_timeout, 300);
        assert_eq!(cluster.status, None);
        assert_eq!(cluster.annotations()[JOB_GENERATION], "1");
        let owner = &cluster.metadata.owner_references.unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("DaskJob", "job-uid"));
        assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
    }

    #[test]
    fn the_service_selects_the_jobs_own_scheduler() {
        let mut job = job("report-x7");
        let name = "report-x7".parse().unwrap();
        assert_eq!(foreign_selector(&job, &name), None, "there is no selector");
        let selector = |cluster: &str| {
            let labels = [(CLUSTER_NAME, cluster), ("dask.org/component", "scheduler")];
            Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into())
        };
        job.spec.cluster.spec.scheduler.service.selector = selector("report");
        assert_eq!(foreign_selector(&job, &name).as_deref(), Some("report"));
        let made = cluster(&job, &name);
        assert_eq!(made.spec.scheduler.service.selector, selector("report-x7"));
        job.spec.cluster.spec.scheduler.service.selector = selector("report-x7");
        assert_eq!(foreign_selector(&job, &name), None);
        assert_eq!(cluster(&job, &name).spec, job.spec.cluster.spec);
    }
}
