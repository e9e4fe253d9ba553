//! One reconciliation of an autoscaler: observe → decide → apply → status.

use std::sync::Arc;
use std::time::Duration;

use dask_operator_api::labels::COOLDOWN_UNTIL;
use dask_operator_api::{
    ConditionType, Conditions, DaskAutoscaler, DaskAutoscalerStatus, DaskWorkerGroup, Reason,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::decide::{AutoscalerDecision, AutoscalerInput, COOLDOWN, decide_replicas};
use super::rivals::rival;
use super::{cooldown, ownership};
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::records::resource_version;
use crate::cluster_cache::snapshot::AutoscalerSnapshot;
use crate::context::Context;
use crate::controllers::announce::Announcement;
use crate::controllers::reconcile::{self, ReconcileError, refusal, write_status};
use crate::controllers::status_writer::Urgency;
use crate::controllers::takeover::{self, Claim, take_over};
use crate::writer::{Lane, WriteError};

/// How often the size of a group is written that changes in other ways all the time.
const TRIES: usize = 3;
/// How soon the watch shows what stood against a write.
const WATCH_LAG: Duration = Duration::from_millis(300);

/// Runs the controller until `shutdown`.
pub async fn run(store: Store<DaskAutoscaler>, ctx: Arc<Context>, shutdown: CancellationToken) {
    let triggers = ctx.cache.autoscaler_triggers();
    let forget = |ctx: &Context, key: &ObjectKey| {
        ctx.claims.autoscalers.clear(key);
        ctx.autoscaler_status.forget(key);
        ctx.backoff.reset("DaskAutoscaler", key);
    };
    reconcile::run(store, triggers, ctx, shutdown, forget, reconcile_autoscaler).await;
}

async fn reconcile_autoscaler(
    autoscaler: Arc<DaskAutoscaler>,
    ctx: Arc<Context>,
) -> Result<Action, ReconcileError> {
    let key = ObjectKey::of(&*autoscaler);
    let Some(snapshot) = ctx.cache.autoscaler_snapshot(&key) else { return Ok(Action::await_change()) };
    let autoscaler = &snapshot.autoscaler;
    let deleting = autoscaler.metadata.deletion_timestamp.is_some();
    let cluster = snapshot.cluster.as_deref().filter(|cluster| cluster.metadata.deletion_timestamp.is_none());
    let refusals = &ctx.claims.autoscalers;
    let mut claim = take_over(&ctx, refusals, &**autoscaler).await?;
    if claim == Claim::Held
        && let Some(patch) = ownership::patch(autoscaler, cluster.filter(|_| !deleting))
    {
        claim = takeover::claim(&ctx, refusals, &**autoscaler, &patch).await?;
        if claim == Claim::Written {
            info!(autoscaler = %key, "autoscaler adopted by its cluster");
        }
    }
    if claim == Claim::Written {
        // The watch shows the new version, without which further patches could not be told from stale ones.
        return Ok(Action::requeue(reconcile_interval()));
    }
    // It goes with its cluster: nothing is left to say.
    if deleting || (cluster.is_none() && ownership::goes_with_its_cluster(autoscaler)) {
        return Ok(claim.retry_after().map_or_else(Action::await_change, Action::requeue));
    }

    let now = Timestamp::now();
    let cluster_key = key.sibling(autoscaler.spec.cluster.as_str());
    let link = ctx.links.view(&cluster_key, cluster.and_then(|cluster| cluster.metadata.uid.as_deref()));
    let input = AutoscalerInput {
        cluster: &autoscaler.spec.cluster,
        cluster_exists: cluster.is_some(),
        rival: rival(autoscaler, &snapshot.others),
        minimum: autoscaler.spec.minimum,
        maximum: autoscaler.spec.maximum,
        current: snapshot.group.as_ref().map(|group| group.spec.worker.replicas),
        cooldown_until: cooldown::read(autoscaler),
        link: &link,
    };
    let mut decision = decide_replicas(input, now);
    if let Some(replicas) = decision.replicas {
        match scale(&ctx, &key, &snapshot, replicas, &decision, now).await {
            Ok(true) => {}
            // Whoever edited the group is right; it is looked at again.
            Ok(false) => return Ok(Action::requeue(reconcile_interval())),
            Err(error) => {
                let obstacle = refusal(error)?;
                decision = AutoscalerDecision {
                    replicas: None,
                    active: false,
                    reason: obstacle.reason,
                    message: obstacle.message,
                    ..decision
                };
            }
        }
    }
    ctx.metrics.autoscaler_decision(decision.reason);
    let wait = say(&ctx, autoscaler, &decision).await?;
    let requeue = decision.requeue_after.into_iter().chain(wait).chain(claim.retry_after()).min();
    Ok(requeue.map_or_else(Action::await_change, Action::requeue))
}

/// How soon to look again when an own write is about to be shown by the watch, which mostly is sooner.
fn reconcile_interval() -> Duration {
    Duration::from_secs(1)
}

/// Scales the group; `false` if somebody else did meanwhile.
///
/// Writes the rest before the change: killed in between, the autoscaler acts later, never faster than it may.
async fn scale(
    ctx: &Context,
    key: &ObjectKey,
    snapshot: &AutoscalerSnapshot,
    replicas: i32,
    decision: &AutoscalerDecision,
    now: Timestamp,
) -> Result<bool, WriteError> {
    let Some(group) = &snapshot.group else { return Ok(false) };
    let until = cooldown::written(now + COOLDOWN);
    let rest = json!({"metadata": {
        "annotations": {COOLDOWN_UNTIL: until}, "resourceVersion": snapshot.autoscaler.resource_version(),
    }});
    ctx.writer.merge_patch::<DaskAutoscaler>(key, &rest, Lane::Urgent).await?;
    let group_key = ObjectKey::of(&**group);
    if !resize(ctx, key, group, replicas).await? {
        info!(autoscaler = %key, group = %group_key.name, "the group was edited meanwhile, and stays as it is");
        return Ok(false);
    }
    info!(autoscaler = %key, group = %group_key.name, from = group.spec.worker.replicas, to = replicas, "group autoscaled");
    let message = format!("scaled \"{}\" {}", group_key.name, decision.message);
    ctx.announce(
        &*snapshot.autoscaler,
        &Announcement { reason: Reason::Autoscaled, message, warning: false },
    );
    Ok(true)
}

/// Gives the group another size, unless somebody else did since it was read: `KubeCluster.scale(n)` deletes the
/// autoscaler, sets the group's number and waits until it reads that number. Other changes of the group, such as its
/// status, are no matter.
async fn resize(
    ctx: &Context,
    autoscaler: &ObjectKey,
    group: &DaskWorkerGroup,
    replicas: i32,
) -> Result<bool, WriteError> {
    let key = ObjectKey::of(group);
    let mut version = group.resource_version();
    for _ in 0..TRIES {
        let patch = json!({
            "metadata": {"resourceVersion": version},
            "spec": {"worker": {"replicas": replicas}},
        });
        match ctx.writer.merge_patch::<DaskWorkerGroup>(&key, &patch, Lane::Urgent).await {
            Ok(scaled) => {
                ctx.cache.created_group(&scaled);
                return Ok(true);
            }
            Err(WriteError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        sleep(WATCH_LAG).await;
        let current = ctx.cache.autoscaler_snapshot(autoscaler).and_then(|snapshot| snapshot.group);
        let unedited = |current: &DaskWorkerGroup| {
            current.uid() == group.uid() && current.spec.worker.replicas == group.spec.worker.replicas
        };
        let Some(current) = current.filter(|current| unedited(current)) else { return Ok(false) };
        version = current.resource_version();
    }
    Ok(false)
}

/// Writes the condition if it changed.
async fn say(
    ctx: &Context,
    autoscaler: &DaskAutoscaler,
    decision: &AutoscalerDecision,
) -> Result<Option<Duration>, WriteError> {
    let key = ObjectKey::of(autoscaler);
    let uid = autoscaler.uid().unwrap_or_default();
    let version = resource_version(&autoscaler.metadata);
    let before = ctx.autoscaler_status.newest(&key, &uid, version, autoscaler.status.as_ref());
    let next = status(autoscaler, &before, decision, reconcile::now());
    write_status(ctx, &ctx.autoscaler_status, autoscaler, &before, next, Urgency::Routine).await
}

fn status(
    autoscaler: &DaskAutoscaler,
    previous: &DaskAutoscalerStatus,
    decision: &AutoscalerDecision,
    now: Timestamp,
) -> DaskAutoscalerStatus {
    let (generation, time) = (autoscaler.metadata.generation, Time(now));
    DaskAutoscalerStatus {
        conditions: Conditions::new(&previous.conditions, generation, &time)
            .set(ConditionType::ScalingActive, Some(decision.active), decision.reason, &decision.message)
            .build(),
        observed_generation: generation,
    }
}

#[cfg(test)]
mod tests {
    use dask_operator_api::DaskAutoscalerSpec;

    use super::*;

    #[test]
    fn the_condition_is_the_decision_and_the_same_one_writes_nothing() {
        let mut autoscaler = DaskAutoscaler::new("a", DaskAutoscalerSpec::default());
        autoscaler.metadata.generation = Some(3);
        let decision = AutoscalerDecision {
            replicas: None,
            active: true,
            reason: Reason::TargetReached,
            message: "as many as there are".to_owned(),
            requeue_after: None,
        };
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let first = status(&autoscaler, &DaskAutoscalerStatus::default(), &decision, at(1));
        let [condition] = first.conditions.as_slice() else { panic!("{first:?}") };
        assert_eq!((condition.type_.as_str(), condition.status.as_str()), ("ScalingActive", "True"));
        assert_eq!((condition.reason.as_str(), condition.observed_generation), ("TargetReached", Some(3)));
        assert_eq!(first.observed_generation, Some(3));
        assert_eq!(status(&autoscaler, &first, &decision, at(2)), first);
        let inactive = AutoscalerDecision { active: false, reason: Reason::ClusterNotFound, ..decision };
        let next = status(&autoscaler, &first, &inactive, at(2));
        assert_eq!(next.conditions[0].last_transition_time, Time(at(2)));
    }
}
