//! Real HTTP on the loopback interface.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::telemetry::Metrics;

const LIMIT: Duration = Duration::from_secs(10);

struct Server {
    address: SocketAddr,
    well: Arc<AtomicBool>,
    shutdown: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn start(log: Option<LogControl>) -> Server {
    let well = Arc::new(AtomicBool::new(true));
    let problems = {
        let well = well.clone();
        move || if well.load(Ordering::SeqCst) { Vec::new() } else { vec!["it is ill".to_owned()] }
    };
    let obstacles = problems.clone();
    let metrics = Metrics::new().unwrap();
    let probes = Probes {
        health: Arc::new(move || Health { now: Timestamp::UNIX_EPOCH, problems: problems() }),
        readiness: Arc::new(move || Readiness { obstacles: obstacles(), notes: Vec::new() }),
        metrics: Arc::new(move || metrics.render()),
        log,
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    spawn(listener, "/healthz", probes, shutdown.clone()).unwrap();
    Server { address, well, shutdown }
}

impl Server {
    /// Status code, head and body of the answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
    }
}

#[test]
fn health_answers_as_kopf_does() {
    let server = start(None);
    let (code, head, body) = server.ask("GET", "/healthz", "");
    assert_eq!(code, 200);
    assert!(head.contains("application/json"), "{head}");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["now"], "1970-01-01T00:00:00Z");
    server.well.store(false, Ordering::SeqCst);
    let (code, _, body) = server.ask("GET", "/healthz", "");
    assert_eq!(code, 503);
    assert!(body.contains("it is ill"), "{body}");
}

#[test]
fn readiness_says_what_is_in_the_way() {
    let server = start(None);
    assert_eq!(server.ask("GET", "/readyz", "").0, 200);
    server.well.store(false, Ordering::SeqCst);
    let (code, head, body) = server.ask("GET", "/readyz", "");
    assert_eq!((code, body.as_str()), (503, "not ready\n- it is ill\n"));
    assert!(head.contains("text/plain"), "{head}");
}

#[test]
fn metrics_are_text() {
    let (code, head, body) = start(None).ask("GET", "/metrics", "");
    assert_eq!(code, 200);
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("dask_operator_build_info"), "{body}");
}

#[test]
fn the_log_level_can_be_read_and_set() {
    let (_layer, control) = LogControl::new("info").unwrap();
    let server = start(Some(control));
    assert_eq!(server.ask("GET", "/log-level", "").2, "info");
    assert_eq!(server.ask("PUT", "/log-level", "warn,kube=error\n").0, 200);
    assert_eq!(server.ask("GET", "/log-level", "").2, "kube=error,warn");
    let (code, _, body) = server.ask("PUT", "/log-level", "kube=loud=x");
    assert_eq!(code, 400);
    assert!(body.contains("kube=loud=x"), "{body}");
    assert_eq!(server.ask("PUT", "/log-level", &"x".repeat(LONGEST_FILTER + 1)).0, 413);
    assert_eq!(server.ask("GET", "/log-level", "").2, "kube=error,warn", "the old one stays");
    assert_eq!(start(None).ask("PUT", "/log-level", "info").0, 404);
}

#[tokio::test]
async fn strangers_may_not_set_the_log_level() {
    let (_layer, control) = LogControl::new("info").unwrap();
    let probes = Probes {
        health: Arc::new(|| Health { now: Timestamp::UNIX_EPOCH, problems: Vec::new() }),
        readiness: Arc::new(Readiness::default),
        metrics: Arc::new(|| Ok(String::new())),
        log: Some(control.clone()),
    };
    let stranger = ConnectInfo("10.0.0.7:4242".parse().unwrap());
    let answer = set_log_level(State(probes), stranger, "off".to_owned()).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(control.filter().unwrap(), "info");
}

#[test]
fn unknown_paths_and_methods() {
    let server = start(None);
    assert_eq!(server.ask("GET", "/", "").0, 404);
    assert_eq!(server.ask("POST", "/healthz", "").0, 405);
}

#[test]
fn it_ends_when_told() {
    let server = start(None);
    assert_eq!(server.ask("GET", "/healthz", "").0, 200);
    server.shutdown.cancel();
    let deadline = Instant::now() + LIMIT;
    while TcpListener::bind(server.address).is_err() {
        assert!(Instant::now() < deadline, "the port is still taken");
        thread::yield_now();
    }
}
