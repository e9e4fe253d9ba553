//! What is known of how the pods of a cluster start, beyond what the cache shows: asked for while they wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dask_operator_api::DaskCluster;
use jiff::Timestamp;

use super::decide::Modules;
use super::modules::{self, Stored};
use super::updating;
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::snapshot::{ClusterSnapshot, job_of, runner_of};
use crate::context::Context;
use crate::controllers::obstacle::{Purpose, StandingRefusal};
use crate::controllers::waiting::{self, Explanation, Waiter};
use crate::pods::form::{PodForm, image_of_script};
use crate::pods::invocation::Role;

/// What is known of how the pods of a cluster start.
#[derive(Debug)]
pub(super) struct Start {
    /// The form in which its scheduler is made.
    pub(super) form: PodForm,
    refused: Option<StandingRefusal>,
    vanished: bool,
    scheduler: Explanation,
    runner: Explanation,
    /// When to look again without being woken.
    pub(super) look_again: Option<Duration>,
}

/// Looks at the pods of a cluster; asks the API server only about pods that have waited for long.
pub(super) async fn observe(ctx: &Context, snapshot: &ClusterSnapshot, now: Timestamp) -> Start {
    let (cluster, starts) = (&*snapshot.cluster, &ctx.starts);
    let key = ObjectKey::of(cluster);
    let workers = snapshot.groups.iter().flat_map(|members| &members.workers);
    let pods = snapshot.scheduler_pods.iter().chain(workers);
    starts.learn(&key.namespace, snapshot.deployment.as_deref(), pods);
    let image = image_of_script(&cluster.spec.scheduler.spec, Role::Scheduler);
    // A webhook may have given the pod another image than its template has.
    if let Some(image) = image.filter(|_| is_missing(snapshot)) {
        starts.lacking.remember(&key.namespace, image);
    }
    let refused = starts.module_refusals.standing(&key, &cluster.metadata, Purpose::Creation, Instant::now());
    let (vanished, again) = modules::vanished(ctx, snapshot, now).await;
    let spec = &cluster.spec.scheduler.spec;
    let waiter = Waiter::longest(&snapshot.scheduler_pods);
    let scheduler = waiting::why(ctx, &starts.schedulers, &key, waiter, spec, now).await;
    let runner = runner(ctx, snapshot, &key, now).await;
    Start {
        form: PodForm {
            telemetry: ctx.settings.telemetry(),
            lacking: image.filter(|image| starts.lacking.contains(&key.namespace, *image)),
        },
        look_again: [again, scheduler.look_again, runner.look_again].into_iter().flatten().min(),
        refused,
        vanished,
        scheduler,
        runner,
    }
}

/// The runner's pod was made by its job, whose template is not at hand: only its Events tell why it waits.
async fn runner(ctx: &Context, snapshot: &ClusterSnapshot, key: &ObjectKey, now: Timestamp) -> Explanation {
    let runner = job_of(&snapshot.cluster).and_then(|job| runner_of(job, snapshot.runner.as_deref()));
    let waiter =
        runner.and_then(|runner| Some(Waiter::new(&runner.name, &runner.uid, runner.waiting_since?)));
    waiting::why(ctx, &ctx.starts.runners, key, waiter, &k8s_openapi::api::core::v1::PodSpec::default(), now)
        .await
}

/// Whether a scheduler of the cluster's own template lacks its command.
fn is_missing(snapshot: &ClusterSnapshot) -> bool {
    let lacking = snapshot.scheduler_pods.iter().any(|pod| pod.startup.command_missing.is_some());
    let deployment = snapshot.deployment.as_deref().filter(|_| lacking);
    deployment.is_some_and(|deployment| !updating::is_outdated(deployment, &snapshot.cluster))
}

impl Start {
    /// For the decision.
    pub(super) fn modules(&self) -> Modules<'_> {
        Modules { refused: self.refused.as_ref(), vanished: self.vanished }
    }

    /// Gives what was found to the pods of the snapshot, so that conditions tell it.
    pub(super) fn explain(&self, snapshot: &mut ClusterSnapshot, now: Timestamp) {
        self.scheduler.explain(&mut snapshot.scheduler_pods, now);
        if let (Some(problem), Some(runner)) = (&self.runner.problem, &mut snapshot.runner)
            && runner.problem.is_none()
            && runner.waiting_since.is_some()
        {
            Arc::make_mut(runner).problem = Some(problem.clone());
        }
    }
}

/// Keeps what became of storing the ConfigMap; returns when to try again.
pub(super) fn stored(ctx: &Context, cluster: &DaskCluster, stored: &Stored) -> Option<Duration> {
    let (key, refusals) = (ObjectKey::of(cluster), &ctx.starts.module_refusals);
    let Some(obstacle) = stored.obstacle() else {
        refusals.clear(&key);
        return None;
    };
    Some(refusals.refused(&key, &cluster.metadata, Purpose::Creation, obstacle.clone(), Instant::now()))
}
