//! What is known of how the workers of a group start, beyond what the cache shows: asked for while they wait.

use std::sync::Arc;

use dask_operator_api::DaskWorkerGroup;
use jiff::Timestamp;

use super::build::template_hash;
use crate::cluster_cache::ObjectKey;
use crate::cluster_cache::records::PodRecord;
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::context::Context;
use crate::controllers::waiting::{self, Explanation, Waiter};
use crate::pods::form::{PodForm, image_of_script};
use crate::pods::invocation::Role;
use crate::pods::telemetry::Telemetry;

/// What is known of how the workers of a group start.
#[derive(Debug)]
pub(super) struct Start {
    /// The form in which they are made.
    pub(super) form: PodForm,
    /// Why they wait on their node.
    pub(super) waiting: Explanation,
}

/// Looks at the workers of a group; asks the API server only about one that has waited for long.
pub(super) async fn observe(
    ctx: &Context,
    snapshot: &GroupSnapshot,
    key: &ObjectKey,
    now: Timestamp,
) -> Start {
    let (members, starts) = (&snapshot.members, &ctx.starts);
    starts.learn(&key.namespace, None, members.workers.iter().chain(&snapshot.scheduler_pods));
    let spec = &members.group.spec.worker.spec;
    let telemetry = Telemetry::new(ctx.settings.telemetry().is_on() && snapshot.modules_stored);
    let image = image_of_script(spec, Role::Worker);
    // A webhook may have given the pod another image than its template has.
    if let Some(image) = image.filter(|_| is_missing(&members.workers, &members.group)) {
        starts.lacking.remember(&key.namespace, image);
    }
    let lacking = image.filter(|image| starts.lacking.contains(&key.namespace, *image));
    let waiter = Waiter::longest_worker(&members.workers, &snapshot.scheduler_pods);
    let waiting = waiting::why(ctx, &starts.workers, key, waiter, spec, now).await;
    Start { form: PodForm { telemetry, lacking }, waiting }
}

/// Whether a worker of the group's own template lacks its command.
fn is_missing(workers: &[Arc<PodRecord>], group: &DaskWorkerGroup) -> bool {
    let mut lacking = workers.iter().filter(|pod| pod.startup.command_missing.is_some()).peekable();
    if lacking.peek().is_none() {
        return false;
    }
    let hash = template_hash(group).ok();
    lacking.any(|pod| pod.template_hash.is_none() || pod.template_hash.as_deref() == hash.as_deref())
}
