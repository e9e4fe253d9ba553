//! A bench in progress: the API server, the operator's program, and how a round is timed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use crate::accounts::Account;
use crate::api_metrics::{ApiMetrics, between};
use crate::observer::Observer;
use crate::operator::Operator;
use crate::pairs::{Pair, Pairs, Round, Side, Subject, order};
use crate::results::{Bar, Measurement};
use crate::server::{Census, Server};
use crate::wait::PATIENCE;

/// A side that has written nothing for this long is done: the operator spaces status writes by half a second.
const QUIET: Duration = Duration::from_millis(1_500);
const POLL: Duration = Duration::from_millis(250);

/// In a pair that counts, other processes take at most this part of the machine's CPU time.
const DISTURBED: f64 = 0.1;

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
    /// Pairs of rounds that are thrown away, because the API server is not warm yet.
    pub warm_ups: usize,
    /// Pairs of rounds that count.
    pub pairs: usize,
    /// Pairs that are tried to find those, if other processes disturb.
    pub most_pairs: usize,
    /// Times that the operator is started to see its memory, and to see clusters become Running.
    pub repetitions: usize,
    /// How long the operator is left alone before its memory is read.
    pub settle: Duration,
    /// How long writes at rest are counted.
    pub rest: Duration,
    /// Schedulers that are asked at a time.
    pub links: u16,
    /// Broken clusters of the noisy neighbour.
    pub broken: u16,
    /// Clusters that the quiet neighbour makes one after the other, with noise and without.
    pub quiet: usize,
    /// Pairs of rounds with noise and without.
    pub noisy_pairs: usize,
    /// Whether what takes minutes is measured too.
    pub minutes: bool,
}

impl Size {
    /// What the bars are defined for.
    pub const FULL: Self = Self {
        clusters: 200,
        workers: 3,
        pods: 2_000,
        at_once: 50,
        warm_ups: 1,
        pairs: 6,
        most_pairs: 18,
        repetitions: 3,
        settle: Duration::from_secs(10),
        rest: Duration::from_mins(1),
        links: 1_000,
        broken: 500,
        quiet: 20,
        noisy_pairs: 3,
        minutes: true,
    };
    /// Shows in half a minute that the bench works; its figures mean nothing.
    pub const QUICK: Self = Self {
        clusters: 10,
        workers: 2,
        pods: 50,
        at_once: 5,
        warm_ups: 0,
        pairs: 1,
        most_pairs: 1,
        repetitions: 1,
        settle: Duration::from_secs(1),
        rest: Duration::from_secs(2),
        links: 20,
        broken: 60,
        quiet: 2,
        noisy_pairs: 1,
        minutes: false,
    };
}

/// A bench in progress.
#[derive(Debug)]
pub struct Bench {
    /// What both sides write to.
    pub server: Server,
    /// How much is measured.
    pub size: Size,
    program: PathBuf,
    log: PathBuf,
    namespaces: usize,
}

impl Bench {
    /// Prepares a bench of the operator `program`, whose log goes to `log`.
    #[must_use]
    pub fn new(server: Server, program: PathBuf, log: PathBuf, size: Size) -> Self {
        Self { server, size, program, log, namespaces: 0 }
    }

    /// Starts the operator.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_operator(&self) -> Result<Operator> {
        Operator::start(&self.program, &self.server.operator.kubeconfig, &self.log).await
    }

    /// Starts the operator with a value of `--scheduler-access`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_operator_with(&self, access: &str) -> Result<Operator> {
        Operator::start_with(&self.program, &self.server.operator.kubeconfig, &self.log, access).await
    }

    /// Makes a namespace for one round.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn next_namespace(&mut self) -> Result<String> {
        self.namespaces += 1;
        let name = format!("bench-{}", self.namespaces);
        self.server.create_namespace(&name).await?;
        Ok(name)
    }

    /// Runs both sides in turn and compares them; prints where the time went.
    ///
    /// # Errors
    /// When a round fails.
    #[expect(clippy::print_stdout, reason = "a bench prints what it measures")]
    pub async fn compare(
        &mut self,
        subject: Subject,
        raw_writer: impl AsyncFn(&Self, &str) -> Result<Round>,
        operator: impl AsyncFn(&Self, &str) -> Result<Round>,
    ) -> Result<Measurement> {
        let mut pairs: Vec<Pair> = Vec::new();
        let quiet = |pairs: &[Pair]| pairs.iter().filter(|pair| pair.disturbance() <= DISTURBED).count();
        let (warm_ups, wanted) = (self.size.warm_ups, self.size.pairs);
        for number in 0..warm_ups + self.size.most_pairs {
            let mut pair = Pair::default();
            for side in order(number) {
                let namespace = self.next_namespace().await?;
                let round = match side {
                    Side::RawWriter => {
                        raw_writer(self, &namespace).await.map(|round| pair.raw_writer = round)
                    }
                    Side::Operator => operator(self, &namespace).await.map(|round| pair.operator = round),
                };
                round.with_context(|| format!("{side:?}, pair {number}"))?;
                self.server.clear(&namespace).await?;
            }
            if number >= warm_ups {
                pairs.push(pair);
            }
            if quiet(&pairs) >= wanted {
                break;
            }
        }
        let (all, undisturbed) = (pairs.len(), quiet(&pairs).min(wanted));
        let pairs = Pairs::least_disturbed(pairs, wanted);
        if undisturbed < wanted {
            println!(
                "In {all} pairs of rounds, other processes left only {undisturbed} alone: do not trust this."
            );
        }
        println!("{}", pairs.explanation(&subject));
        pairs.measurement(&subject, Bar::RatioAtLeast(0.9)).context("no rounds")
    }

    /// Times `work` of a side from its start until the observer has seen `count` objects; then waits until the
    /// side has nothing more to write, and checks the outcome.
    ///
    /// # Errors
    /// When `work` fails, objects do not come, or there are not exactly those that are expected.
    pub async fn time(
        &self,
        operator: Option<&Operator>,
        namespace: &str,
        (observer, count): (Observer, usize),
        expected: Census,
        work: impl Future<Output = Result<()>>,
    ) -> Result<Round> {
        let account = if operator.is_some() { &self.server.operator } else { &self.server.raw_writer };
        let processes = self.server.processes.with_operator(operator.map(Operator::pid));
        let metrics = ApiMetrics::read(&self.server.client).await?;
        // In a task of its own: the moment is noted when it comes, whatever else this task does.
        let watched = processes.clone();
        let seen = tokio::spawn(async move {
            observer.wait(count).await?;
            anyhow::Ok((Instant::now(), watched.cpu_seconds()?))
        });
        let cpu = processes.cpu_seconds()?;
        let start = Instant::now();
        work.await?;
        let (end, cpu_at_end) = seen.await??;
        let settled = self.settle(account).await?;
        self.server.verify(namespace, expected).await?;
        Ok(Round {
            seconds: (end - start).as_secs_f64(),
            cpu: cpu_at_end - cpu,
            writes: settled.dispatched(&account.flow_schema) - metrics.dispatched(&account.flow_schema),
            requests: between(&metrics.requests(), &settled.requests()),
        })
    }

    /// Waits until an account has written nothing for a while.
    ///
    /// # Errors
    /// When it goes on writing.
    pub async fn settle(&self, account: &Account) -> Result<ApiMetrics> {
        let (mut last, mut since) = (f64::NAN, Instant::now());
        let deadline = since + PATIENCE;
        loop {
            let metrics = ApiMetrics::read(&self.server.client).await?;
            let writes = metrics.dispatched(&account.flow_schema);
            // The first reading is different from NaN.
            if (writes - last).abs() < 0.5 {
                if since.elapsed() >= QUIET {
                    return Ok(metrics);
                }
            } else {
                (last, since) = (writes, Instant::now());
            }
            let name = &account.flow_schema;
            anyhow::ensure!(Instant::now() < deadline, "{name} does not come to rest: {writes} so far");
            sleep(POLL).await;
        }
    }
}
