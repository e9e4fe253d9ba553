//! Whether running pods are those of the templates, and when an edit restarts the scheduler. Pure.

use std::sync::Arc;

use dask_operator_api::{ConditionType, DaskCluster, DaskClusterStatus, DaskJob, Reason, SchedulerUpdate};
use jiff::Timestamp;
use kube::ResourceExt;

use super::build;
use super::idle::says_idle;
use super::status::Finding;
use crate::cluster_cache::records::DeploymentRecord;
use crate::cluster_cache::snapshot::{ClusterSnapshot, job_was_edited};
use crate::controllers::announce::Announcement;
use crate::digest;
use crate::scheduler_link::LinkView;

/// Digest of the scheduler's pod template, as the user wrote it: what the operator adds does not count, so that
/// another release of the operator restarts nothing.
pub(super) fn scheduler_hash(cluster: &DaskCluster) -> Option<String> {
    digest::of_json(&cluster.spec.scheduler.spec).ok()
}

/// Whether the scheduler that runs was made from another template. One without digest was adopted as it is.
pub(super) fn is_outdated(deployment: &DeploymentRecord, cluster: &DaskCluster) -> bool {
    let own = deployment.template_hash.as_deref();
    own.is_some_and(|own| scheduler_hash(cluster).is_some_and(|wanted| wanted != own))
}

/// Whether the scheduler may be restarted now: if the policy allows it, or nothing of it runs that could be lost.
pub(super) fn may_restart(snapshot: &ClusterSnapshot, link: &LinkView, now: Timestamp) -> bool {
    let cluster = &snapshot.cluster;
    if snapshot.scheduler_pods.iter().all(|pod| !pod.running) {
        return true;
    }
    match cluster.spec.update_policy().scheduler() {
        SchedulerUpdate::Never => false,
        SchedulerUpdate::Always => true,
        SchedulerUpdate::WhenIdle => says_idle(link, now).is_some(),
    }
}

/// Condition `Updating`: `True` while pods are being replaced.
pub(super) fn finding(snapshot: &ClusterSnapshot) -> Finding {
    let groups = groups(snapshot);
    let replacing = groups.iter().find(|finding| finding.0 == Some(true));
    let scheduler = scheduler(snapshot);
    let job = job(snapshot);
    replacing.or(scheduler.as_ref()).or(job.as_ref()).or(groups.first()).cloned().unwrap_or_else(|| {
        (Some(false), Reason::UpToDate, "all pods are of the current templates".to_owned())
    })
}

fn scheduler(snapshot: &ClusterSnapshot) -> Option<Finding> {
    let cluster = &snapshot.cluster;
    let deployment = snapshot.deployment.as_deref()?;
    if !is_outdated(deployment, cluster) {
        let other =
            deployment.metadata_hash.as_ref().is_some_and(|own| *own != build::metadata_hash(cluster));
        let message = "labels or annotations in spec.scheduler.metadata were edited; they do not restart the scheduler, \
                       whose pod has the new ones when its template is edited, too";
        return other.then(|| (Some(false), Reason::SchedulerOutdated, message.to_owned()));
    }
    let policy = cluster.spec.update_policy().scheduler();
    let (waits, rest) = match policy {
        SchedulerUpdate::Never => (
            false,
            "it is kept, because a restart loses all results; set spec.update.scheduler to WhenIdle or Always",
        ),
        SchedulerUpdate::WhenIdle => (true, "it is restarted as soon as it has nothing to do"),
        SchedulerUpdate::Always => (true, "it is being restarted"),
    };
    let message = format!("the scheduler is of an older template; {rest}");
    Some((Some(waits), Reason::SchedulerOutdated, message))
}

/// The job's program may have begun with what was made first, so an edit reaches neither cluster nor runner.
fn job(snapshot: &ClusterSnapshot) -> Option<Finding> {
    let name = snapshot.cluster.name_any();
    let edited = snapshot.job.as_ref().is_some_and(|job| job_was_edited(&snapshot.cluster, job));
    edited.then(|| (Some(false), Reason::EditIgnored, edit_ignored(&name)))
}

/// What the edited job is told when the status of its cluster begins to say that the edit has no effect.
///
/// The job's own status has no place for it, so whether it was told is seen from the cluster's alone.
pub(super) fn news_of_late_edit(
    snapshot: &ClusterSnapshot,
    before: &DaskClusterStatus,
    next: &DaskClusterStatus,
) -> Option<(Arc<DaskJob>, Announcement)> {
    let reason: &str = Reason::EditIgnored.into();
    let said = |status: &DaskClusterStatus| status.conditions.iter().any(|told| told.reason == reason);
    let job = snapshot.job.clone().filter(|_| said(next) && !said(before))?;
    let message = edit_ignored(&job.name_any());
    Some((job, Announcement { reason: Reason::EditIgnored, message, warning: true }))
}

/// What to say of the job with this name when it was edited too late.
fn edit_ignored(name: &str) -> String {
    format!(
        "DaskJob \"{name}\" was edited after its cluster had been made, which changes neither cluster nor runner; edit \
         DaskCluster \"{name}\", or delete the job and create it again"
    )
}

/// What groups say of outdated workers.
fn groups(snapshot: &ClusterSnapshot) -> Vec<Finding> {
    let type_: &str = ConditionType::Updating.into();
    let of_group = |members: &crate::cluster_cache::snapshot::GroupMembers| {
        let status = members.group.status.as_ref()?;
        let condition = status.conditions.iter().find(|condition| condition.type_ == type_)?;
        let reason = condition.reason.parse().ok().filter(|reason| *reason != Reason::UpToDate)?;
        let message = format!("group \"{}\": {}", members.group.name_any(), condition.message);
        Some((Some(condition.status == "True"), reason, message))
    };
    snapshot.groups.iter().filter_map(of_group).collect()
}

#[cfg(test)]
#[path = "updating_tests.rs"]
mod tests;
