//! What the operator takes when there is nothing to do: memory, and writes.

use anyhow::{Context, Result};
use futures::TryStreamExt;
use tokio::time::sleep;

use super::empty_cluster;
use crate::api_metrics::{ApiMetrics, between};
use crate::bench::Bench;
use crate::driver;
use crate::observer::Observer;
use crate::operator::Operator;
use crate::processes::{Memory, memory};
use crate::results::{Bar, Figure, Measurement};
use crate::statistics::median;

/// Most bytes that the operator may take with watches established and no objects.
const IDLE_LIMIT: f64 = 15e6;
/// Most bytes that each worker pod may add.
const POD_LIMIT: f64 = 10e3;

/// Memory of an operator without objects, what each worker pod adds, and writes at rest.
///
/// # Errors
/// When the operator ends, or a round fails.
#[expect(clippy::print_stdout, reason = "a bench prints what it measures")]
pub async fn memory_and_rest(bench: &mut Bench) -> Result<[Measurement; 3]> {
    let (mut idle, mut per_pod, mut writes) = (Vec::new(), Vec::new(), 0.0);
    for repetition in 1..=bench.size.repetitions {
        let namespace = bench.next_namespace().await?;
        let operator = bench.start_operator().await?;
        sleep(bench.size.settle).await;
        let before = memory(operator.pid())?;
        let after = fill(bench, &namespace, &operator).await?;
        let each = (after.resident - before.resident) / f64::from(bench.size.pods);
        println!("memory: {}", describe(before, after, each));
        idle.push(before.resident);
        per_pod.push(each);
        if repetition == bench.size.repetitions {
            writes = writes_at_rest(bench, &namespace).await?;
        }
        drop(operator);
        bench.server.clear(&namespace).await?;
    }
    let middle = |values: &[f64]| median(values).context("no rounds");
    Ok([
        Measurement::new(Figure::RssPerPod, middle(&per_pod)?, "bytes", POD_LIMIT, Bar::AtMostBaseline),
        Measurement::new(Figure::RssIdle, middle(&idle)?, "bytes", IDLE_LIMIT, Bar::AtMostBaseline),
        Measurement::new(Figure::WritesAtRest, writes, "writes/min", 0.0, Bar::AtMostBaseline),
    ])
}

/// Scales one cluster up; returns the operator's memory when it has come to rest.
async fn fill(bench: &Bench, namespace: &str, operator: &Operator) -> Result<Memory> {
    let client = &bench.server.client;
    let cluster = empty_cluster(bench, namespace).await?;
    let observer = Observer::of_workers(client, namespace).await?;
    driver::scale(client, &cluster, bench.size.pods).await?;
    observer.wait(usize::try_from(bench.size.pods)?).await?;
    bench.settle(&bench.server.operator).await?;
    sleep(bench.size.settle).await;
    memory(operator.pid())
}

/// Writes of the operator in a minute, with one big and many small clusters that need nothing.
#[expect(clippy::print_stdout, reason = "a bench prints what it measures")]
async fn writes_at_rest(bench: &mut Bench, namespace: &str) -> Result<f64> {
    // The name of the first is that of the big one.
    let small = bench.next_namespace().await?;
    let client = bench.server.client.clone();
    driver::create_clusters(&client, &small, bench.size.at_once, bench.size.workers, driver::IN_FLIGHT)
        .try_for_each(async |_| Ok(()))
        .await?;
    bench.settle(&bench.server.operator).await?;
    sleep(bench.size.settle).await;

    let before = ApiMetrics::read(&client).await?;
    sleep(bench.size.rest).await;
    let after = ApiMetrics::read(&client).await?;
    let account = &bench.server.operator.flow_schema;
    let writes = after.dispatched(account) - before.dispatched(account);
    let requests = between(&before.requests(), &after.requests());
    println!(
        "writes-at-rest: {writes} in {} s; requests of everybody: {requests:?}\n",
        bench.size.rest.as_secs()
    );
    bench.server.clear(&small).await?;
    bench.server.clear(namespace).await?;
    Ok(writes * 60.0 / bench.size.rest.as_secs_f64())
}

fn describe(before: Memory, after: Memory, each: f64) -> String {
    let megabytes = |memory: Memory| {
        format!(
            "{:.1} MB ({:.1} of it data, peak {:.1})",
            memory.resident / 1e6,
            memory.anonymous / 1e6,
            memory.peak / 1e6
        )
    };
    format!("idle {}, with pods {}, {each:.0} bytes a pod", megabytes(before), megabytes(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_words() {
        let before = Memory { resident: 12e6, anonymous: 3e6, peak: 13e6 };
        let after = Memory { resident: 22e6, anonymous: 13e6, peak: 30e6 };
        assert_eq!(
            describe(before, after, 5_000.0),
            "idle 12.0 MB (3.0 of it data, peak 13.0), with pods 22.0 MB (13.0 of it data, peak 30.0), 5000 bytes a pod"
        );
    }
}
