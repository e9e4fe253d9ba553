//! Whether the scheduler's Service leads to the scheduler. Pure.
//!
//! The operator asks the scheduler at its pod's own address, so that it can reach one that nobody else can.

use std::collections::BTreeMap;

use dask_operator_api::{ConditionType, DaskCluster, DaskClusterStatus, Reason};
use kube::ResourceExt;

use super::build::comm_port;
use super::status::{Finding, belongs, scheduler_pod};
use crate::cluster_cache::records::{PodState, ServiceRecord};
use crate::cluster_cache::snapshot::ClusterSnapshot;
use crate::pods::metadata;
use crate::scheduler_link::LinkView;

/// Label that a ReplicaSet adds to its pods.
const REPLICA_SET_HASH: &str = "pod-template-hash";
/// Most keys of a selector that a message names.
const MOST_KEYS: usize = 3;

type Labels = BTreeMap<String, String>;

/// Why the Service leads nowhere, if so. One without selector, or that stands for a name elsewhere, is its author's.
pub(super) fn finding(
    snapshot: &ClusterSnapshot,
    link: &LinkView,
    previous: &DaskClusterStatus,
) -> Option<Finding> {
    let service =
        snapshot.service.as_deref().filter(|service| belongs(service, snapshot) && !service.terminating)?;
    let selector = service.spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    if service.spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    // Workers come through the Service, whatever it looks like from here. Before the operator has asked, what was found
    // before still stands.
    let proven = match (link.sample.as_deref(), &link.failure) {
        (Some(sample), _) => sample.workers > 0,
        (None, Some(_)) => false,
        (None, None) => !is_unproven(previous),
    };
    selects_nothing(snapshot, service, selector, proven)
        .or_else(|| no_port(&snapshot.cluster, service).filter(|_| !proven))
        .map(|(reason, message)| (Some(false), reason, message))
}

/// Whether a status says that the Service leads nowhere.
pub(super) fn is_unproven(status: &DaskClusterStatus) -> bool {
    let type_: &str = ConditionType::SchedulerReady.into();
    let reasons = [Reason::ServiceSelectsNothing, Reason::ServicePortMissing];
    status.conditions.iter().any(|condition| {
        condition.type_ == type_ && condition.reason.parse().is_ok_and(|reason| reasons.contains(&reason))
    })
}

fn selects_nothing(
    snapshot: &ClusterSnapshot,
    service: &ServiceRecord,
    selector: &Labels,
    proven: bool,
) -> Option<(Reason, String)> {
    let deployed = snapshot.deployment.as_deref().and_then(|deployment| deployment.pod_labels.clone());
    let labels = deployed.or_else(|| metadata::of_scheduler(&snapshot.cluster, &service.name).labels)?;
    let differs = |key: &str, value: &str| labels.get(key).is_none_or(|own| own != value);
    let wrong: Vec<(&String, &String)> = selector
        .iter()
        .filter(|(key, value)| key.as_str() != REPLICA_SET_HASH && differs(key, value))
        .collect();
    // A label that is not ours may have been added to the pod by somebody else. Then workers come through the Service.
    let certain = wrong.iter().any(|(key, _)| labels.contains_key(*key));
    let ready = scheduler_pod(snapshot).is_some_and(|pod| pod.state == PodState::Ready);
    if wrong.is_empty() || !(certain || (ready && !proven)) {
        return None;
    }
    let asked: Vec<_> = wrong.iter().take(MOST_KEYS).map(|(key, value)| format!("{key}={value}")).collect();
    let has: Vec<_> = wrong
        .iter()
        .take(MOST_KEYS)
        .map(|(key, _)| labels.get(*key).map_or_else(|| format!("no {key}"), |own| format!("{key}={own}")))
        .collect();
    let message = format!(
        "Service \"{}\" selects no scheduler pod, so neither workers nor clients reach the scheduler: its selector \
         asks for {}, but the pod has {}; correct spec.scheduler.service.selector",
        service.name,
        asked.join(", "),
        has.join(", "),
    );
    Some((Reason::ServiceSelectsNothing, message))
}

fn no_port(cluster: &DaskCluster, service: &ServiceRecord) -> Option<(Reason, String)> {
    let port = comm_port(&cluster.spec.scheduler);
    let name = &service.name;
    let what = match (&port.missing_target, port.in_service) {
        (Some(target), _) => format!(
            "the port of Service \"{name}\" for the scheduler leads to the container port \"{target}\", which no \
             container of the scheduler of \"{}\" has",
            cluster.name_any()
        ),
        (None, None) => {
            format!("Service \"{name}\" has no port that leads to the scheduler's port {}", port.in_pod)
        }
        (None, Some(_)) => return None,
    };
    let message = format!(
        "{what}, so workers cannot join; put {{name: tcp-comm, port: {0}, targetPort: {0}}} into \
         spec.scheduler.service.ports",
        port.in_pod
    );
    Some((Reason::ServicePortMissing, message))
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
