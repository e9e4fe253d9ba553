//! The walk itself.

use std::time::{Duration, Instant};

use crate::{
    Error,
    audit::Audit,
    deletions::{Deletions, unconfirmed},
    ledger::{Excuse, Ledger},
    perform::{Done, perform},
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
    /// Pods of workers that were deleted by somebody else than the walk.
    pub deleted: usize,
    /// Those of them that the scheduler had not let go before.
    pub unconfirmed: usize,
}

impl Outcome {
    /// Whether nothing happened that may not.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.ledger.is_clean() && self.unconfirmed == 0
    }
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
    let deletions = Deletions::watch(world.client.clone(), &world.namespace);
    audit.fill().await?;
    let first = audit.report(world.sizes.total(), AUDIT_PATIENCE).await?;
    let mut ledger = Ledger::default();
    // The first keys count too: nothing before this may be lost.
    ledger.enter(first, Excuse::None);
    let mut outcome = Outcome { ledger, ..Outcome::default() };
    for (number, step) in steps.iter().enumerate() {
        let number = number + 1;
        let row = take(world, audit, &deletions, &mut outcome, *step);
        let row = row.await.map_err(|error| Error::Step {
            number,
            step: step.to_string(),
            source: Box::new(error),
        })?;
        tell(&Row { number, ..row });
    }
    Ok(outcome)
}

async fn take(
    world: &mut World,
    audit: &mut Audit,
    deletions: &Deletions,
    outcome: &mut Outcome,
    step: Step,
) -> Result<Row, Error> {
    let start = Instant::now();
    let shrinks = step.shrinks(world.sizes);
    let Done { excuse, taken } = perform(world, audit, step).await?;
    world.settle(PATIENCE).await?;
    let report = audit.report(world.sizes.total(), AUDIT_PATIENCE).await?;
    let deleted = deletions.take();
    let unconfirmed = unconfirmed(&deleted, &audit.changes().await?, &taken);
    let workers = (report.workers, world.sizes.total());
    let twice = report.twice.clone();
    let (cost, may) = outcome.ledger.enter(report, excuse);
    outcome.steps += 1;
    outcome.shrunk += shrinks;
    outcome.deleted += deleted.iter().filter(|deletion| !taken.contains(&deletion.pod)).count();
    outcome.unconfirmed += unconfirmed.len();
    let seconds = start.elapsed().as_secs_f64();
    Ok(Row { number: 0, step, workers, seconds, cost, may, twice, unconfirmed })
}
