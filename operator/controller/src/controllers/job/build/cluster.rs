//! The cluster of a job.

use dask_operator_api::{ClusterName, DaskCluster, DaskJob};

use crate::pods::metadata;

/// The cluster, which has the job's name.
#[must_use]
pub fn cluster(job: &DaskJob, name: &ClusterName) -> DaskCluster {
    let mut cluster = DaskCluster::new(name.as_str(), job.spec.cluster.spec.clone());
    cluster.metadata = metadata::of_job_cluster(job, name.as_str());
    cluster
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
        let owner = &cluster.metadata.owner_references.unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("DaskJob", "job-uid"));
        assert_eq!((owner.controller, owner.block_owner_deletion), (Some(true), Some(true)));
    }
}
