//! `make bench`: prints a table and writes `target/bench/results.json`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use dask_operator_bench::bench::{Bench, Size};
use dask_operator_bench::results::{Figure, Measurement, table};
use dask_operator_bench::scenarios::{against_python, drains, first_result, links, noisy_neighbour};
use dask_operator_bench::{operator, scenarios, server};
use tokio::signal::unix::{SignalKind, signal};

/// Measures the operator against a raw writer on one API server.
#[derive(Debug, Parser)]
struct Arguments {
    /// A short run that only shows that the bench works
    #[arg(long)]
    quick: bool,
    /// Only this figure; repeatable
    #[arg(long, value_name = "NAME")]
    only: Vec<Figure>,
    /// Where the figures go [default: target/bench/results.json]
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    /// The operator's program [default: build it]
    #[arg(long, value_name = "PATH")]
    operator: Option<PathBuf>,
}

#[expect(clippy::print_stdout, reason = "the table is the product")]
#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // The one provider, as in the operator; an error would say that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let json = arguments.json.clone();
    let json = json.unwrap_or_else(|| testbed::workspace::root().join("target/bench/results.json"));
    let folder = json.parent().context("--json names no file")?;
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let log = folder.join("operator.log");
    fs::write(&log, "").with_context(|| format!("failed to write {}", log.display()))?;

    let program = arguments.operator.clone().map_or_else(operator::build, Ok)?;
    let (name, size) = if arguments.quick { ("bench-quick", Size::QUICK) } else { ("bench", Size::FULL) };
    let measured = tokio::select! {
        measured = run(&arguments.only, name, size, program, log) => measured,
        signal = interruption() => Err(signal.map_or_else(Into::into, |()| anyhow::anyhow!("interrupted"))),
    };
    let only = &arguments.only;
    let touched = |figures: &[Figure]| only.is_empty() || figures.iter().any(|figure| only.contains(figure));
    for (cluster, figures) in [
        (name, Figure::ON_API_SERVER.as_slice()),
        (noisy_neighbour::CLUSTER, &[noisy_neighbour::FIGURE]),
        (against_python::CLUSTER, &against_python::FIGURES),
        (first_result::CLUSTER, &[first_result::FIGURE]),
        (drains::CLUSTER, &drains::FIGURES),
    ] {
        if touched(figures) {
            testbed::down(cluster).await.context("failed to stop the local clusters")?;
        }
    }
    let figures = measured?;

    let text = serde_json::to_string_pretty(&figures)? + "\n";
    fs::write(&json, text).with_context(|| format!("failed to write {}", json.display()))?;
    println!("{}", table(&figures));
    if arguments.quick {
        println!("A quick run: the figures mean nothing.");
    }
    println!("written to {}", json.display());
    Ok(())
}

/// Waits for SIGINT or SIGTERM, so that the API server does not outlive the bench.
async fn interruption() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = terminate.recv() => Ok(()),
    }
}

#[expect(clippy::print_stdout, reason = "a bench says what it leaves out")]
async fn run(
    only: &[Figure],
    name: &str,
    size: Size,
    program: PathBuf,
    log: PathBuf,
) -> Result<Vec<Measurement>> {
    let wanted = |figure: Figure| only.is_empty() || only.contains(&figure);
    // A quick run leaves out what takes minutes, unless it is asked for by name.
    let lasting = |figure: Figure| only.contains(&figure) || (only.is_empty() && size.minutes);
    let mut figures = on_api_server(&wanted, name, size, &program, &log).await?;
    if wanted(noisy_neighbour::FIGURE) {
        let measured = Box::pin(noisy_neighbour::noisy_neighbour(size, &program, &log)).await;
        figures.push(measured.context("noisy-neighbour")?);
    }
    if against_python::FIGURES.into_iter().any(lasting) {
        let both = against_python::against_python(&program, &log).await.context("dask-kubernetes")?;
        figures.extend(both.into_iter().filter(|measurement| lasting(measurement.name)));
    }
    let on_nodes = drains::FIGURES.into_iter().any(lasting) || lasting(first_result::FIGURE);
    if on_nodes && let Err(missing) = testbed::requirements::check_nodes() {
        println!("skipped, because nodes cannot run here: {missing}");
        return Ok(figures);
    }
    if lasting(first_result::FIGURE) {
        figures.push(first_result::first_result(&program, &log).await.context("kubecluster-first-result")?);
    }
    if drains::FIGURES.into_iter().any(lasting) {
        figures.extend(drains::drains(&program, lasting).await?);
        testbed::down(drains::CLUSTER).await?;
    }
    Ok(figures)
}

/// The figures that need only an API server.
async fn on_api_server(
    wanted: &impl Fn(Figure) -> bool,
    name: &str,
    size: Size,
    program: &Path,
    log: &Path,
) -> Result<Vec<Measurement>> {
    let mut figures = Vec::new();
    if !Figure::ON_API_SERVER.into_iter().any(wanted) {
        return Ok(figures);
    }
    let server = server::Server::start(name).await?;
    let mut bench = Bench::new(server, program.to_owned(), log.to_owned(), size);
    if wanted(Figure::CreateClusters) {
        figures.push(scenarios::create_clusters(&mut bench).await.context("create-clusters")?);
    }
    if wanted(Figure::ScaleUp) {
        figures.push(scenarios::scale_up(&mut bench).await.context("scale-up")?);
    }
    if [Figure::RssPerPod, Figure::RssIdle, Figure::WritesAtRest].into_iter().any(wanted) {
        let all = scenarios::memory_and_rest(&mut bench).await.context("memory and writes at rest")?;
        figures.extend(all.into_iter().filter(|measurement| wanted(measurement.name)));
    }
    if wanted(Figure::RunningP99) {
        figures.push(scenarios::time_to_running(&mut bench).await.context("running-p99")?);
    }
    if links::FIGURES.into_iter().any(wanted) {
        let both = links::links(&mut bench).await.context("links")?;
        figures.extend(both.into_iter().filter(|measurement| wanted(measurement.name)));
    }
    Ok(figures)
}
