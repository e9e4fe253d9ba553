//! `make chaos-drain SEED=n STEPS=200`: exit code 1 if anything was lost that a step does not excuse, or a worker was
//! deleted that its scheduler had not let go.

use std::process::ExitCode;

use chaos_tests::{
    Error,
    audit::{Audit, Load},
    cli::Arguments,
    plan::{Sizes, Step, plan},
    run::{self, Outcome},
    table,
    world::{self, SAFE_NODE, World},
};
use clap::Parser;
use e2e_tests::diagnosis;
use testbed::chain;

const CLUSTER: &str = "chaos";

#[expect(clippy::print_stdout, reason = "the table is the product")]
#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let steps = plan(arguments.seed, arguments.steps, arguments.events.kinds());
    println!("seed {}, {} steps", arguments.seed, steps.len());
    if arguments.print {
        for (number, step) in steps.iter().enumerate() {
            println!("{:>4}  {step}", number + 1);
        }
        return ExitCode::SUCCESS;
    }
    let result = tokio::select! {
        result = walk(&arguments, &steps) => result,
        _interrupted = tokio::signal::ctrl_c() => {
            println!("interrupted");
            take_down(&arguments).await;
            return ExitCode::FAILURE;
        }
    };
    take_down(&arguments).await;
    match result {
        Ok(outcome) => {
            println!("\n{}", table::summary(arguments.seed, &outcome));
            if outcome.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            println!("{}", chain(&error));
            if let Error::Step { number, .. } = error {
                println!("to repeat: {}", table::repeat(arguments.seed, number));
            }
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is the product")]
async fn walk(arguments: &Arguments, steps: &[Step]) -> Result<Outcome, Error> {
    let kubernetes = world::kubernetes(CLUSTER, arguments.operator.clone()).await?;
    let mut world = World::begin(kubernetes, Sizes::START, run::PATIENCE).await?;
    println!("namespace {} in {}", world.namespace, world.kubernetes.kubeconfig().display());
    let scheduler = World::scheduler();
    let load = Load::FULL;
    let mut audit = Audit::start(&world.kubernetes, &world.namespace, SAFE_NODE, &scheduler, load).await?;
    let result = run::walk(&mut world, &mut audit, steps, |row| println!("{}", row.line())).await;
    if result.is_err() {
        let sections = diagnosis::diagnose(&world.kubernetes, &world.namespace).await;
        println!("{}", diagnosis::render(&sections));
    }
    result
}

/// Stops the cluster, unless it is to be looked at.
#[expect(clippy::print_stdout, reason = "as above")]
async fn take_down(arguments: &Arguments) {
    if arguments.keep {
        return;
    }
    if let Err(error) = testbed::down(CLUSTER).await {
        println!("{}", chain(&error));
    }
}
