//! The tower layer.

use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::Body;
use tokio::time::sleep;
use tower::{BoxError, Layer, Service};

use super::watches::shape;
use super::{Call, Fault, Faults};

/// A client's service with [`Faults`] before it.
#[derive(Debug)]
pub struct FaultService<S> {
    inner: S,
    faults: Faults,
}

impl<S> Layer<S> for Faults {
    type Service = FaultService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FaultService { inner, faults: self.clone() }
    }
}

type Reply = Response<UnsyncBoxBody<Bytes, BoxError>>;

impl<S, B> Service<Request<Body>> for FaultService<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: BodyExt<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Reply;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Reply, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let faults = self.faults.clone();
        if faults.is_dead() {
            return failure("the process is dead");
        }
        let call = Call::of(request.method(), request.uri());
        let is_watch = call.verb == "watch";
        let sent_body = call.is_write().then(|| request.body().try_clone()).flatten();
        let (index, fault) = faults.begin(call);
        match &fault {
            Fault::FailBeforeSending => return failure("failed before sending"),
            Fault::Refuse(refusal) => {
                let refusal = refusal.clone();
                return Box::pin(async move { refusal.response() });
            }
            _ => {}
        }
        let reply = self.inner.call(request);
        Box::pin(async move {
            if let Some(body) = sent_body {
                note_body(&faults, index, body).await;
            }
            let reply = reply.await.map_err(Into::into)?;
            faults.note_status(index, reply.status().as_u16());
            match fault {
                Fault::LoseReply => return Err("the reply was lost".into()),
                Fault::Crash => {
                    faults.crash();
                    return Err("the process is dead".into());
                }
                Fault::DelayReply(delay) => sleep(delay).await,
                _ if faults.is_dead() => return Err("the process is dead".into()),
                _ => {}
            }
            let (parts, body) = reply.into_parts();
            let body = if is_watch {
                shape(body, faults.shared.watches.subscribe(), &fault)
            } else {
                body.map_err(Into::into).boxed_unsync()
            };
            Ok(Response::from_parts(parts, body))
        })
    }
}

fn failure(message: &'static str) -> BoxFuture<'static, Result<Reply, BoxError>> {
    Box::pin(std::future::ready(Err(message.into())))
}

async fn note_body(faults: &Faults, index: usize, body: Body) {
    if let Ok(bytes) = body.collect_bytes().await
        && let Ok(json) = serde_json::from_slice(&bytes)
    {
        faults.note_body(index, json);
    }
}
