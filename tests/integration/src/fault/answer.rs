//! Answers that the API server might have given.

use bytes::Bytes;
use http::{Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tower::BoxError;

/// An answer by status code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    code: u16,
    reason: &'static str,
    message: &'static str,
    retry_after: Option<u32>,
}

impl Refusal {
    /// 403: RBAC says no.
    pub const FORBIDDEN: Self =
        Self::new(403, "Forbidden", "forbidden: User \"dask-operator\" may not do this");
    /// 409: somebody else wrote in between.
    pub const CONFLICT: Self = Self::new(
        409,
        "Conflict",
        "the object has been modified; please apply your changes to the latest version",
    );
    /// 410: a watch starts too far back.
    pub const GONE: Self = Self::new(410, "Expired", "too old resource version");
    /// 422: the object is not valid.
    pub const INVALID: Self = Self::new(422, "Invalid", "is invalid: spec: Invalid value: injected");
    /// 429: too many requests; to be tried again after one second.
    pub const TOO_MANY_REQUESTS: Self = Self {
        retry_after: Some(1),
        ..Self::new(429, "TooManyRequests", "the server has received too many requests")
    };
    /// 500: the API server has a problem.
    pub const INTERNAL_ERROR: Self = Self::new(500, "InternalError", "Internal error occurred: injected");
    /// 503: the API server is not ready.
    pub const UNAVAILABLE: Self = Self::new(503, "ServiceUnavailable", "the server is currently unable");
    /// 504: etcd did not answer in time.
    pub const TIMEOUT: Self =
        Self::new(504, "Timeout", "request did not complete within the allotted timeout");

    const fn new(code: u16, reason: &'static str, message: &'static str) -> Self {
        Self { code, reason, message, retry_after: None }
    }

    /// The response, with a `Status` as body.
    pub(super) fn response(&self) -> Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError> {
        let mut details = json!({});
        if let Some(seconds) = self.retry_after {
            details["retryAfterSeconds"] = seconds.into();
        }
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code, "details": details,
        });
        let mut response =
            Response::builder().status(self.code).header(header::CONTENT_TYPE, "application/json");
        if let Some(seconds) = self.retry_after {
            response = response.header(header::RETRY_AFTER, seconds);
        }
        let body = Full::new(Bytes::from(status.to_string())).map_err(|never| match never {});
        Ok(response.body(body.boxed_unsync())?)
    }
}
