//! Starts and stops the task of each cluster, as the cache says and only while this process leads.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use kube::Client;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::connect::{Access, Dialer};
use super::link::Link;
use crate::cluster_cache::ObjectKey;
use crate::context::Context;

/// A task that runs.
#[derive(Debug)]
struct Running {
    /// UID of its cluster.
    cluster: String,
    wake: Arc<Notify>,
    task: AbortHandle,
}

struct Manager {
    ctx: Arc<Context>,
    dialer: Dialer,
    running: HashMap<ObjectKey, Running>,
    tasks: JoinSet<()>,
}

/// Keeps a link to the scheduler of every cluster until `shutdown`.
pub async fn run(kube: Client, ctx: Arc<Context>, shutdown: CancellationToken) {
    let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
    let Some(access) = Access::of(ctx.settings.scheduler_access, in_cluster) else {
        shutdown.cancelled().await;
        return;
    };
    info!(?access, "asking schedulers");
    let mut triggers = std::pin::pin!(ctx.cache.link_triggers().stream());
    let mut leading = ctx.leadership.changes();
    let dialer = Dialer::new(access, kube);
    let mut manager = Manager { ctx: ctx.clone(), dialer, running: HashMap::new(), tasks: JoinSet::new() };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(key) = triggers.next() => manager.look(&key),
            Ok(()) = leading.changed() => {
                if *leading.borrow_and_update() {
                    ctx.cache.wake_links();
                } else {
                    manager.stop();
                }
            }
            Some(_) = manager.tasks.join_next() => {}
        }
    }
    manager.stop();
}

impl Manager {
    /// Something about a cluster changed.
    fn look(&mut self, key: &ObjectKey) {
        let cluster = self.ctx.cache.cluster_snapshot(key).map(|snapshot| snapshot.cluster);
        let uid = cluster.filter(|cluster| cluster.metadata.deletion_timestamp.is_none());
        let uid = uid.and_then(|cluster| cluster.metadata.uid.clone());
        // One that was made again under the same name has nothing in common with the one before.
        if self.running.get(key).is_some_and(|running| Some(&running.cluster) != uid.as_ref()) {
            self.end(key);
        }
        let Some(uid) = uid else {
            self.ctx.links.forget(key);
            return;
        };
        if !self.ctx.leadership.is_leader() {
            return;
        }
        match self.running.get(key).filter(|running| !running.task.is_finished()) {
            Some(running) => running.wake.notify_one(),
            None => self.start(key, uid),
        }
    }

    fn start(&mut self, key: &ObjectKey, cluster: String) {
        debug!(cluster = %key, "link started");
        self.ctx.links.begin(key, &cluster);
        let wake = Arc::new(Notify::new());
        let of = (key.clone(), cluster.clone());
        let link = Link::new(of, self.ctx.clone(), self.dialer.clone(), wake.clone());
        let task = self.tasks.spawn(link.run());
        self.running.insert(key.clone(), Running { cluster, wake, task });
    }

    fn end(&mut self, key: &ObjectKey) {
        if let Some(running) = self.running.remove(key) {
            running.task.abort();
        }
        self.ctx.links.forget(key);
    }

    /// Whoever leads now has links of its own.
    fn stop(&mut self) {
        for (key, running) in self.running.drain() {
            running.task.abort();
            self.ctx.links.forget(&key);
        }
    }
}
