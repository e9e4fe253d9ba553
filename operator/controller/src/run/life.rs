//! What the operator does from its start to its end, in order.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::oneshot::Receiver;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use super::{ClientError, RunError};
use crate::cluster_cache::{Scope, watch};
use crate::context::Context;
use crate::controllers::{autoscaler, cluster, group, job, unreadable};
use crate::leader::{self, Connect, Election};
use crate::preflight::{Findings, Inspections};
use crate::scheduler_link;
use crate::web::health::Heartbeat;

/// Longest time for running reconciliations to finish after the stop was asked for.
const FINISH_LIMIT: Duration = Duration::from_secs(10);
/// Longest time to send the Events that wait.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

pub(super) struct Life {
    pub(super) client: Client,
    pub(super) context: Arc<Context>,
    pub(super) inspections: Inspections,
    pub(super) findings: Findings,
    pub(super) heartbeat: Heartbeat,
    pub(super) election: Option<(Election, Connect<ClientError>)>,
    pub(super) shutdown: CancellationToken,
    /// Stops the server when the operator ends, or is dropped with its runtime.
    pub(super) web: DropGuard,
}

impl Life {
    pub(super) async fn live(mut self) -> Result<(), RunError> {
        let _web = self.web;
        let mut helpers = JoinSet::new();
        helpers.spawn(self.heartbeat.beat());
        let cache = self.context.cache.clone();
        let troubled = move || cache.watch_health().iter().any(|watch| watch.seconds_failing.is_some());
        helpers.spawn(self.inspections.run(troubled));

        let shutdown = self.shutdown.clone();
        let Some(namespaces) = shutdown.run_until_cancelled(self.findings.complete()).await else {
            return Ok(());
        };
        let scope = namespaces.map_or(Scope::All, |names| Scope::Namespaces(names.into_iter().collect()));
        info!(?scope, "watching");
        let watching = CancellationToken::new();
        let _watching = watching.clone().drop_guard();
        let mut watches = watch(&self.client, &scope, &self.context.cache, &watching);
        if shutdown.run_until_cancelled(self.context.cache.wait_ready()).await.is_none() {
            return Ok(());
        }
        // Whoever leads can act at once, so only now.
        let electing = CancellationToken::new();
        let _electing = electing.clone().drop_guard();
        let election =
            self.election.map(|(election, connect)| leader::spawn(election, connect, electing.clone()));
        let mut election = election.transpose().map_err(RunError::Election)?;

        let stop = CancellationToken::new();
        let mut controllers = JoinSet::new();
        let (cache, context) = (&self.context.cache, &self.context);
        controllers.spawn(cluster::run(cache.cluster_store(), context.clone(), stop.clone()));
        controllers.spawn(group::run(cache.group_store(), context.clone(), stop.clone()));
        controllers.spawn(scheduler_link::run(self.client.clone(), context.clone(), stop.clone()));
        controllers.spawn(job::run(cache.job_store(), context.clone(), stop.clone()));
        controllers.spawn(unreadable::run(context.clone(), stop.clone()));
        controllers.spawn(autoscaler::run(cache.autoscaler_store(), context.clone(), stop.clone()));
        info!("started");

        let ended = tokio::select! {
            () = shutdown.cancelled() => None,
            Some(_) = controllers.join_next() => Some("a controller"),
            Some(_) = watches.join_next() => Some("a watch"),
            Some(_) = helpers.join_next() => Some("the inspections"),
            () = end_of(&mut election) => Some("the election"),
        };
        info!(ended, "stopping");
        stop.cancel();
        finish(&mut controllers).await;
        self.context.events.flush(FLUSH_LIMIT).await;
        electing.cancel();
        end_of_release(election).await;
        info!("stopped");
        ended.map_or(Ok(()), |part| Err(RunError::Ended(part)))
    }
}

/// Lets running reconciliations finish.
async fn finish(controllers: &mut JoinSet<()>) {
    let all = async { while controllers.join_next().await.is_some() {} };
    if timeout(FINISH_LIMIT, all).await.is_err() {
        warn!(limit = ?FINISH_LIMIT, "stopped before all reconciliations had finished; the next start completes them");
        controllers.shutdown().await;
    }
}

/// Comes back when the election ends; never without one.
async fn end_of(election: &mut Option<Receiver<()>>) {
    match election {
        Some(end) => drop(end.await),
        None => std::future::pending().await,
    }
}

/// Waits for the Lease to be given back, which has a limit of its own.
async fn end_of_release(election: Option<Receiver<()>>) {
    if let Some(end) = election.filter(|end| !end.is_terminated()) {
        let _ = end.await;
    }
}
