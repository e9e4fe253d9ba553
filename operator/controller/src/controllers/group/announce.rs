//! What a person is told about the workers of a group, besides its conditions.

use dask_operator_api::{ConditionType, DaskWorkerGroup, DaskWorkerGroupStatus, Reason};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tracing::info;

use super::decide::GroupPlan;
use super::misfits::Misfit;
use super::progress::SizeChange;
use super::removal::{Cause, Removal};
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::context::Context;
use crate::controllers::announce::Announcement;
use crate::controllers::obstacle::{Obstacle, Purpose};

/// Tells what was done.
pub(super) fn announce(ctx: &Context, snapshot: &GroupSnapshot, plan: &GroupPlan) {
    let group = &snapshot.members.group;
    let removed = plan.remove.iter().filter(|removal| !removal.is_failed()).count();
    if removed > 0 {
        let desired = group.spec.worker.replicas;
        info!(group = %ObjectKey::of(&**group), removed, desired, "workers removed");
    }
    for news in news(snapshot, plan) {
        ctx.announce(&**group, &news);
    }
}

/// Why a worker went, for the Event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Departure {
    Failed,
    TooMany,
    Outdated,
    Stranded,
    Fenced,
    Misfit(Misfit),
}

/// Tells of each obstacle once. The change of condition `WorkersReady` tells of the one that it is about; `next` is the
/// status that is about to be written, `None` if none can be.
pub(super) fn announce_obstacles(
    ctx: &Context,
    group: &DaskWorkerGroup,
    before: &DaskWorkerGroupStatus,
    next: Option<&DaskWorkerGroupStatus>,
    obstacles: &[(Purpose, Obstacle)],
) {
    let untold = ctx.group_obstacles.untold(&ObjectKey::of(group), &group.metadata, obstacles);
    let told = next.and_then(|next| new_reason(before, next));
    for (_, obstacle) in untold {
        let Obstacle { reason, message } = obstacle;
        if reason.is_problem() && told != Some(reason.into()) && !is_named(before, &message) {
            ctx.announce(group, &Announcement { reason, message, warning: true });
        }
    }
}

fn workers_ready(status: &DaskWorkerGroupStatus) -> Option<&Condition> {
    let type_: &str = ConditionType::WorkersReady.into();
    status.conditions.iter().find(|condition| condition.type_ == type_)
}

/// The reason of condition `WorkersReady` if it is another one than before.
fn new_reason<'a>(before: &DaskWorkerGroupStatus, next: &'a DaskWorkerGroupStatus) -> Option<&'a str> {
    let new = &*workers_ready(next)?.reason;
    workers_ready(before).is_none_or(|old| old.reason != new).then_some(new)
}

/// Whether the condition says so already, of which an operator before this one has told then.
fn is_named(status: &DaskWorkerGroupStatus, message: &str) -> bool {
    workers_ready(status).is_some_and(|condition| condition.message.contains(Obstacle::cut(message)))
}

/// Names of the workers that go only because there are too many.
pub(super) fn too_many<'a>(
    snapshot: &'a GroupSnapshot,
    plan: &'a GroupPlan,
) -> impl Iterator<Item = &'a str> {
    let gone = plan.remove.iter().filter(|removal| departure_of(removal, snapshot) == Departure::TooMany);
    gone.map(|removal| removal.name.as_str())
}

/// Whether nobody is about to go, but those whom something keeps that a condition tells of.
pub(super) fn is_settled(plan: &GroupPlan) -> bool {
    let kept =
        |reason| matches!(reason, Reason::DrainRefused | Reason::DrainTimedOut | Reason::WorkerProtected);
    plan.obstacle.is_none() && plan.shrinking.as_ref().is_none_or(|finding| kept(finding.reason))
}

/// What a person is told of a change of size when it is over: once, however many steps it took, and of a replacement
/// nothing, which is told when the old worker goes.
pub(super) fn size_news(change: &SizeChange, wanted: i32) -> Vec<Announcement> {
    let mut news = Vec::new();
    let mut tell = |reason, message| news.push(Announcement { reason, message, warning: false });
    if change.removed > 0 {
        let names: Vec<&str> = change.names.iter().map(String::as_str).collect();
        let more = if change.removed > names.len() { ", …" } else { "" };
        let (count, names) = (workers(change.removed), names.join(", "));
        tell(Reason::ScaledDown, format!("removed {count} to reach {wanted}: {names}{more}"));
    }
    if change.created > 0 && change.growth > 0 {
        tell(Reason::ScaledUp, format!("created {} to reach {wanted}", workers(change.created)));
    }
    news
}

fn workers(count: usize) -> String {
    if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") }
}

/// What is told of single workers.
fn news(snapshot: &GroupSnapshot, plan: &GroupPlan) -> Vec<Announcement> {
    let mut news = Vec::new();
    let mut tell = |reason: Reason, message: String| {
        news.push(Announcement { reason, message, warning: reason.is_problem() });
    };
    for removal in &plan.remove {
        if let Cause::Forced(loss) = &removal.cause {
            let message =
                format!("worker \"{}\" was not drained in time and is deleted: {loss}", removal.name);
            tell(Reason::DrainForced, message);
        }
    }
    let marked: Vec<&str> = plan
        .mark
        .iter()
        .filter(|marking| marking.reason == Reason::TemplateChanged)
        .map(|marking| &*marking.pod.name)
        .collect();
    if !marked.is_empty() {
        let message = format!("workers of an older template drain and are replaced: {}", listed(&marked));
        tell(Reason::TemplateChanged, message);
    }
    let names = |departure: Departure| -> Vec<&str> {
        let gone = plan.remove.iter().filter(|removal| departure_of(removal, snapshot) == departure);
        gone.map(|removal| removal.name.as_str()).collect()
    };
    let stranded = names(Departure::Stranded);
    if !stranded.is_empty() {
        let message = format!(
            "replaced {} that did not join the restarted scheduler: {}",
            workers(stranded.len()),
            listed(&stranded)
        );
        tell(Reason::WorkerStranded, message);
    }
    let fenced = names(Departure::Fenced);
    if !fenced.is_empty() {
        let message = format!(
            "replaced {} that got no tasks any more, retired before: {}",
            workers(fenced.len()),
            listed(&fenced)
        );
        tell(Reason::WorkerReplaced, message);
    }
    for misfit in [Misfit::CommandMissing, Misfit::ModulesMissing] {
        let names = names(Departure::Misfit(misfit));
        if !names.is_empty() {
            let (reason, message) = misfit.told(&snapshot.members.group.spec.worker.spec, &listed(&names));
            tell(reason, message);
        }
    }
    let outdated = names(Departure::Outdated);
    if !outdated.is_empty() {
        let message =
            format!("replaced {} of an older template: {}", workers(outdated.len()), listed(&outdated));
        tell(Reason::WorkerReplaced, message);
    }
    let failed = names(Departure::Failed);
    if !failed.is_empty() {
        tell(Reason::WorkerReplaced, format!("replaced {} that had failed", workers(failed.len())));
    }
    news
}

fn departure_of(removal: &Removal, snapshot: &GroupSnapshot) -> Departure {
    let pod = snapshot.members.workers.iter().find(|pod| *pod.uid == *removal.uid);
    match (&removal.cause, pod.and_then(|pod| pod.drain.as_ref()).map(|intent| intent.reason)) {
        (Cause::Failed, _) => Departure::Failed,
        (_, Some(Reason::WorkerStranded)) => Departure::Stranded,
        (_, Some(Reason::WorkerReplaced)) => Departure::Fenced,
        (Cause::Misfit(misfit), _) => Departure::Misfit(*misfit),
        (Cause::Outdated, _) | (_, Some(Reason::TemplateChanged)) => Departure::Outdated,
        _ => Departure::TooMany,
    }
}

/// The first ten names.
fn listed(names: &[&str]) -> String {
    let shown = names.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 10 { format!("{shown}, …") } else { shown }
}

#[cfg(test)]
#[path = "announce_tests.rs"]
mod tests;
