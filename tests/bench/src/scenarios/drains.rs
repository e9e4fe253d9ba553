//! What scaling down costs the user: lost keys, work done twice, and time. On nodes, with real Dask.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chaos_tests::audit::{Audit, Load};
use chaos_tests::plan::{Group, Kinds, Sizes, plan};
use chaos_tests::run;
use chaos_tests::world::{self, SAFE_NODE, World};
use dask_operator_api::DaskWorkerGroup;
use e2e_tests::Kubernetes;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::pod_end;
use crate::results::{Bar, Figure, Measurement};
use crate::wait::PATIENCE;

/// The local cluster with nodes.
pub const CLUSTER: &str = "bench-nodes";

const SEED: u64 = 7;
const STEPS: usize = 100;
const BEFORE: Sizes = Sizes { first: 10, second: 0 };
const AFTER: Sizes = Sizes { first: 3, second: 0 };
/// How many go.
const GOING: usize = 7;
/// Longest that a scale-down may take whose workers hold 100 MB, in seconds; Dask's own shutdown is 2 of them.
const HOLDING_LIMIT: f64 = 6.0;
/// The same with workers that hold nothing.
const EMPTY_LIMIT: f64 = 2.0;
/// Short beside what is measured, long beside a request.
const POLL: Duration = Duration::from_millis(50);
/// 100 MB and nothing that runs.
const HELD: Load = Load { short: 0, long: 0, ..Load::FULL };
/// Nothing at all.
const EMPTY: Load = Load { keys: 0, ..HELD };

/// The figures of this file.
pub const FIGURES: [Figure; 4] =
    [Figure::KeysLost, Figure::Recomputed, Figure::DrainTenToThree, Figure::DrainTenToThreeEmpty];

/// Those of [`FIGURES`] that are wanted.
///
/// # Errors
/// When the cluster does not come up, or does not do what it should.
#[expect(clippy::print_stdout, reason = "a bench prints what it measures")]
pub async fn drains(program: &Path, wanted: impl Fn(Figure) -> bool) -> Result<Vec<Measurement>> {
    let mut kubernetes = world::kubernetes(CLUSTER, Some(program.to_owned())).await?;
    let mut figures = Vec::new();
    for (figure, load, limit) in
        [(Figure::DrainTenToThree, HELD, HOLDING_LIMIT), (Figure::DrainTenToThreeEmpty, EMPTY, EMPTY_LIMIT)]
    {
        if wanted(figure) {
            let ((seconds, of_kubernetes), free) =
                ten_to_three(kubernetes, load).await.with_context(|| figure.to_string())?;
            println!(
                "{figure}: {seconds:.2} s; Kubernetes ends {GOING} pods without work in {of_kubernetes:.2} s"
            );
            figures.push(Measurement::new(figure, seconds, "s", limit, Bar::AtMostBaseline));
            kubernetes = free;
        }
    }
    if [Figure::KeysLost, Figure::Recomputed].into_iter().any(&wanted) {
        figures.extend(walk(kubernetes).await.context("walk")?);
    }
    figures.retain(|measurement| wanted(measurement.name));
    Ok(figures)
}

/// 1,000 keys of 100 kB on 8 workers while both groups are scaled up and down at random and tasks run.
#[expect(clippy::print_stdout, reason = "a bench prints what it measures")]
async fn walk(kubernetes: Kubernetes) -> Result<[Measurement; 2]> {
    let mut world = World::begin(kubernetes, Sizes::START, run::PATIENCE).await?;
    let mut audit = start(&world, Load::FULL).await?;
    let steps = plan(SEED, STEPS, Kinds::SCALING);
    let outcome = run::walk(&mut world, &mut audit, &steps, |row| println!("{}", row.line())).await?;
    drop(audit);
    ensure!(outcome.unconfirmed == 0, "{} workers were deleted too early", outcome.unconfirmed);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let count = |number: u64| number as f64;
    let cost = outcome.ledger.unexcused;
    let figure = |name, value, unit| Measurement::new(name, value, unit, 0.0, Bar::AtMostBaseline);
    let figures = [
        figure(Figure::KeysLost, count(cost.lost + cost.killed), "keys"),
        figure(Figure::Recomputed, count(cost.recomputed + cost.rerun), "tasks"),
    ];
    println!("keys-lost: {} workers scaled away in {} steps: {cost}\n", outcome.shrunk, outcome.steps);
    world.end().await?;
    Ok(figures)
}

/// Seconds from the write that asks for 3 of 10 workers until the other pods are gone; and what as many pods without
/// work take.
async fn ten_to_three(kubernetes: Kubernetes, load: Load) -> Result<((f64, f64), Kubernetes)> {
    let mut world = World::begin(kubernetes, BEFORE, run::PATIENCE).await?;
    let mut audit = start(&world, load).await?;
    audit.fill().await?;
    let before = audit.report(BEFORE.total(), PATIENCE).await?;
    ensure!(before.workers == BEFORE.total(), "{} workers came", before.workers);
    world.sizes = AFTER;
    let groups: Api<DaskWorkerGroup> = Api::namespaced(world.client.clone(), &world.namespace);
    let edit = Patch::Merge(json!({"spec": {"worker": {"replicas": AFTER.first}}}));
    let start = Instant::now();
    groups.patch(&world::group_name(Group::First), &PatchParams::default(), &edit).await?;
    loop {
        let count = world.workers(Group::First).await?.len();
        if i32::try_from(count)? == AFTER.first {
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "{count} workers are there after {} s", PATIENCE.as_secs());
        sleep(POLL).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let report = audit.report(AFTER.total(), PATIENCE).await?;
    ensure!(report.lost + report.wrong + report.twice_held == 0, "the drain lost keys: {report:?}");
    drop(audit);
    let of_kubernetes = pod_end::seconds_to_end(&world, GOING).await?;
    Ok(((seconds, of_kubernetes), world.end().await?))
}

async fn start(world: &World, load: Load) -> Result<Audit> {
    let scheduler = World::scheduler();
    Ok(Audit::start(&world.kubernetes, &world.namespace, SAFE_NODE, &scheduler, load).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_is_half_scale_downs_and_nothing_else() {
        let steps = plan(SEED, STEPS, Kinds::SCALING);
        let mut sizes = Sizes::START;
        let mut downs = 0;
        for step in &steps {
            downs += usize::from(step.shrinks(sizes) > 0);
            assert_ne!(step.sizes_after(sizes), sizes, "{step}");
            sizes = step.sizes_after(sizes);
        }
        assert!(downs * 3 > STEPS, "{downs} of {STEPS} steps scale down");
    }

    #[test]
    fn a_hundred_megabytes_are_held() {
        assert_eq!(HELD.keys * HELD.bytes, 100_000_000);
        assert_eq!(usize::try_from(BEFORE.first - AFTER.first).unwrap(), GOING);
        assert_eq!((HELD.short, HELD.long), (0, 0));
        assert_eq!((EMPTY.keys, EMPTY.short, EMPTY.long), (0, 0, 0));
    }
}
