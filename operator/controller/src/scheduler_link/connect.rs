//! A connection to a scheduler, direct or through the API server.

use std::fmt;
use std::time::Duration;

use dask_operator_api::Reason;
use dask_protocol::{Deadlines, Error as DaskError, Limits, SchedulerClient};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, Portforwarder};
use thiserror::Error;
use tokio::time::timeout;

use super::target::Target;
use crate::error_chain::chain;
use crate::settings::SchedulerAccess;

/// Longest time until the API server has opened a port of a pod.
const FORWARD: Duration = Duration::from_secs(10);

/// How schedulers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// By the IP address of their pod, or else the name of their Service.
    Direct,
    /// By the API server, which forwards a port of their pod.
    PortForward,
}

impl Access {
    /// What a setting means here; `None` if schedulers are not to be asked at all.
    pub(super) fn of(setting: SchedulerAccess, in_cluster: bool) -> Option<Self> {
        match setting {
            SchedulerAccess::Auto if in_cluster => Some(Self::Direct),
            SchedulerAccess::Auto | SchedulerAccess::PortForward => Some(Self::PortForward),
            SchedulerAccess::Direct => Some(Self::Direct),
            SchedulerAccess::None => None,
        }
    }
}

/// Why a scheduler could not be asked.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    /// It did not answer, or not as Dask does.
    #[error(transparent)]
    Dask(#[from] DaskError),
    /// The API server did not open the port.
    #[error("failed to forward port {port} of pod {pod}")]
    Forward { pod: Box<str>, port: u16, source: Box<kube::Error> },
    /// The API server did not answer in time, or without a stream.
    #[error("failed to forward port {port} of pod {pod}: the API server does not answer")]
    NoForward { pod: Box<str>, port: u16 },
}

impl LinkError {
    /// The word for condition, Event and metric.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Dask(
                DaskError::Garbled { .. } | DaskError::Unsupported { .. } | DaskError::Remote { .. },
            ) => Reason::SchedulerGarbled,
            _ => Reason::SchedulerUnreachable,
        }
    }

    /// Whether the connection was lost, as when the peer had restarted since the last question.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Dask(DaskError::Closed { .. }))
    }

    /// One sentence for a person.
    pub(super) fn message(&self, target: &Target) -> String {
        let verb = if self.reason() == Reason::SchedulerGarbled {
            "answers what cannot be understood"
        } else {
            "does not answer"
        };
        format!("the scheduler in pod \"{}\" {verb}: {}", target.pod, chain(self))
    }
}

/// An open connection to a scheduler.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: SchedulerClient,
    /// Whether the telemetry module is loaded there, once it is known.
    pub(super) telemetry: Option<bool>,
    _forward: Option<Forward>,
}

impl Connection {
    /// Connects.
    pub(super) async fn open(
        access: Access,
        kube: &Client,
        target: &Target,
        deadlines: Deadlines,
    ) -> Result<Self, LinkError> {
        let limits = Limits::default();
        let (client, forward) = match access {
            Access::Direct => (direct(target, limits, deadlines).await?, None),
            Access::PortForward => {
                let (stream, forward) = forward(kube, target).await?;
                (SchedulerClient::over(stream, limits, deadlines).await?, Some(forward))
            }
        };
        Ok(Self { client, telemetry: None, _forward: forward })
    }

    /// Says goodbye.
    pub(super) async fn close(self) {
        self.client.close().await;
    }
}

async fn direct(target: &Target, limits: Limits, deadlines: Deadlines) -> Result<SchedulerClient, LinkError> {
    let service = SchedulerClient::connect(&target.service_address, limits, deadlines);
    let Some(address) = &target.pod_address else { return Ok(service.await?) };
    match SchedulerClient::connect(address, limits, deadlines).await {
        Ok(client) => Ok(client),
        // A network policy or a proxy may let only the Service through.
        Err(error @ (DaskError::Connect { .. } | DaskError::Timeout { .. })) => {
            service.await.map_err(|_| error.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// A port of a pod that the API server forwards. It ends when this is dropped.
struct Forward(Portforwarder);

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Forward")
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn forward(
    kube: &Client,
    target: &Target,
) -> Result<(impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static, Forward), LinkError>
{
    let Target { pod, port, .. } = target;
    let pods: Api<Pod> = Api::namespaced(kube.clone(), &target.namespace);
    let silent = || LinkError::NoForward { pod: pod.clone(), port: *port };
    let opened = timeout(FORWARD, pods.portforward(pod, &[*port])).await.map_err(|_| silent())?;
    let opened = opened.map_err(|source| LinkError::Forward {
        pod: pod.clone(),
        port: *port,
        source: Box::new(source),
    })?;
    let mut forward = Forward(opened);
    let stream = forward.0.take_stream(*port).ok_or_else(silent)?;
    Ok((stream, forward))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[rstest]
    #[case(SchedulerAccess::Auto, true, Some(Access::Direct))]
    #[case(SchedulerAccess::Auto, false, Some(Access::PortForward))]
    #[case(SchedulerAccess::Direct, false, Some(Access::Direct))]
    #[case(SchedulerAccess::PortForward, true, Some(Access::PortForward))]
    #[case(SchedulerAccess::None, true, None)]
    fn the_setting(
        #[case] setting: SchedulerAccess,
        #[case] in_cluster: bool,
        #[case] access: Option<Access>,
    ) {
        assert_eq!(Access::of(setting, in_cluster), access);
    }

    fn target(address: Option<String>, service_address: String) -> Target {
        Target {
            namespace: "ns".to_owned(),
            pod: "p".into(),
            uid: "u".into(),
            pod_address: address,
            service_address,
            port: 8786,
        }
    }

    fn deadlines() -> Deadlines {
        let short = Duration::from_millis(300);
        Deadlines { connect: short, handshake: short, call: short, retire: short }
    }

    /// A port on which nobody listens.
    async fn closed_port() -> String {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
    }

    async fn open(target: &Target) -> Result<SchedulerClient, LinkError> {
        direct(target, Limits::default(), deadlines()).await
    }

    #[tokio::test]
    async fn nobody_listens() {
        let target = target(Some(closed_port().await), closed_port().await);
        let error = open(&target).await.unwrap_err();
        assert_eq!(error.reason(), Reason::SchedulerUnreachable);
        let message = error.message(&target);
        assert!(message.contains("pod \"p\"") && message.contains("refused"), "{message}");
        assert!(message.contains(&target.pod_address.unwrap()), "the pod's address counts: {message}");
    }

    #[tokio::test]
    async fn the_service_is_tried_when_the_pod_cannot_be_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(Some(closed_port().await), listener.local_addr().unwrap().to_string());
        let (_, accepted) = tokio::join!(open(&target), listener.accept());
        accepted.unwrap();
    }

    #[tokio::test]
    async fn garbage_is_told_apart_from_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(Some(listener.local_addr().unwrap().to_string()), closed_port().await);
        let web = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            let _ = stream.read(&mut [0; 256]).await;
        };
        let (error, ()) = tokio::join!(open(&target), web);
        let error = error.unwrap_err();
        assert_eq!(error.reason(), Reason::SchedulerGarbled, "{error}");
        assert!(error.message(&target).contains("cannot be understood"));
    }
}
