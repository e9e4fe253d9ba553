//! What is measured, and how.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::time::{Instant, sleep};

use crate::observer::{Observer, time_to_running};
use crate::operator::Operator;
use crate::results::{Bar, Measurement};
use crate::server::{Server, wait_for};
use crate::statistics::{median, percentile};
use crate::{IN_FLIGHT, raw_writer, workload};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Clusters of the creation rate.
    pub clusters: usize,
    /// Workers of each of them.
    pub workers: i32,
    /// Pods of the scale-up.
    pub pods: i32,
    /// Clusters created at once for the time to Running.
    pub at_once: usize,
    /// Pairs of rounds, after one that is thrown away.
    pub rounds: usize,
    /// How long the operator is left alone before its memory is read.
    pub settle: Duration,
    /// How long writes at rest are counted.
    pub rest: Duration,
}

impl Size {
    /// What the bars are defined for.
    pub const FULL: Self = Self {
        clusters: 200,
        workers: 3,
        pods: 2000,
        at_once: 50,
        rounds: 5,
        settle: Duration::from_secs(10),
        rest: Duration::from_secs(60),
    };
    /// Shows in half a minute that the bench works; its figures mean nothing.
    pub const QUICK: Self = Self {
        clusters: 10,
        workers: 2,
        pods: 50,
        at_once: 5,
        rounds: 1,
        settle: Duration::from_secs(1),
        rest: Duration::from_secs(2),
    };
}

/// A bench in progress.
#[derive(Debug)]
pub struct Bench {
    server: Server,
    program: PathBuf,
    log: PathBuf,
    size: Size,
    namespaces: usize,
}

/// One timed round.
#[derive(Clone, Copy, Debug)]
struct Round {
    seconds: f64,
    writes: f64,
    /// CPU seconds of the operator, if it was the one that wrote.
    cpu: Option<f64>,
}

impl Bench {
    /// Prepares a bench of the operator `program`, whose log goes to `log`.
    #[must_use]
    pub fn new(server: Server, program: PathBuf, log: PathBuf, size: Size) -> Self {
        Self { server, program, log, size, namespaces: 0 }
    }

    /// Stops the API server.
    ///
    /// # Errors
    /// When something stays.
    pub async fn finish(self) -> Result<()> {
        self.server.stop().await
    }

    /// Rate of creating clusters with all their objects.
    ///
    /// # Errors
    /// When a round fails.
    pub async fn create_clusters(&mut self) -> Result<Measurement> {
        let Size { clusters, workers, .. } = self.size;
        let children = clusters * (3 + usize::try_from(workers)?);
        let raw = async |bench: &Self, namespace: &str| -> Result<Round> {
            let client = bench.server.client().await?;
            let observer = Observer::of_children(&client, namespace).await?;
            bench
                .timed(
                    None,
                    observer,
                    children,
                    raw_writer::create_clusters(&client, namespace, clusters, workers),
                )
                .await
        };
        let operator = async |bench: &Self, namespace: &str| -> Result<Round> {
            let operator = bench.operator().await?;
            let client = bench.server.client().await?;
            let observer = Observer::of_children(&client, namespace).await?;
            let create = async { create(&client, namespace, clusters, workers).await.map(|_| ()) };
            bench.timed(Some(&operator), observer, children, create).await
        };
        self.compare("create-clusters", "objects/s", children + clusters, raw, operator).await
    }

    /// Rate of creating the pods of one group.
    ///
    /// # Errors
    /// When a round fails.
    pub async fn scale_up(&mut self) -> Result<Measurement> {
        let pods = self.size.pods;
        let count = usize::try_from(pods)?;
        let raw = async |bench: &Self, namespace: &str| -> Result<Round> {
            let client = bench.server.client().await?;
            raw_writer::create_clusters(&client, namespace, 1, 0).await?;
            let clusters: Api<DaskCluster> = Api::namespaced(client.clone(), namespace);
            let cluster = clusters.get("bench-000").await?;
            let observer = Observer::of_pods(&client, namespace).await?;
            bench.timed(None, observer, count, raw_writer::scale_up(&client, namespace, &cluster, pods)).await
        };
        let operator = async |bench: &Self, namespace: &str| -> Result<Round> {
            let operator = bench.operator().await?;
            let client = bench.server.client().await?;
            bench.empty_cluster(&client, namespace).await?;
            let groups: Api<DaskWorkerGroup> = Api::namespaced(client.clone(), namespace);
            let observer = Observer::of_pods(&client, namespace).await?;
            let scale =
                async { raw_writer::set_replicas(&groups, "bench-000-default", pods).await.map(|_| ()) };
            bench.timed(Some(&operator), observer, count, scale).await
        };
        self.compare("scale-up", "pods/s", count, raw, operator).await
    }

    /// Time from the creation of a cluster to phase Running, with many created at once.
    ///
    /// # Errors
    /// When a round fails.
    pub async fn running(&mut self) -> Result<Measurement> {
        let mut seconds = Vec::new();
        for _ in 0..self.size.rounds {
            let namespace = self.namespace().await?;
            let operator = self.operator().await?;
            let client = self.server.client().await?;
            let count = self.size.at_once;
            let times =
                time_to_running(&client, &namespace, create(&client, &namespace, count, self.size.workers))
                    .await?;
            seconds.extend(times.iter().map(Duration::as_secs_f64));
            drop(operator);
            self.server.clear(&namespace).await?;
        }
        let p99 = percentile(&seconds, 99.0).context("no cluster was created")?;
        let (middle, most) = (median(&seconds).unwrap_or(p99), percentile(&seconds, 100.0).unwrap_or(p99));
        println!(
            "running-p99: {} clusters, median {middle:.2} s, p99 {p99:.2} s, longest {most:.2} s",
            seconds.len()
        );
        Ok(Measurement::new("running-p99", p99, "s", 1.0, Bar::ValueAtMostBaseline))
    }

    /// Memory when idle and for each worker pod, and writes at rest.
    ///
    /// # Errors
    /// When the operator ends.
    pub async fn memory_and_rest(&mut self) -> Result<Vec<Measurement>> {
        let namespace = self.namespace().await?;
        let operator = self.operator().await?;
        let client = self.server.client().await?;
        sleep(self.size.settle).await;
        let idle = operator.resident_bytes()?;

        self.empty_cluster(&client, &namespace).await?;
        let groups: Api<DaskWorkerGroup> = Api::namespaced(client.clone(), &namespace);
        let observer = Observer::of_pods(&client, &namespace).await?;
        raw_writer::set_replicas(&groups, "bench-000-default", self.size.pods).await?;
        observer.wait(usize::try_from(self.size.pods)?).await?;
        sleep(self.size.settle).await;
        let per_pod = (operator.resident_bytes()? - idle) / f64::from(self.size.pods);

        let before = self.server.writes().await?;
        sleep(self.size.rest).await;
        let writes = (self.server.writes().await? - before) * 60.0 / self.size.rest.as_secs_f64();
        drop(operator);
        self.server.clear(&namespace).await?;
        let bar = Bar::ValueAtMostBaseline;
        Ok(vec![
            Measurement::new("rss-idle", idle, "bytes", 15e6, bar),
            Measurement::new("rss-per-pod", per_pod, "bytes/pod", 10e3, bar),
            Measurement::new("writes-at-rest", writes, "writes/min", 0.0, bar),
        ])
    }

    /// Runs both sides in turn, the order changing from pair to pair, and compares the medians.
    async fn compare(
        &mut self,
        name: &'static str,
        unit: &'static str,
        objects: usize,
        raw: impl AsyncFn(&Self, &str) -> Result<Round>,
        operator: impl AsyncFn(&Self, &str) -> Result<Round>,
    ) -> Result<Measurement> {
        let (mut baseline, mut measured) = (Vec::new(), Vec::new());
        for pair in 0..=self.size.rounds {
            for operators_turn in if pair % 2 == 0 { [false, true] } else { [true, false] } {
                let namespace = self.namespace().await?;
                let round = if operators_turn {
                    operator(self, &namespace).await
                } else {
                    raw(self, &namespace).await
                }?;
                self.server.clear(&namespace).await?;
                // The first pair warms the API server.
                if pair > 0 {
                    if operators_turn { measured.push(round) } else { baseline.push(round) }
                }
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a few thousand objects")]
        let rate = |round: &Round| objects as f64 / round.seconds;
        let rates = |rounds: &[Round]| rounds.iter().map(rate).collect::<Vec<_>>();
        let middle = |values: &[f64]| median(values).context("no rounds");
        let (operator_rate, raw_rate) = (middle(&rates(&measured))?, middle(&rates(&baseline))?);
        explain(name, &baseline, &measured, &rates(&baseline), &rates(&measured));
        Ok(Measurement::new(name, operator_rate, unit, raw_rate, Bar::RatioAtLeast(0.9)))
    }

    /// Times `work` from its start until the observer has seen all objects.
    async fn timed(
        &self,
        operator: Option<&Operator>,
        observer: Observer,
        objects: usize,
        work: impl Future<Output = Result<()>>,
    ) -> Result<Round> {
        let writes = self.server.writes().await?;
        let cpu = operator.map(Operator::cpu_time).transpose()?;
        let started = Instant::now();
        let (end, ()) = futures::try_join!(observer.wait(objects), work)?;
        let used = operator.map(Operator::cpu_time).transpose()?;
        let writes = self.server.writes().await? - writes;
        let cpu = used.zip(cpu).map(|(after, before)| (after - before).as_secs_f64());
        Ok(Round { seconds: (end - started).as_secs_f64(), writes, cpu })
    }

    async fn operator(&self) -> Result<Operator> {
        Operator::start(&self.server, &self.program, &self.log).await
    }

    async fn namespace(&mut self) -> Result<String> {
        self.namespaces += 1;
        let name = format!("bench-{}", self.namespaces);
        self.server.namespace(&name).await?;
        Ok(name)
    }

    /// A cluster without workers, once its group is there.
    async fn empty_cluster(&self, client: &Client, namespace: &str) -> Result<()> {
        create(client, namespace, 1, 0).await?;
        let groups: Api<DaskWorkerGroup> = Api::namespaced(client.clone(), namespace);
        wait_for("the group", async || {
            groups.get("bench-000-default").await.is_ok_and(|group| group.status.is_some())
        })
        .await
    }
}

/// Creates clusters for the operator; returns when each creation was answered.
async fn create(
    client: &Client,
    namespace: &str,
    count: usize,
    workers: i32,
) -> Result<Vec<(String, Instant)>> {
    let clusters: Api<DaskCluster> = Api::namespaced(client.clone(), namespace);
    stream::iter(0..count)
        .map(async |number| {
            let cluster = workload::cluster(namespace, &format!("bench-{number:03}"), workers)?;
            let cluster = clusters.create(&PostParams::default(), &cluster).await?;
            Ok((cluster.name_any(), Instant::now()))
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}

/// Says where the time went: pair by pair, and the number of writes of each side.
fn explain(name: &str, baseline: &[Round], measured: &[Round], raw_rates: &[f64], rates: &[f64]) {
    let pairs: Vec<String> =
        rates.iter().zip(raw_rates).map(|(own, raw)| format!("{:.2}", own / raw)).collect();
    let of = |rounds: &[Round], figure: fn(&Round) -> f64| {
        median(&rounds.iter().map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    };
    println!(
        "{name}: ratio pair by pair {}; writes {:.0} (raw {:.0}); seconds {:.2} (raw {:.2}); CPU seconds of the \
         operator {:.2}",
        pairs.join(" "),
        of(measured, |round| round.writes),
        of(baseline, |round| round.writes),
        of(measured, |round| round.seconds),
        of(baseline, |round| round.seconds),
        of(measured, |round| round.cpu.unwrap_or(f64::NAN)),
    );
}
