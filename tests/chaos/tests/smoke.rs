//! A short walk on a real cluster: scalings, and the operator killed in the middle of them. The long ones are
//! `make chaos-drain`.

use std::io::Write as _;

use chaos_tests::{
    Error,
    audit::{Audit, Load},
    plan::{Kinds, Sizes, plan},
    run, table,
    world::{self, SAFE_NODE, World},
};
use e2e_tests::diagnosis;
use testbed::chain;

const CLUSTER: &str = "chaos-smoke";
const SEED: u64 = 1;
const STEPS: usize = 8;

#[tokio::test]
async fn nothing_is_lost_on_a_short_walk() {
    if let Err(missing) = testbed::requirements::check_nodes() {
        // Not a macro: the output of tests that pass is swallowed.
        let _ = writeln!(std::io::stderr(), "skipped: {missing}");
        return;
    }
    let outcome = short_walk().await;
    let down = testbed::down(CLUSTER).await;
    let outcome = outcome.unwrap_or_else(|error| panic!("{}", chain(&error)));
    down.unwrap();
    assert!(outcome.is_clean(), "{}", table::summary(SEED, &outcome));
    assert!(outcome.shrunk > 0, "the walk scales down");
    assert!(outcome.ledger.last().stream_done > 0, "tasks ran all the while");
}

#[expect(clippy::print_stderr, reason = "shown by the test runner if the test fails")]
async fn short_walk() -> Result<run::Outcome, Error> {
    let kubernetes = world::kubernetes(CLUSTER, None).await?;
    let mut world = World::begin(kubernetes, Sizes::START, run::PATIENCE).await?;
    let mut audit =
        Audit::start(&world.kubernetes, &world.namespace, SAFE_NODE, &World::scheduler(), Load::FULL).await?;
    let steps = plan(SEED, STEPS, Kinds::QUICK);
    let result = run::walk(&mut world, &mut audit, &steps, |row| eprintln!("{}", row.line())).await;
    if result.is_err() {
        eprintln!("{}", diagnosis::render(&diagnosis::diagnose(&world.kubernetes, &world.namespace).await));
    }
    result
}
