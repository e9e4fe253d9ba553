//! Immutable views of the cache, one per decision.

use std::collections::BTreeSet;
use std::sync::Arc;

use dask_operator_api::{DaskCluster, DaskWorkerGroup};

use super::records::{DeploymentRecord, PodRecord, ServiceRecord};

/// All that is known about a cluster.
#[derive(Clone, Debug)]
pub struct ClusterSnapshot {
    /// The cluster itself.
    pub cluster: Arc<DaskCluster>,
    /// The Service called `<cluster>-scheduler`, whoever owns it.
    pub service: Option<Arc<ServiceRecord>>,
    /// The Deployment called `<cluster>-scheduler`, whoever owns it.
    pub deployment: Option<Arc<DeploymentRecord>>,
    /// Pods labelled as scheduler of this cluster, oldest first.
    pub scheduler_pods: Vec<Arc<PodRecord>>,
    /// The groups whose `spec.cluster` names this cluster, in order of name, each with its workers.
    pub groups: Vec<GroupMembers>,
    /// The object called `<cluster>-default` among all groups, even if it names another cluster.
    pub default_group: Option<Arc<DaskWorkerGroup>>,
}

/// A group and the pods it controls.
#[derive(Clone, Debug)]
pub struct GroupMembers {
    /// The group.
    pub group: Arc<DaskWorkerGroup>,
    /// Worker pods whose controlling owner is this group, in order of name.
    pub workers: Vec<Arc<PodRecord>>,
}

/// All that is known about a group.
#[derive(Clone, Debug)]
pub struct GroupSnapshot {
    /// The group and its pods.
    pub members: GroupMembers,
    /// The cluster that `spec.cluster` names.
    pub cluster: Option<Arc<DaskCluster>>,
    /// Ordinals whose creation was sent but never answered: the pod may or may not exist.
    pub unanswered: BTreeSet<i64>,
}
