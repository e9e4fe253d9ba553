//! What can be said without an API server. The rest is tested with a real one in `tests/integration`.

use std::time::Duration;

use kube::Client;
use kube::client::Body;
use tokio::time::{Instant, sleep};
use tower::service_fn;

use super::*;

/// Clients of an API server that does not answer.
fn silent() -> Clients {
    Clients { client: client(), for_election: Box::new(|| Ok(client())) }
}

fn client() -> Client {
    Client::new(
        service_fn(|_: http::Request<Body>| {
            std::future::pending::<Result<http::Response<Body>, std::convert::Infallible>>()
        }),
        "ns",
    )
}

fn settings(arguments: &[&str]) -> Settings {
    Settings::from_arguments(arguments).unwrap()
}

#[tokio::test]
async fn it_waits_for_the_api_server_and_stops_when_asked() {
    let shutdown = CancellationToken::new();
    let arguments = ["--liveness=http://127.0.0.1:0/healthz", "--lease-namespace=ns"];
    let running = start(silent(), settings(&arguments), shutdown.clone()).unwrap();
    assert_ne!(running.address.unwrap().port(), 0);
    assert!(!running.readiness().is_ready());
    assert!(!running.context.leadership.is_leader(), "not before it is ready");
    let text = running.metrics().unwrap();
    assert!(text.contains("dask_operator_ready 0") && text.contains("dask_operator_leader 0"), "{text}");
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), running.wait()).await.expect("it stops").unwrap();
}

#[tokio::test]
async fn its_server_ends_with_it_even_if_its_runtime_is_gone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let arguments = settings(&["--liveness=http://127.0.0.1:0/healthz", "--leader-elect=false"]);
    let address = {
        let _entered = runtime.enter();
        start(silent(), arguments, CancellationToken::new()).unwrap().address.unwrap()
    };
    runtime.shutdown_background();
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpListener::bind(address).is_err() {
        assert!(Instant::now() < deadline, "{address} is still taken");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let arguments = settings(&[&format!("--liveness=http://{address}/healthz")]);
    let error = start(silent(), arguments, CancellationToken::new()).unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("--liveness"), "{error}");
}

#[tokio::test]
async fn without_a_namespace_for_the_lease_it_says_so() {
    let arguments = settings(&["--liveness=none", "--lease-namespace="]);
    // In a pod there is a namespace.
    if arguments.lease_namespace().is_none() {
        let (election, leadership) = stand(&arguments, "me");
        assert!(election.is_none() && leadership.is_leader());
        assert!(leadership.notice().unwrap().contains("--lease-namespace"));
    }
    let (election, leadership) = stand(&settings(&["--leader-elect=false"]), "me");
    assert!(election.is_none() && leadership.is_leader());
    assert_eq!(leadership.notice(), None);
}
