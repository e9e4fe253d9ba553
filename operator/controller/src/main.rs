//! The `dask-operator` binary.

use std::process::ExitCode;

use anyhow::{Context, Result};
use dask_operator::settings::{Cli, Command, Settings};
use dask_operator::telemetry::{logging, metrics};
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Threads of the runtime: the work is mostly waiting for the API server.
const THREADS: usize = 2;

fn main() -> ExitCode {
    // The one provider; an error would say that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::from_arguments(std::env::args_os()).unwrap_or_else(|error| error.exit());
    match carry_out(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn carry_out(command: Command) -> Result<()> {
    match command {
        Command::Run(settings) => run(*settings)?,
        Command::Crd => print!("{}", dask_operator_api::crd::to_yaml()?),
        Command::Version => println!("{}", env!("CARGO_PKG_VERSION")),
        Command::MetricsReference => print!("{}", metrics::reference()),
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the error of the command; logs may not have started")]
fn complain(text: &str) {
    eprintln!("{text}");
}

fn run(settings: Settings) -> Result<()> {
    logging::start(settings.log_filter(), &settings.log_format)?;
    for warning in settings.warnings() {
        warn!("{warning}");
    }
    info!(version = env!("CARGO_PKG_VERSION"), "the operator starts");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(async {
        let client = Client::try_default()
            .await
            .context("failed to find the API server; run in a pod, or set KUBECONFIG")?;
        let shutdown = CancellationToken::new();
        tokio::spawn(stop_on_signal(shutdown.clone()));
        dask_operator::run::run(client, settings, shutdown).await.context("failed to run the operator")
    })
}

async fn stop_on_signal(shutdown: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        warn!("no signal handlers: the operator cannot stop gracefully");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopping");
    shutdown.cancel();
}
