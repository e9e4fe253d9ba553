//! Speaks for the schedulers: publishes what the operator's link would have heard from them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dask_operator::cluster_cache::ObjectKey;
use dask_operator::context::Context;
use dask_operator::scheduler_link::{Idleness, LinkFailure, LinkView, Sample, Source};
use dask_operator_api::Reason;
use integration_tests::World;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What a scheduler says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Says {
    /// Workers that it wants.
    pub target: Option<u64>,
    /// Whether it is idle.
    pub idleness: Idleness,
    /// It does not answer.
    pub silent: bool,
}

impl Says {
    pub fn wants(target: u64) -> Self {
        Self { target: Some(target), idleness: Idleness::Busy, silent: false }
    }

    pub fn idle(idleness: Idleness) -> Self {
        Self { target: None, idleness, silent: false }
    }
}

/// The voice of one cluster's scheduler. Dropping it silences it.
pub struct Voice {
    says: watch::Sender<Says>,
    task: JoinHandle<()>,
}

impl Voice {
    /// Says so from now on, again and again as a link that polls.
    pub fn start(world: &World, cluster: &str, says: Says) -> Self {
        let key = ObjectKey::new(world.namespace.name.as_str(), cluster);
        let context = world.operator.context();
        let (says, mut heard) = watch::channel(says);
        let task = tokio::spawn(async move {
            loop {
                let says = *heard.borrow_and_update();
                publish(&context, &key, says);
                context.cache.wake_cluster(&key);
                context.cache.wake_autoscalers_of(&key);
                while timeout(Duration::from_millis(200), heard.changed()).await.is_err() {
                    publish(&context, &key, says);
                }
            }
        });
        Self { says, task }
    }

    pub fn say(&self, says: Says) {
        self.says.send_replace(says);
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn publish(context: &Context, key: &ObjectKey, says: Says) {
    let sample = Sample {
        taken: Timestamp::now(),
        scheduler_id: "Scheduler-test".into(),
        started: None,
        source: Source::Standard,
        workers: 0,
        threads: 0,
        queued: None,
        unrunnable: None,
        adaptive_target: says.target,
        idleness: says.idleness,
        members: None,
        drains: BTreeMap::new(),
    };
    let failure = LinkFailure {
        reason: Reason::SchedulerUnreachable,
        message: "the scheduler does not answer".to_owned(),
        since: Timestamp::UNIX_EPOCH,
    };
    let view =
        LinkView { asked: true, sample: Some(Arc::new(sample)), failure: says.silent.then_some(failure) };
    context.links.publish(key, view);
}
