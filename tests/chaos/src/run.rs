//! The walk itself.

use std::time::{Duration, Instant};

use crate::{
    Error,
    audit::Audit,
    ledger::{Excuse, Ledger},
    perform::perform,
    plan::Step,
    table::Row,
    world::World,
};

/// Longest time that a step may take to show its effect: drains wait for tasks of 5 s, and every core is busy.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// Beyond the pods being ready, until Dask agrees.
const AUDIT_PATIENCE: Duration = Duration::from_mins(1);

/// What came of a walk.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was lost.
    pub ledger: Ledger,
    /// Steps that were done.
    pub steps: usize,
    /// Workers that had to go because of them.
    pub shrunk: i32,
}

/// Takes every step, and tells of each as it is judged.
///
/// # Errors
/// When a step cannot be done, or does not show its effect in time; that something was lost is in the outcome.
pub async fn walk(
    world: &mut World,
    audit: &mut Audit,
    steps: &[Step],
    mut tell: impl FnMut(&Row),
) -> Result<Outcome, Error> {
    audit.fill().await?;
    let first = audit.report(world.sizes.total(), AUDIT_PATIENCE).await?;
    let mut ledger = Ledger::default();
    // The first keys count too: nothing before this may be lost.
    ledger.enter(first, Excuse::None);
    let mut outcome = Outcome { ledger, ..Outcome::default() };
    for (number, step) in steps.iter().enumerate() {
        let start = Instant::now();
        outcome.shrunk += step.shrinks(world.sizes);
        let excuse = perform(world, audit, *step).await?;
        world.settle(PATIENCE).await?;
        let report = audit.report(world.sizes.total(), AUDIT_PATIENCE).await?;
        let workers = (report.workers, world.sizes.total());
        let twice = report.twice.clone();
        let (cost, may) = outcome.ledger.enter(report, excuse);
        outcome.steps += 1;
        tell(&Row {
            number: number + 1,
            step: *step,
            workers,
            seconds: start.elapsed().as_secs_f64(),
            cost,
            may,
            twice,
        });
    }
    Ok(outcome)
}
