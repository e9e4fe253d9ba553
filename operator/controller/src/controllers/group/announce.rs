//! What a person is told about the workers of a group, besides its conditions.

use dask_operator_api::Reason;
use tracing::info;

use super::decide::GroupPlan;
use super::misfits::Misfit;
use super::removal::{Cause, Removal};
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::context::Context;
use crate::controllers::announce::Announcement;

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
    Misfit(Misfit),
}

/// Tells of changes of size, but not of the first filling of a group: every cluster starts with one.
fn news(snapshot: &GroupSnapshot, plan: &GroupPlan) -> Vec<Announcement> {
    let group = &snapshot.members.group;
    let desired = group.spec.worker.replicas;
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
            "replaced {} workers that did not join the restarted scheduler: {}",
            stranded.len(),
            listed(&stranded)
        );
        tell(Reason::WorkerStranded, message);
    }
    for misfit in [Misfit::CommandMissing, Misfit::ModulesMissing] {
        let names = names(Departure::Misfit(misfit));
        if !names.is_empty() {
            let (reason, message) = misfit.told(&group.spec.worker.spec, &listed(&names));
            tell(reason, message);
        }
    }
    let outdated = names(Departure::Outdated);
    if !outdated.is_empty() {
        let message =
            format!("replaced {} workers of an older template: {}", outdated.len(), listed(&outdated));
        tell(Reason::WorkerReplaced, message);
    }
    let (excess, failed) = (names(Departure::TooMany), names(Departure::Failed));
    if !excess.is_empty() {
        let message = format!("removed {} workers to reach {desired}: {}", excess.len(), listed(&excess));
        tell(Reason::ScaledDown, message);
    } else if !failed.is_empty() {
        tell(Reason::WorkerReplaced, format!("replaced {} failed workers", failed.len()));
    } else if plan.remove.is_empty() && !plan.create.is_empty() && group.status.is_some() {
        tell(Reason::ScaledUp, format!("created {} workers to reach {desired}", plan.create.len()));
    }
    news
}

fn departure_of(removal: &Removal, snapshot: &GroupSnapshot) -> Departure {
    let pod = snapshot.members.workers.iter().find(|pod| *pod.uid == *removal.uid);
    match (&removal.cause, pod.and_then(|pod| pod.drain.as_ref()).map(|intent| intent.reason)) {
        (Cause::Failed, _) => Departure::Failed,
        (Cause::Stranded, _) => Departure::Stranded,
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
mod tests {
    use std::sync::Arc;

    use dask_operator_api::DrainIntent;

    use super::*;
    use crate::cluster_cache::records::{PodRecord, PodState};
    use crate::controllers::group::removal::{Marking, Object};
    use crate::controllers::group::testing::{at, running, snapshot, worker};

    fn removal(ordinal: i64, cause: Cause) -> Removal {
        Removal {
            object: Object::Pod,
            name: format!("w-{ordinal}"),
            uid: format!("uid-{ordinal}"),
            version: None,
            cause,
        }
    }

    fn told(snapshot: &GroupSnapshot, plan: &GroupPlan) -> Vec<(Reason, String)> {
        news(snapshot, plan).into_iter().map(|news| (news.reason, news.message)).collect()
    }

    #[test]
    fn every_departure_has_its_reason() {
        let intent = DrainIntent { reason: Reason::TemplateChanged, since: at(0) };
        let outdated = Arc::new(PodRecord { drain: Some(Box::new(intent)), ..running(4) });
        let snapshot = snapshot(2, vec![outdated]);
        let plan = GroupPlan {
            remove: vec![
                removal(1, Cause::Drained),
                removal(2, Cause::Stranded),
                removal(3, Cause::Outdated),
                removal(4, Cause::Drained),
            ],
            create: vec![9],
            ..GroupPlan::default()
        };
        assert_eq!(
            told(&snapshot, &plan),
            [
                (
                    Reason::WorkerStranded,
                    "replaced 1 workers that did not join the restarted scheduler: w-2".to_owned()
                ),
                (Reason::WorkerReplaced, "replaced 2 workers of an older template: w-3, w-4".to_owned()),
                (Reason::ScaledDown, "removed 1 workers to reach 2: w-1".to_owned()),
            ]
        );
    }

    #[test]
    fn a_replacement_is_no_growth() {
        let intent = DrainIntent { reason: Reason::TemplateChanged, since: at(0) };
        let mut snapshot = snapshot(1, vec![worker(1, PodState::Ready)]);
        Arc::make_mut(&mut snapshot.members.group).status =
            Some(dask_operator_api::DaskWorkerGroupStatus::default());
        let mark = vec![Marking { pod: worker(1, PodState::Ready), reason: intent.reason }];
        let plan = GroupPlan { mark, ..GroupPlan::default() };
        assert_eq!(told(&snapshot, &plan)[0].0, Reason::TemplateChanged);
        let plan = GroupPlan { create: vec![2], ..GroupPlan::default() };
        assert_eq!(told(&snapshot, &plan), [(Reason::ScaledUp, "created 1 workers to reach 1".to_owned())]);
        assert_eq!(told(&snapshot, &GroupPlan::default()), []);
    }

    #[test]
    fn what_is_lost_is_a_warning() {
        let plan =
            GroupPlan { remove: vec![removal(1, Cause::Forced("all".to_owned()))], ..GroupPlan::default() };
        let news = news(&snapshot(0, vec![]), &plan);
        assert!(news[0].warning && news[0].message.contains("not drained in time"), "{news:?}");
    }
}
