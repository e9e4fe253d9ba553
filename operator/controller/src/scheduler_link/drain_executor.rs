//! The calls that retire workers, on connections of their own: each can take minutes, and polling goes on meanwhile.

use dask_protocol::{Deadlines, Retirement};
use kube::Client;
use tokio::task::JoinSet;
use tracing::debug;

use super::connect::{Access, Connection, LinkError};
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
    /// Sends a call.
    pub(super) fn start(
        &mut self,
        batch: Batch,
        access: Access,
        kube: &Client,
        target: &Target,
        deadlines: Deadlines,
    ) {
        let (spare, kube, target) = (self.spare.pop(), kube.clone(), target.clone());
        self.calls.spawn(async move {
            match call(&batch, spare, access, &kube, &target, deadlines).await {
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
    access: Access,
    kube: &Client,
    target: &Target,
    deadlines: Deadlines,
) -> Result<(Vec<String>, Connection), LinkError> {
    let mut connection = match spare.filter(|connection| connection.client.is_usable()) {
        Some(connection) => connection,
        None => Connection::open(access, kube, target, deadlines).await?,
    };
    let how = match batch.how {
        How::Fence => Retirement::Fence,
        How::Close => Retirement::Close,
    };
    let confirmed = connection.client.retire(&batch.addresses(), how).await?;
    Ok((confirmed, connection))
}
