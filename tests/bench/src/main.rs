//! `make bench`: prints a table and writes `target/bench/results.json`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use dask_operator_bench::results::table;
use dask_operator_bench::scenarios::{Bench, Size};
use dask_operator_bench::{operator, server};

/// Measures the operator against a raw writer on one API server.
#[derive(Debug, Parser)]
struct Arguments {
    /// A short run that only shows that the bench works
    #[arg(long)]
    quick: bool,
    /// Only these scenarios
    #[arg(long, value_enum)]
    only: Vec<Scenario>,
    /// Where the figures go
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench/results.json"))]
    json: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    CreateClusters,
    ScaleUp,
    Running,
    Memory,
}

#[expect(clippy::print_stdout, reason = "the table is the product")]
#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // The one provider, as in the operator; an error would say that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let program = operator::program()?;
    let folder = arguments.json.parent().context("--json names no file")?;
    fs::create_dir_all(folder)?;

    let size = if arguments.quick { Size::QUICK } else { Size::FULL };
    let mut bench = Bench::new(server::Server::start().await?, program, folder.join("operator.log"), size);
    let wanted = |scenario| arguments.only.is_empty() || arguments.only.contains(&scenario);
    let mut figures = Vec::new();
    if wanted(Scenario::CreateClusters) {
        figures.push(bench.create_clusters().await.context("create-clusters")?);
    }
    if wanted(Scenario::ScaleUp) {
        figures.push(bench.scale_up().await.context("scale-up")?);
    }
    if wanted(Scenario::Running) {
        figures.push(bench.running().await.context("running-p99")?);
    }
    if wanted(Scenario::Memory) {
        figures.extend(bench.memory_and_rest().await.context("memory")?);
    }
    bench.finish().await?;

    fs::write(&arguments.json, serde_json::to_string_pretty(&figures)? + "\n")?;
    println!("\n{}", table(&figures));
    if arguments.quick {
        println!("A quick run: the figures mean nothing.");
    }
    println!("written to {}", arguments.json.display());
    Ok(())
}
