//! The program: reads its arguments and does what they say.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use dask_operator::run;
use dask_operator::settings::{Cli, Command, Settings};
use dask_operator::telemetry::{logging, metrics};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

fn main() -> ExitCode {
    // kube's own default is the same provider; another dependency must not be able to make it ambiguous.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::from_arguments(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not have been started.
            let _ = writeln!(io::stderr(), "dask-operator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run(settings) => operate(*settings),
        Command::Crd => print(&dask_operator_api::crd::to_yaml()?),
        Command::MetricsReference => print(&metrics::reference()),
        Command::Version => print(&format!("{}\n", env!("CARGO_PKG_VERSION"))),
    }
}

fn print(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("failed to write to standard output")
}

fn operate(settings: Settings) -> Result<()> {
    logging::start(settings.log_filter(), &settings.log_format)?;
    info!(version = env!("CARGO_PKG_VERSION"), "dask-operator");
    settings.warnings().iter().for_each(|warning| warn!("{warning}"));
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(settings.threads.into())
        .max_blocking_threads(4)
        .thread_name("operator")
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(async {
        let shutdown = stop_on_signals()?;
        let clients = run::clients().await?;
        run::run(clients, settings, shutdown)
            .await
            .inspect_err(|error| error!(%error, "the operator has failed"))?;
        Ok(())
    })
}

/// A token that SIGTERM and SIGINT cancel.
fn stop_on_signals() -> Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind).context("failed to listen for signals")?;
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            signals.recv().await;
            shutdown.cancel();
        });
    }
    Ok(shutdown)
}
