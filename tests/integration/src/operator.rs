//! The operator in process, in a runtime of its own: stopping the runtime is the process' death.

use std::sync::Arc;

use dask_operator::context::Context;
use dask_operator::run::{self, Clients, Running};
use dask_operator::settings::Settings;
use kube::client::ClientBuilder;
use kube::{Client, Config};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::fault::Faults;
use crate::link::Link;
use crate::namespace::Namespace;
use crate::wait::{check, wait_for};

/// The operator asks no scheduler; a [`Link`] speaks instead.
const UNASKED: &str = "--scheduler-access=none";

/// How to start an operator.
#[derive(Clone, Debug)]
pub struct Launch {
    /// How to reach the API server.
    pub config: Config,
    /// Its command line.
    pub arguments: Vec<String>,
    /// What happens to its requests.
    pub faults: Faults,
    /// What it hears from the schedulers.
    pub link: Link,
}

impl Launch {
    /// An operator with all rights that runs alone in a namespace, with a server for probes on a free port.
    #[must_use]
    pub fn alone(namespace: &Namespace) -> Self {
        Self::with_arguments(namespace, &["--leader-elect=false"])
    }

    /// One of several in a namespace that agree by a Lease who leads.
    #[must_use]
    pub fn candidate(namespace: &Namespace, identity: &str) -> Self {
        let lease_namespace = format!("--lease-namespace={}", namespace.name);
        let identity = format!("--identity={identity}");
        Self::with_arguments(namespace, &["--leader-elect=true", &lease_namespace, &identity])
    }

    /// An operator in a namespace with these further arguments.
    #[must_use]
    pub fn with_arguments(namespace: &Namespace, arguments: &[&str]) -> Self {
        let mut all = vec![
            format!("--namespace={}", namespace.name),
            "--liveness=http://127.0.0.1:0/healthz".to_owned(),
        ];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        if !all.iter().any(|argument| argument.starts_with("--scheduler-access")) {
            all.push(UNASKED.to_owned());
        }
        Self {
            config: namespace.server().config().clone(),
            arguments: all,
            faults: Faults::recorder(),
            link: Link::obliging(),
        }
    }

    /// The same with schedulers that say something else.
    #[must_use]
    pub fn link(self, link: &Link) -> Self {
        Self { link: link.clone(), ..self }
    }

    /// The same with faults.
    #[must_use]
    pub fn faults(self, faults: &Faults) -> Self {
        Self { faults: faults.clone(), ..self }
    }
}

/// An operator that runs. Dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    runtime: Option<Runtime>,
    shutdown: CancellationToken,
    running: Option<Running>,
    /// Its requests.
    pub faults: Faults,
}

impl Operator {
    /// Starts an operator that runs alone in a namespace.
    pub async fn start(namespace: &Namespace, faults: &Faults) -> Self {
        Self::launch(Launch::alone(namespace).faults(faults)).await
    }

    /// Starts an operator.
    pub async fn launch(launch: Launch) -> Self {
        trace();
        let settings = Settings::from_arguments(&launch.arguments).unwrap_or_else(|error| panic!("{error}"));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shutdown = CancellationToken::new();
        let faults = launch.faults.clone();
        let link = launch.link.clone();
        let scripted = launch.arguments.iter().any(|argument| argument == UNASKED);
        let token = shutdown.clone();
        let start = runtime.spawn(async move {
            let client = spoiled_client(launch.config.clone(), &launch.faults);
            let for_election = Box::new(move || Ok(spoiled_client(launch.config, &launch.faults)));
            run::start(Clients { client, for_election }, settings, token)
        });
        let running = start
            .await
            .expect("the operator does not panic")
            .unwrap_or_else(|error| panic!("the operator does not start: {error}"));
        if scripted {
            runtime.spawn(link.play(running.context.clone()));
        }
        Self { runtime: Some(runtime), shutdown, running: Some(running), faults }
    }

    /// What its reconciliations have at hand.
    #[must_use]
    pub fn context(&self) -> Arc<Context> {
        self.running.as_ref().map(|running| running.context.clone()).expect("it runs")
    }

    /// What its readiness probe answers: nothing wrong, or what is.
    ///
    /// # Errors
    /// When it is not ready: the probe's words.
    pub async fn readiness(&self) -> Result<(), String> {
        let (code, text) = self.get("/readyz").await?;
        check(code == 200, || text)
    }

    /// Waits until it is ready.
    pub async fn wait_until_ready(&self) {
        wait_for("the operator is ready", async || self.readiness().await).await;
    }

    /// All its metrics, in Prometheus' text format.
    pub async fn metrics(&self) -> String {
        self.get("/metrics").await.expect("metrics are served").1
    }

    /// The sum of a metric over all label sets that contain `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.metrics().await;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(labels)
        });
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Stops it as SIGTERM does, and waits until it has stopped.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let running = self.running.take().expect("it runs");
        let finished = self.runtime.as_ref().expect("it runs").spawn(running.wait());
        let finished = tokio::time::timeout(crate::PATIENCE, finished).await;
        finished.expect("it stops in time").expect("it does not panic").expect("it stops without an error");
        drop(self);
    }

    /// Kills it: no task runs on, nothing is released, no request leaves any more.
    pub fn kill(&mut self) {
        self.faults.kill();
        self.running = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    async fn get(&self, path: &str) -> Result<(u16, String), String> {
        let address = self.running.as_ref().and_then(|running| running.address).ok_or("it has no server")?;
        http_get(address, path).await.map_err(|error| format!("{path}: {error}"))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client whose requests pass `faults`. It belongs to the runtime that calls this.
#[must_use]
pub fn spoiled_client(config: Config, faults: &Faults) -> Client {
    ClientBuilder::try_from(config).expect("a client can be made").with_layer(faults).build()
}

/// Logs of the operators, if `RUST_LOG` asks for them.
fn trace() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if std::env::var_os("RUST_LOG").is_some() {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().init();
        }
    });
}

/// One GET over plain HTTP.
async fn http_get(address: std::net::SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((code, body.to_owned()))
}
