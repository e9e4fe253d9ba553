//! What is remembered of how pods start, beyond what the cache shows. All of it is found out again after a restart.

use std::sync::Arc;

use super::inquiries::Inquiries;
use super::obstacle::Obstacles;
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::records::{DeploymentRecord, PodRecord};
use crate::pods::lacking::LackingImages;

/// What is remembered of how pods start.
#[derive(Debug, Default)]
pub struct Starts {
    /// Images that lack `dask-scheduler` and `dask-worker`.
    pub lacking: LackingImages,
    /// Why workers of a group wait on their node.
    pub workers: Inquiries,
    /// Why the scheduler of a cluster does.
    pub schedulers: Inquiries,
    /// Why the runner of a job does.
    pub runners: Inquiries,
    /// Refused ConfigMaps of preload modules, by cluster.
    pub module_refusals: Obstacles,
    /// Whether the ConfigMap of a cluster is still there.
    pub module_checks: Inquiries,
}

impl Starts {
    /// Learns from these pods, and the Deployment, which images lack the commands.
    pub fn learn<'a>(
        &self,
        namespace: &Arc<str>,
        deployment: Option<&DeploymentRecord>,
        pods: impl IntoIterator<Item = &'a Arc<PodRecord>>,
    ) {
        let found =
            pods.into_iter().flat_map(|pod| [pod.startup.command_missing, pod.startup.module_command]);
        for image in found.chain([deployment.and_then(|deployment| deployment.module_command)]).flatten() {
            self.lacking.remember(namespace, image);
        }
    }

    /// The cluster is gone.
    pub fn forget_cluster(&self, key: &ObjectKey) {
        self.schedulers.forget(key);
        self.runners.forget(key);
        self.module_refusals.clear(key);
        self.module_checks.forget(key);
    }
}
