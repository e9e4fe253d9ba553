//! The calls that retire workers, on connections of their own: each can take minutes, and polling goes on meanwhile.

use dask_protocol::Retirement;
use tokio::task::JoinSet;
use tracing::debug;

use super::connect::{Connection, Dialer, LinkError};
use super::drain::{Answer, How};
use super::drains::Batch;
use super::target::Target;

/// A call that came back.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) batch: Batch,
    pub(super) answer: Answer,
    connection: Option<Connection>,
}

/// The calls under way, and connections for the next ones. Dropping it ends them.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: JoinSet<Done>,
    spare: Vec<Connection>,
}

impl Calls {
    /// Sends a call to the scheduler of a cluster that has so many pods.
    pub(super) fn start(&mut self, batch: Batch, dialer: &Dialer, target: &Target, pods: usize) {
        let (spare, dialer, target) = (self.spare.pop(), dialer.clone(), target.clone());
        self.calls.spawn(async move {
            match call(&batch, spare, &dialer, &target, pods).await {
                Ok((confirmed, connection)) => {
                    Done { batch, answer: Answer::Confirmed(confirmed), connection: Some(connection) }
                }
                Err(error) => {
                    debug!(pod = %target.pod, how = ?batch.how, %error, "workers could not be retired");
                    Done { batch, answer: Answer::Failed, connection: None }
                }
            }
        });
    }

    /// Waits for a call to come back; never does if none is under way.
    pub(super) async fn next(&mut self) -> Done {
        loop {
            match self.calls.join_next().await {
                Some(Ok(mut done)) => {
                    self.spare.extend(done.connection.take());
                    return done;
                }
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Closes the connections that are not needed now.
    pub(super) async fn rest(&mut self) {
        if self.calls.is_empty() {
            for connection in self.spare.drain(..) {
                connection.close().await;
            }
        }
    }
}

async fn call(
    batch: &Batch,
    spare: Option<Connection>,
    dialer: &Dialer,
    target: &Target,
    pods: usize,
) -> Result<(Vec<String>, Connection), LinkError> {
    let mut connection = match spare.filter(|connection| connection.client.is_usable()) {
        Some(connection) => connection,
        None => dialer.open(target, pods).await?,
    };
    let how = match batch.how {
        How::Fence => Retirement::Fence,
        How::Close => Retirement::Close,
    };
    let confirmed = connection.client.retire(&batch.addresses(), how).await?;
    Ok((confirmed, connection))
}
