//! The loop against a model of the API server, in paused time.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use kube::core::Status;
use serde::Serialize;
use tower::service_fn;

use super::*;
use crate::leader::simulation::Server;

/// How the API server behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Healthy,
    Silent,
    Forbids,
}

#[derive(Clone)]
pub(in crate::leader) struct Api {
    server: Arc<Mutex<Server>>,
    mood: Arc<Mutex<Mood>>,
    calls: Arc<Mutex<Vec<Method>>>,
}

impl Api {
    pub(in crate::leader) fn new() -> Self {
        Self { server: Arc::default(), mood: Arc::new(Mutex::new(Mood::Healthy)), calls: Arc::default() }
    }

    fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn calls(&self) -> Vec<Method> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    pub(in crate::leader) fn holder(&self) -> Option<String> {
        self.server.lock().unwrap().lease.as_ref()?.spec.as_ref()?.holder_identity.clone()
    }

    pub(in crate::leader) fn client(&self) -> Client {
        let api = self.clone();
        Client::new(service_fn(move |request| api.clone().answer(request)), "ns")
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
        self.calls.lock().unwrap().push(request.method().clone());
        let mood = *self.mood.lock().unwrap();
        if mood == Mood::Silent {
            return pending().await;
        }
        let (method, body) = (request.method().clone(), request.into_body().collect_bytes().await.unwrap());
        let mut server = self.server.lock().unwrap();
        Ok(match (mood, method) {
            (Mood::Forbids, _) => failure(StatusCode::FORBIDDEN, "Forbidden"),
            (_, Method::GET) => match &server.lease {
                Some(lease) => response(StatusCode::OK, lease),
                None => failure(StatusCode::NOT_FOUND, "NotFound"),
            },
            _ => match server.write(serde_json::from_slice(&body).unwrap()) {
                Some(lease) => response(StatusCode::OK, &lease),
                None => failure(StatusCode::CONFLICT, "Conflict"),
            },
        })
    }

    fn stand(&self, me: &str) -> (Leadership, CancellationToken, tokio::task::JoinHandle<()>) {
        let location = LeaseLocation { namespace: "ns".to_owned(), name: "dask-operator".to_owned() };
        let (election, leadership) = Election::new(location, me, Timing::default());
        let stop = CancellationToken::new();
        (leadership, stop.clone(), tokio::spawn(election.run(self.client(), stop)))
    }
}

fn response(code: StatusCode, body: &impl Serialize) -> Response<Body> {
    let body = Body::from(serde_json::to_vec(body).unwrap());
    Response::builder().status(code).body(body).unwrap()
}

fn failure(code: StatusCode, reason: &str) -> Response<Body> {
    response(code, &Status::failure("no", reason).with_code(code.as_u16()))
}

/// Lets this much time pass, and everything happen that happens in it.
async fn pass(time: Duration) {
    sleep(time).await;
}

async fn wait_until_leading(leadership: &Leadership) {
    let mut changes = leadership.changes();
    timeout(Duration::from_mins(1), changes.wait_for(|leads| *leads))
        .await
        .expect("no leader in a minute")
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_leader_renews_without_reading() {
    let api = Api::new();
    let (leadership, _stop, _task) = api.stand("a");
    wait_until_leading(&leadership).await;
    assert_eq!(api.calls(), [Method::GET, Method::POST]);
    pass(Duration::from_millis(6_500)).await;
    assert_eq!(api.calls(), [Method::PUT, Method::PUT, Method::PUT]);
    assert!(leadership.is_leader());
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_somebody_edits_goes_on() {
    let api = Api::new();
    let (leadership, _stop, _task) = api.stand("a");
    wait_until_leading(&leadership).await;
    let mut edited = api.server.lock().unwrap().lease.clone().unwrap();
    edited.metadata.labels = Some([("team".to_owned(), "data".to_owned())].into());
    api.server.lock().unwrap().write(edited).unwrap();
    api.calls();
    let mut changes = leadership.changes();
    changes.mark_unchanged();
    pass(Duration::from_secs(20)).await;
    assert!(leadership.is_leader() && !changes.has_changed().unwrap(), "all the time");
    let renewed = api.server.lock().unwrap().lease.clone().unwrap();
    assert_eq!(renewed.metadata.labels.unwrap()["team"], "data", "what others wrote stays");
    let reads = api.calls().into_iter().filter(|call| call == Method::GET).count();
    assert_eq!(reads, 1, "once, after the conflict");
}

#[tokio::test(start_paused = true)]
async fn a_second_candidate_waits_and_takes_over_after_a_release() {
    let api = Api::new();
    let (first, stop, task) = api.stand("a");
    wait_until_leading(&first).await;
    let (second, _stop, _task) = api.stand("b");
    pass(Duration::from_mins(1)).await;
    assert!(first.is_leader() && !second.is_leader());
    stop.cancel();
    task.await.unwrap();
    assert!(!first.is_leader());
    assert_eq!(api.holder(), None);
    let released = Instant::now();
    wait_until_leading(&second).await;
    assert!(released.elapsed() < Duration::from_secs(3), "{:?}", released.elapsed());
    assert_eq!(api.holder().as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_answers_stops_before_another_can_lead() {
    let api = Api::new();
    let (first, _stop, _task) = api.stand("a");
    wait_until_leading(&first).await;
    let (second, _stop, _task) = api.stand("b");
    pass(Duration::from_secs(5)).await;
    api.becomes(Mood::Silent);
    pass(Duration::from_secs(11)).await;
    assert!(!first.is_leader() && !*first.changes().borrow());
    assert!(first.notice().unwrap().contains("ns/dask-operator"));
    assert!(!second.is_leader());
    api.becomes(Mood::Healthy);
    pass(Duration::from_secs(40)).await;
    assert!(first.is_leader() ^ second.is_leader());
}

#[tokio::test(start_paused = true)]
async fn without_the_right_it_leads_alone_and_says_so() {
    let api = Api::new();
    api.becomes(Mood::Forbids);
    let (leadership, _stop, _task) = api.stand("a");
    pass(Duration::from_secs(1)).await;
    assert!(!leadership.is_leader(), "one refusal may be a passing one");
    wait_until_leading(&leadership).await;
    assert!(leadership.is_leader());
    let notice = leadership.notice().unwrap();
    assert!(notice.contains("no right") && notice.contains("ns/dask-operator"), "{notice}");

    // Once the right is there, the election is real again.
    api.server.lock().unwrap().write(lease_of("b"));
    api.becomes(Mood::Healthy);
    pass(REFUSED_RETRY + Duration::from_secs(1)).await;
    assert!(!leadership.is_leader());
    assert_eq!(leadership.notice(), None);
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_taken_away_does_not_make_a_leader() {
    let api = Api::new();
    let (leader, _stop, _task) = api.stand("a");
    wait_until_leading(&leader).await;
    let (follower, _stop, _task) = api.stand("b");
    pass(Duration::from_secs(5)).await;
    api.becomes(Mood::Forbids);
    pass(Duration::from_mins(1)).await;
    assert!(!leader.is_leader() && !follower.is_leader());
}

fn lease_of(holder: &str) -> Lease {
    crate::leader::evaluate::held(None, holder, &Timing::default(), Timestamp::now())
}
