use std::sync::Mutex;

use dask_operator_api::{DaskCluster, Reason};
use http::Response;
use k8s_openapi::api::core::v1::{Pod, Service};
use rstest::rstest;
use tokio::sync::{Notify, watch};
use tower::service_fn;

use super::*;
use crate::backoff::ErrorClass;

/// What the API server was asked.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    line: String,
    operation: Option<&'static str>,
    content_type: String,
    body: Value,
}

/// An API server that answers everything alike.
#[derive(Clone, Default)]
struct Api {
    asked: Arc<Mutex<Vec<Asked>>>,
    arrived: Arc<Notify>,
}

#[derive(Clone)]
enum Answer {
    With(u16, Value),
    Text(u16, &'static str, Option<&'static str>),
    Never,
    BrokenPipe,
}

impl Api {
    fn client(&self, answer: Answer) -> Client {
        let api = self.clone();
        let service = service_fn(move |request: http::Request<Body>| {
            let (api, answer) = (api.clone(), answer.clone());
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                let operation = request.extensions().get::<&'static str>().copied();
                let content_type =
                    request.headers().get("content-type").map_or("", |value| value.to_str().unwrap());
                let content_type = content_type.to_owned();
                let bytes = request.into_body().collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&bytes).unwrap_or_default();
                api.asked.lock().unwrap().push(Asked { line, operation, content_type, body });
                api.arrived.notify_one();
                let response = match answer {
                    Answer::With(code, body) => respond(code, None, serde_json::to_vec(&body).unwrap()),
                    Answer::Text(code, text, retry_after) => respond(code, retry_after, text.into()),
                    Answer::Never => std::future::pending().await,
                    Answer::BrokenPipe => return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe)),
                };
                Ok(response)
            }
        });
        Client::new(service, "default")
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

fn respond(code: u16, retry_after: Option<&str>, body: Vec<u8>) -> Response<Body> {
    let response = Response::builder().status(code);
    let response =
        retry_after.into_iter().fold(response, |response, value| response.header("Retry-After", value));
    response.body(Body::from(body)).unwrap()
}

fn writer(api: &Api, answer: Answer) -> Writer {
    writer_with(api, answer, Limits::default())
}

fn writer_with(api: &Api, answer: Answer, limits: Limits) -> Writer {
    Writer::new(api.client(answer), Leadership::always(), Metrics::new().unwrap(), limits)
}

fn key() -> ObjectKey {
    ObjectKey::new("ns", "x")
}

fn failure(code: u16, reason: &str, message: &str) -> Answer {
    Answer::With(code, json!({"kind": "Status", "code": code, "reason": reason, "message": message}))
}

fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": "ns", "uid": "u"}})
}

/// The counted calls, as `verb kind outcome`.
fn counted(writer: &Writer) -> Vec<String> {
    let families = writer.metrics.registry().gather();
    let family = families.iter().find(|family| family.name() == "dask_operator_api_calls_total");
    let metrics = family.map(prometheus::proto::MetricFamily::get_metric).unwrap_or_default();
    let label = |metric: &prometheus::proto::Metric, name: &str| {
        let pair = metric.get_label().iter().find(|pair| pair.name() == name);
        pair.map(|pair| pair.value().to_owned()).unwrap_or_default()
    };
    metrics
        .iter()
        .map(|metric| {
            format!("{} {} {}", label(metric, "verb"), label(metric, "kind"), label(metric, "outcome"))
        })
        .collect()
}

#[tokio::test]
async fn a_pod_is_created_from_its_bytes() {
    let api = Api::default();
    let writer = writer(&api, Answer::With(201, pod()));
    let bytes = serde_json::to_vec(&json!({"spec": {"containers": []}})).unwrap();
    let Creation::Created(created) = writer.create_pod(&key(), bytes, Lane::Bulk).await.unwrap() else {
        panic!("it was created");
    };
    assert_eq!((created.metadata.name(), created.metadata.uid()), ("x", "u"));
    let expected = Asked {
        line: "POST /api/v1/namespaces/ns/pods?&fieldManager=dask-operator".to_owned(),
        operation: Some("create"),
        content_type: "application/json".to_owned(),
        body: json!({"spec": {"containers": []}}),
    };
    assert_eq!(api.asked(), [expected]);
    assert_eq!(counted(&writer), ["create Pod success"]);
}

#[tokio::test]
async fn the_body_of_a_pod_is_made_when_its_turn_has_come_if_it_is_wanted_then() {
    let api = Api::default();
    let limits = Limits { in_flight: 1, reserved: 0, timeout: Duration::from_secs(5) };
    let writer = writer_with(&api, Answer::Never, limits);
    let first = writer.clone();
    let first = tokio::spawn(async move { first.create_pod(&key(), vec![], Lane::Bulk).await });
    api.arrived.notified().await;
    let made = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (second, mark) = (writer.clone(), made.clone());
    let second = tokio::spawn(async move {
        let body = || {
            mark.store(true, std::sync::atomic::Ordering::SeqCst);
            None
        };
        second.create_pod_if(&key(), Lane::Bulk, body).await
    });
    tokio::task::yield_now().await;
    assert!(!made.load(std::sync::atomic::Ordering::SeqCst), "it waits for its turn without a body");
    first.abort();
    assert!(second.await.unwrap().unwrap().is_none(), "it was called off");
    assert_eq!(api.lines().len(), 1);

    let api = Api::default();
    let writer = self::writer(&api, Answer::With(201, pod()));
    let created = writer.create_pod_if(&key(), Lane::Bulk, || Some(b"{}".to_vec())).await.unwrap();
    assert_eq!(created.unwrap().kind(), "created");
    assert_eq!(counted(&writer), ["create Pod success"]);
}

#[tokio::test]
async fn an_object_is_created_where_its_metadata_says() {
    let api = Api::default();
    let service: Service =
        serde_json::from_value(json!({"metadata": {"name": "x", "namespace": "ns"}})).unwrap();
    let writer = writer(&api, Answer::With(201, serde_json::to_value(&service).unwrap()));
    let created = writer.create(&service, Lane::Urgent).await.unwrap();
    assert_eq!(created, Creation::Created(Box::new(service)));
    assert_eq!(api.lines(), ["POST /api/v1/namespaces/ns/services?&fieldManager=dask-operator"]);
}

#[tokio::test]
async fn a_taken_name_is_not_an_error() {
    let api = Api::default();
    let writer = writer(&api, failure(409, "AlreadyExists", "pods \"x\" already exists"));
    assert_eq!(writer.create_pod(&key(), vec![], Lane::Bulk).await.unwrap().kind(), "exists");
    assert_eq!(counted(&writer), ["create Pod already_exists"]);
}

impl<K> Creation<K> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::AlreadyExists => "exists",
        }
    }
}

#[tokio::test]
async fn patches_go_where_they_belong() {
    let api = Api::default();
    let cluster = json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster",
        "metadata": {"name": "x", "namespace": "ns", "resourceVersion": "9"},
        "spec": {"scheduler": {"spec": {"containers": []}, "service": {}}, "worker": {"spec": {"containers": []}}},
    });
    let writer = writer(&api, Answer::With(200, cluster));
    let status = json!({"phase": "Running"});
    assert_eq!(writer.patch_status::<DaskCluster>(&key(), &status, Lane::Urgent).await.unwrap(), 9);
    let metadata = json!({"metadata": {"resourceVersion": "7"}});
    writer.merge_patch::<DaskCluster>(&key(), &metadata, Lane::Urgent).await.unwrap();

    let url = "/apis/kubernetes.dask.org/v1/namespaces/ns/daskclusters/x";
    let asked = |line: String, operation, body| Asked {
        line,
        operation: Some(operation),
        content_type: "application/merge-patch+json".to_owned(),
        body,
    };
    let expected = [
        asked(
            format!("PATCH {url}/status?&fieldManager=dask-operator"),
            "patch_status",
            json!({"status": status}),
        ),
        asked(format!("PATCH {url}?&fieldManager=dask-operator"), "patch", metadata),
    ];
    assert_eq!(api.asked(), expected);
}

#[tokio::test]
async fn a_conflict_does_not_pass_for_a_deletion() {
    let api = Api::default();
    let answer = failure(409, "Conflict", "the UID in the precondition does not match");
    let error = writer(&api, answer).delete::<Pod>(&key(), "uid-1", Lane::Bulk).await.unwrap_err();
    assert!(matches!(error, WriteError::Conflict { .. }), "{error}");
}

#[rstest]
#[case::accepted(Answer::With(200, pod()), Deletion::Accepted)]
#[case::done(Answer::With(200, json!({"kind": "Status", "status": "Success"})), Deletion::Accepted)]
#[case::gone(failure(404, "NotFound", "pods \"x\" not found"), Deletion::Gone)]
#[tokio::test]
async fn only_the_meant_object_is_deleted(#[case] answer: Answer, #[case] expected: Deletion) {
    let api = Api::default();
    let deletion = writer(&api, answer).delete::<Pod>(&key(), "uid-1", Lane::Bulk).await.unwrap();
    assert_eq!(deletion, expected);
    let asked = api.asked().remove(0);
    assert_eq!(asked.line.trim_end_matches('?'), "DELETE /api/v1/namespaces/ns/pods/x");
    assert_eq!(asked.body, json!({"propagationPolicy": "Background", "preconditions": {"uid": "uid-1"}}));
}

#[tokio::test]
async fn only_the_meant_version_is_deleted() {
    let api = Api::default();
    let answer = failure(409, "Conflict", "the ResourceVersion in the precondition does not match");
    let result = writer(&api, answer).delete_version::<Pod>(&key(), "uid-1", 7, Lane::Bulk).await;
    assert!(matches!(result, Err(WriteError::Conflict { .. })), "{result:?}");
    let preconditions = json!({"uid": "uid-1", "resourceVersion": "7"});
    assert_eq!(api.asked.lock().unwrap()[0].body["preconditions"], preconditions);
}

#[tokio::test]
async fn reading_is_a_call_like_others() {
    let api = Api::default();
    let writer = writer(&api, Answer::With(200, pod()));
    let read: WirePod = writer.get(&key(), Lane::Urgent).await.unwrap();
    assert_eq!(read.metadata.uid(), "u");
    assert_eq!(api.lines(), ["GET /api/v1/namespaces/ns/pods/x"]);
    assert_eq!(counted(&writer), ["get Pod success"]);
}

#[rstest]
#[case(failure(409, "Conflict", "modified"), "conflict", ErrorClass::Conflict, ": it was changed meanwhile")]
#[case(
    failure(404, "NotFound", "pods \"x\" not found"),
    "not_found",
    ErrorClass::Transient,
    ": pods \"x\" not found"
)]
#[case(
    failure(403, "Forbidden", "pods \"x\" is forbidden: because it is being terminated"),
    "namespace_terminating",
    ErrorClass::Refused,
    ": the namespace is being deleted"
)]
#[case(failure(500, "InternalError", "etcd is slow"), "unanswered", ErrorClass::Transient, MAYBE)]
#[case(failure(503, "ServiceUnavailable", "not now"), "unanswered", ErrorClass::Transient, MAYBE)]
#[case(Answer::With(200, json!("no pod")), "unanswered", ErrorClass::Transient, MAYBE)]
#[case(Answer::BrokenPipe, "unanswered", ErrorClass::Transient, MAYBE)]
#[case(failure(422, "Invalid", "Pod \"x\" is invalid: no"), "refused", ErrorClass::Refused, "")]
#[case(
    failure(429, "TooManyRequests", "slow down"),
    "throttled",
    ErrorClass::Throttled(None),
    ": the API server is too busy"
)]
#[tokio::test]
async fn errors_are_told_apart_and_counted(
    #[case] answer: Answer,
    #[case] outcome: &str,
    #[case] class: ErrorClass,
    #[case] text: &str,
) {
    let api = Api::default();
    let writer = writer(&api, answer);
    let error = writer.merge_patch::<Pod>(&key(), &json!({}), Lane::Urgent).await.unwrap_err();
    assert_eq!(error.to_string(), format!("failed to patch Pod ns/x{text}"));
    assert_eq!(error.class(), class);
    assert_eq!(counted(&writer), [format!("patch Pod {outcome}")]);
}

const MAYBE: &str = ", which may have happened nevertheless";

#[rstest]
#[case::text_with_header(Answer::Text(429, "Too many requests, please try again later.", Some("7")), Some(7))]
#[case::in_the_status(
    Answer::With(429, json!({"code": 429, "reason": "TooManyRequests", "details": {"retryAfterSeconds": 3}})), Some(3))]
#[case::not_said(Answer::Text(429, "busy", None), None)]
#[case::not_a_number(Answer::Text(429, "busy", Some("Wed, 21 Oct 2026 07:28:00 GMT")), None)]
#[tokio::test]
async fn the_asked_pause_is_passed_on(#[case] answer: Answer, #[case] seconds: Option<u64>) {
    let error = writer(&Api::default(), answer).create_pod(&key(), vec![], Lane::Bulk).await.unwrap_err();
    let WriteError::Throttled { retry_after, .. } = error else { panic!("{error:?}") };
    assert_eq!(retry_after, seconds.map(Duration::from_secs));
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_as_its_source() {
    let answer = failure(
        403,
        "Forbidden",
        "pods \"x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3",
    );
    let error = writer(&Api::default(), answer).create_pod(&key(), vec![], Lane::Bulk).await.unwrap_err();
    let WriteError::Refused { target, refusal } = error else { panic!("{error:?}") };
    assert_eq!((target.to_string().as_str(), refusal.reason), ("create Pod ns/x", Reason::QuotaExceeded));
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_ends() {
    let api = Api::default();
    let limits = Limits { timeout: Duration::from_secs(30), ..Limits::default() };
    let writer = writer_with(&api, Answer::Never, limits);
    let started = tokio::time::Instant::now();
    let error = writer.create_pod(&key(), vec![], Lane::Bulk).await.unwrap_err();
    assert_eq!(started.elapsed(), Duration::from_secs(30));
    assert!(matches!(error, WriteError::Unanswered { source: NoAnswer::Timeout(_), .. }), "{error:?}");
    assert_eq!(api.lines().len(), 1, "it was sent, so it may have happened");
}

#[tokio::test]
async fn without_the_lease_nothing_is_sent() {
    let (api, leadership) = (Api::default(), Leadership::follow(watch::channel(false).1));
    let client = api.client(Answer::With(201, pod()));
    let writer = Writer::new(client, leadership, Metrics::new().unwrap(), Limits::default());
    let error = writer.create_pod(&key(), vec![], Lane::Bulk).await.unwrap_err();
    assert_eq!(error.to_string(), "failed to create Pod ns/x: this process does not lead");
    assert_eq!((api.lines().len(), counted(&writer).len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lease_lost_while_waiting_for_a_turn_stops_the_call() {
    let api = Api::default();
    let (lead, leads) = watch::channel(true);
    let limits = Limits { in_flight: 1, reserved: 0, timeout: Duration::from_secs(5) };
    let writer =
        Writer::new(api.client(Answer::Never), Leadership::follow(leads), Metrics::new().unwrap(), limits);
    let (first, second) = (writer.clone(), writer.clone());
    let first = tokio::spawn(async move { first.create_pod(&key(), vec![], Lane::Bulk).await });
    api.arrived.notified().await;
    let second = tokio::spawn(async move { second.create_pod(&key(), vec![], Lane::Bulk).await });
    lead.send_replace(false);
    assert!(matches!(first.await.unwrap(), Err(WriteError::Unanswered { source: NoAnswer::LeaseLost, .. })));
    assert!(matches!(second.await.unwrap(), Err(WriteError::NotLeading(_))));
    assert_eq!(api.lines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_under_way_ends_with_the_lease() {
    let api = Api::default();
    let (lead, leads) = watch::channel(true);
    let client = api.client(Answer::Never);
    let writer = Writer::new(client, Leadership::follow(leads), Metrics::new().unwrap(), Limits::default());
    let started = tokio::time::Instant::now();
    let call = tokio::spawn(async move { writer.create_pod(&key(), vec![], Lane::Bulk).await });
    api.arrived.notified().await;
    lead.send_replace(false);
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, WriteError::Unanswered { source: NoAnswer::LeaseLost, .. }), "{error:?}");
    assert_eq!(started.elapsed(), Duration::ZERO, "it did not wait for the timeout");
}

#[test]
fn an_eighth_of_the_calls_is_kept_free() {
    for (in_flight, reserved) in [(1, 1), (8, 1), (9, 2), (32, 4), (1024, 128)] {
        assert_eq!(Limits::of(in_flight).reserved, reserved, "{in_flight}");
    }
}

#[tokio::test(start_paused = true)]
async fn pods_in_bulk_do_not_hold_up_an_urgent_call() {
    let api = Api::default();
    let limits = Limits { in_flight: 3, reserved: 1, timeout: Duration::from_secs(5) };
    let writer = writer_with(&api, Answer::Never, limits);
    for _ in 0..10 {
        let writer = writer.clone();
        tokio::spawn(async move { writer.create_pod(&key(), vec![], Lane::Bulk).await });
    }
    while api.lines().len() < 2 {
        api.arrived.notified().await;
    }
    let started = tokio::time::Instant::now();
    writer.get::<Pod>(&key(), Lane::Urgent).await.unwrap_err();
    assert_eq!(
        started.elapsed(),
        limits.timeout,
        "it was sent at once and only its own answer was waited for"
    );
    assert!(api.lines().contains(&"GET /api/v1/namespaces/ns/pods/x".to_owned()));
}
