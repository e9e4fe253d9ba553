use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::run::{Running, start};
use crate::settings::Settings;

use super::*;

/// An operator whose API server answers nothing: nobody listens at its address.
async fn lonely(shutdown: &CancellationToken) -> Running {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let arguments = ["--liveness=http://127.0.0.1:0/healthz", "--leader-elect=false"];
    start(client, Settings::from_arguments(arguments).unwrap(), shutdown.clone()).await.unwrap()
}

async fn request(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    request(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn probes_answer_while_the_api_server_does_not() {
    let shutdown = CancellationToken::new();
    let operator = lonely(&shutdown).await;
    let address = operator.probe_address().unwrap();

    let (code, body) = get(address, "/healthz").await;
    assert_eq!(code, 200, "a restart would not help: {body}");
    let now = serde_json::from_str::<serde_json::Value>(&body).unwrap()["now"].as_str().unwrap().to_owned();
    assert!(now.parse::<jiff::Timestamp>().is_ok(), "{now}");

    let (code, body) = get(address, "/readyz").await;
    assert_eq!(code, 503);
    assert!(!body.trim().is_empty());

    let (code, body) = get(address, "/metrics").await;
    assert_eq!(code, 200);
    assert!(body.contains("dask_operator_ready 0"), "{body}");
    assert_eq!(get(address, "/elsewhere").await.0, 404);

    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(10), operator.finished()).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = bind(address).await.unwrap_err().to_string();
    assert!(error.contains(&address.to_string()) && error.contains("--liveness"), "{error}");
}
