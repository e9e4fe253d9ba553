//! A connection to a scheduler, direct or through the API server.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use dask_operator_api::Reason;
use dask_operator_api::conditions::MAX_MESSAGE;
use dask_protocol::{Budget, Deadlines, Error as DaskError, Limits, SchedulerClient, printable};
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
    /// By the IP address of their pod, or else that of their Service.
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
    /// Neither the pod nor the Service has an address.
    #[error("the pod has no IP address yet")]
    NoAddress,
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
            Self::Dask(DaskError::TooLarge { .. }) => Reason::SchedulerAnswerTooLarge,
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

    /// Whether the answer took memory or time before it was of no use, so that it is not asked for often.
    pub(super) fn is_costly(&self) -> bool {
        matches!(
            self,
            Self::Dask(DaskError::TooLarge { .. } | DaskError::Garbled { .. } | DaskError::TooSlow { .. })
        )
    }

    /// One sentence for a person. Whoever listens at an address may be anybody, and whoever reads conditions need not
    /// have the right to talk to him: nothing that was answered is in it, neither bytes nor the text of an exception.
    pub(super) fn message(&self, target: &Target) -> String {
        let what = match self {
            Self::Dask(DaskError::Garbled { step, .. }) => {
                format!("answers, but not as Dask does: failed to {step}")
            }
            Self::Dask(DaskError::Remote { op, .. }) => {
                format!("answers {op} with an exception, which its log tells")
            }
            Self::Dask(DaskError::Unsupported { op, expected }) => {
                format!("answers {op} in a form that is not understood: expected {expected}")
            }
            Self::Dask(DaskError::TooLarge { step, what, limit }) => format!(
                "answers more than is read of it: failed to {step}, as the answer has more than {limit} {what}; a \
                 cluster that has so many workers needs the telemetry module, whose answers are short, or has to be \
                 divided"
            ),
            other => format!("does not answer: {}", chain(other)),
        };
        printable(&format!("the scheduler in pod \"{}\" {what}", target.pod), MAX_MESSAGE)
    }
}

/// How connections are opened. Clones share the budget.
#[derive(Clone)]
pub(super) struct Dialer {
    access: Access,
    kube: Client,
    budget: Budget,
    deadlines: Deadlines,
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("access", &self.access).finish_non_exhaustive()
    }
}

impl Dialer {
    /// Opens connections in this way; their answers share one budget.
    pub(super) fn new(access: Access, kube: Client) -> Self {
        Self { access, kube, budget: Budget::default(), deadlines: Deadlines::default() }
    }

    /// Connects to the scheduler of a cluster that has so many pods.
    pub(super) async fn open(&self, target: &Target, pods: usize) -> Result<Connection, LinkError> {
        let limits = Limits { pods, ..Limits::sharing(&self.budget) };
        let (client, forward) = match self.access {
            Access::Direct => (direct(target, &limits, self.deadlines).await?, None),
            Access::PortForward => {
                let (stream, forward) = forward(&self.kube, target).await?;
                (SchedulerClient::over(stream, limits, self.deadlines).await?, Some(forward))
            }
        };
        Ok(Connection { client, telemetry: None, _forward: forward })
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
    /// Says goodbye.
    pub(super) async fn close(self) {
        self.client.close().await;
    }
}

/// By IP addresses that Kubernetes gave, and never by a name, which would be the user's choice.
async fn direct(
    target: &Target,
    limits: &Limits,
    deadlines: Deadlines,
) -> Result<SchedulerClient, LinkError> {
    let connect = |address: SocketAddr| async move {
        SchedulerClient::connect(&address.to_string(), limits.clone(), deadlines).await
    };
    match (target.pod_address, target.service_address) {
        (Some(pod), service) => match (connect(pod).await, service) {
            // A network policy or a proxy may let only the Service through.
            (Err(error @ (DaskError::Connect { .. } | DaskError::Timeout { .. })), Some(service)) => {
                connect(service).await.map_err(|_| error.into())
            }
            (result, _) => Ok(result?),
        },
        (None, Some(service)) => Ok(connect(service).await?),
        (None, None) => Err(LinkError::NoAddress),
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

    use dask_protocol::Step;

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

    fn target(pod_address: Option<SocketAddr>, service_address: Option<SocketAddr>) -> Target {
        Target {
            namespace: "ns".to_owned(),
            pod: "p".into(),
            uid: "u".into(),
            pod_address,
            service_address,
            port: 8786,
        }
    }

    fn deadlines() -> Deadlines {
        let short = Duration::from_millis(300);
        Deadlines { connect: short, handshake: short, call: short, retire: short, transfer: short }
    }

    /// A port on which nobody listens.
    async fn closed_port() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    async fn open(target: &Target) -> Result<SchedulerClient, LinkError> {
        direct(target, &Limits::default(), deadlines()).await
    }

    #[tokio::test]
    async fn nobody_listens() {
        let target = target(Some(closed_port().await), Some(closed_port().await));
        let error = open(&target).await.unwrap_err();
        assert_eq!(error.reason(), Reason::SchedulerUnreachable);
        let message = error.message(&target);
        assert!(message.contains("pod \"p\"") && message.contains("refused"), "{message}");
        let address = target.pod_address.unwrap().to_string();
        assert!(message.contains(&address), "the pod's address counts: {message}");
    }

    #[tokio::test]
    async fn nobody_has_an_address() {
        let target = target(None, None);
        let error = open(&target).await.unwrap_err();
        assert_eq!((error.reason(), error.is_costly()), (Reason::SchedulerUnreachable, false));
        assert!(error.message(&target).contains("no IP address"), "{}", error.message(&target));
    }

    #[tokio::test]
    async fn the_service_is_tried_when_the_pod_cannot_be_reached() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().ok();
        for pod in [Some(closed_port().await), None] {
            let target = target(pod, address);
            let (_, accepted) = tokio::join!(open(&target), listener.accept());
            accepted.unwrap();
        }
    }

    /// What a client is told that connects to one who says this.
    async fn told_by(words: &'static [u8]) -> LinkError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(listener.local_addr().ok(), Some(closed_port().await));
        let stranger = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(words).await.unwrap();
            let _ = stream.read(&mut [0; 256]).await;
        };
        let (error, ()) = tokio::join!(open(&target), stranger);
        error.unwrap_err()
    }

    #[rstest]
    #[case::web(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")]
    #[case::shell(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")]
    #[case::database(b"J\0\0\0\x0a8.0.35-0ubuntu0.22.04.1\0\x08\0\0\0aaaaaaaaa")]
    #[case::alert(b"\x15\x03\x03\x00\x02\x02\x28\x15\x03\x03\x00\x02\x02\x28")]
    #[case::a_size_beyond_the_limit(b"\0\0\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0")]
    #[tokio::test]
    async fn strangers_are_told_apart_from_silence_and_not_quoted(#[case] words: &'static [u8]) {
        let error = told_by(words).await;
        assert_eq!((error.reason(), error.is_costly()), (Reason::SchedulerGarbled, true), "{error:?}");
        let target = target(None, None);
        let expected = "the scheduler in pod \"p\" answers, but not as Dask does: failed to shake hands";
        assert_eq!(error.message(&target), expected);
    }

    #[test]
    fn nothing_of_an_answer_is_quoted() {
        let target = target(None, None);
        let step = Step::Call("identity".to_owned());
        let secret = || "hunter2".to_owned();
        let errors = [
            DaskError::Remote { op: "identity".to_owned(), exception_text: secret() },
            DaskError::Garbled { step: step.clone(), source: secret().into() },
        ];
        for error in errors.map(LinkError::from) {
            let message = error.message(&target);
            assert!(!message.contains("hunter2") && message.contains("identity"), "{message}");
            assert_eq!(error.reason(), Reason::SchedulerGarbled);
        }
        let error = LinkError::from(DaskError::TooLarge { step, what: "workers", limit: 7 });
        assert_eq!((error.reason(), error.is_costly()), (Reason::SchedulerAnswerTooLarge, true));
        let message = error.message(&target);
        assert!(message.contains("more than 7 workers") && message.contains("telemetry module"), "{message}");
    }
}
