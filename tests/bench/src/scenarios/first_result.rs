//! How long a user of `KubeCluster` waits for the first result, with this operator and with that of dask-kubernetes, on
//! one Kubernetes with a node. Both operators run on the host, so that neither has an advantage.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use testbed::ClusterConfig;
use tokio::process::Command;
use tokio::time::timeout;

use crate::operator::Operator;
use crate::python_operator::Installation;
use crate::results::{Bar, Figure, Measurement};
use crate::server::Server;
use crate::statistics::median;

/// The local cluster.
pub const CLUSTER: &str = "bench-kubecluster";
/// The figure of this file.
pub const FIGURE: Figure = Figure::KubeclusterFirstResult;

const SCRIPT: &str = include_str!("../../python/first_result.py");
/// The sides take turns: a machine is not equally quick all the time.
const TURNS: usize = 2;
/// Rounds of each turn that count.
const ROUNDS: usize = 3;
/// Python and images start within seconds; on a busy machine within a minute.
const ROUND_PATIENCE: Duration = Duration::from_mins(4);

/// dask-kubernetes leaves a cluster in phase Pending at times, which its client reports in these words. That often it is
/// tried again.
const NEVER_RUNNING: &str = "resource not actioned after";
const FORGIVEN: usize = 3;

/// What the script measured.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
struct Round {
    constructor: f64,
    first_result: f64,
}

/// Seconds from `KubeCluster()` to the first result; the baseline is dask-kubernetes' own.
///
/// # Errors
/// When a side does not give a result.
#[expect(clippy::print_stdout, reason = "a bench prints what it measures")]
pub async fn first_result(program: &Path, log: &Path) -> Result<Measurement> {
    let installation = Installation::find().await?;
    let server = Server::launch(ClusterConfig::with_nodes(CLUSTER, 1)).await?;
    server.load_image(&e2e_tests::images::dask(&[]).await?).await?;

    let (mut ours, mut theirs) = (Side::new("ours", 0), Side::new("python", FORGIVEN));
    for side in [&ours, &theirs] {
        server.create_namespace(side.namespace).await?;
    }
    for turn in 0..TURNS {
        server.replace_definitions(&testbed::workspace::root().join("crds")).await?;
        let operator = Operator::start_with(program, &server.operator.kubeconfig, log, "auto").await?;
        ours.turn(&server, &installation, turn).await.context("this operator")?;
        drop(operator);

        server.replace_definitions(&installation.definitions()?).await?;
        let operator = installation.start(&server.operator.kubeconfig, log).await?;
        theirs.turn(&server, &installation, turn).await.context("dask-kubernetes")?;
        drop(operator);
    }
    server.stop().await?;

    println!("{}", side_by_side(&ours.rounds, &theirs.rounds));
    if theirs.never_running > 0 {
        println!(
            "dask-kubernetes left {} further clusters in phase Pending; they do not count\n",
            theirs.never_running
        );
    }
    let first = |rounds: &[Round]| {
        let seconds: Vec<f64> = rounds.iter().map(|round| round.first_result).collect();
        median(&seconds)
    };
    let (value, baseline) = first(&ours.rounds).zip(first(&theirs.rounds)).context("no rounds")?;
    Ok(Measurement::new(FIGURE, value, "s", baseline, Bar::AtMostBaseline))
}

/// One of the two, and what was measured of it.
struct Side {
    namespace: &'static str,
    /// How many clusters may never become Running.
    forgiven: usize,
    never_running: usize,
    rounds: Vec<Round>,
}

impl Side {
    fn new(namespace: &'static str, forgiven: usize) -> Self {
        Self { namespace, forgiven, never_running: 0, rounds: Vec::new() }
    }

    /// One turn. Its first round warms up the node's caches and does not count; each begins when no pod of the last is
    /// left, which would take processor time from it.
    async fn turn(&mut self, server: &Server, installation: &Installation, turn: usize) -> Result<()> {
        let mut rounds = Vec::new();
        while rounds.len() <= ROUNDS {
            let name = format!("first-{turn}-{}-{}", rounds.len(), self.never_running);
            if let Some(round) = self.round(server, installation, &name).await? {
                rounds.push(round);
            } else {
                self.never_running += 1;
                server.clear(self.namespace).await?;
            }
            server.pods_are_gone(self.namespace).await?;
        }
        self.rounds.extend(rounds.into_iter().skip(1));
        Ok(())
    }

    /// None when the cluster never became Running, and that is forgiven.
    async fn round(&self, server: &Server, installation: &Installation, name: &str) -> Result<Option<Round>> {
        let script = Command::new(installation.python())
            .args(["-c", SCRIPT, self.namespace, testbed::images::DASK, name])
            .env("KUBECONFIG", server.kubeconfig())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(ROUND_PATIENCE, script).await.context("the script does not end")??;
        let (text, errors) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if errors.contains(NEVER_RUNNING) && self.never_running < self.forgiven {
            return Ok(None);
        }
        ensure!(output.status.success(), "the script failed: {text}{errors}");
        parse(&text).with_context(|| format!("the script said {text:?}")).map(Some)
    }
}

fn parse(text: &str) -> Result<Round> {
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}

fn side_by_side(ours: &[Round], theirs: &[Round]) -> String {
    let list = |rounds: &[Round], pick: fn(&Round) -> f64| {
        let all: Vec<String> = rounds.iter().map(|round| format!("{:.1}", pick(round))).collect();
        all.join(" ")
    };
    let row = |what: &str, ours: String, theirs: String| format!("{what:<44} {ours:>32} {theirs:>32}\n");
    let both = |what: &str, pick: fn(&Round) -> f64| row(what, list(ours, pick), list(theirs, pick));
    [
        row("seconds, round by round", "this operator".into(), "dask-kubernetes".into()),
        both("KubeCluster()", |round| round.constructor),
        both("KubeCluster() and first result", |round| round.first_result),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_answer() {
        let round = parse("a warning\n{\"constructor\": 1.5, \"first_result\": 4.0}\n").unwrap();
        assert_eq!(round, Round { constructor: 1.5, first_result: 4.0 });
        assert!(parse("").is_err());
    }

    #[test]
    fn the_table_has_every_round_of_both_sides() {
        let round = |first_result| Round { constructor: 1.0, first_result };
        let text = side_by_side(&[round(4.0), round(5.0)], &[round(6.0)]);
        let line = text.lines().last().unwrap();
        assert!(line.contains("4.0 5.0") && line.ends_with("6.0"), "{text}");
    }
}
