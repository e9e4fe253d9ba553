//! What one namespace notices of another that is full of broken clusters.

use std::path::Path;

use anyhow::{Context, Result};
use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use testbed::ClusterConfig;

use crate::audit_log::{Write, writes};
use crate::bench::{Bench, Size};
use crate::driver;
use crate::noise::Noise;
use crate::observer::WORKERS;
use crate::results::{Bar, Figure, Measurement};
use crate::scheduler_pods;
use crate::server::Server;
use crate::statistics::{median, percentile};
use crate::wait::wait_for;
use crate::workload;

/// The API server of this figure, which logs every request.
pub const CLUSTER: &str = "bench-noisy";
/// The figure of this file.
pub const FIGURE: Figure = Figure::NoisyNeighbour;

/// Longest time until the operator acts, in seconds.
const LIMIT: f64 = 1.0;
/// What the user of the quiet namespace does, and what the operator does then: a new cluster gets a Service, a group that
/// is too small gets workers, a Service that is not as it should be is changed.
const ACTS: [(&str, &str); 3] = [
    ("create daskclusters", "create services"),
    ("patch daskworkergroups", "create pods"),
    ("patch daskclusters", "patch services"),
];
/// Workers of a quiet cluster.
const QUIET_WORKERS: i32 = 3;

/// Seconds from each act of the user until the operator's write for it was answered.
#[derive(Clone, Debug, Default)]
struct Reactions {
    by_act: [Vec<f64>; 3],
    /// CPU time that the operator took meanwhile.
    cpu: f64,
}

impl Reactions {
    fn all(&self) -> Vec<f64> {
        self.by_act.concat()
    }

    fn add(&mut self, other: Self) {
        for (all, more) in self.by_act.iter_mut().zip(other.by_act) {
            all.extend(more);
        }
        self.cpu += other.cpu;
    }

    /// One line for a person.
    fn summary(&self) -> Result<String> {
        let all = self.all();
        let of = |values: &[f64], percent| percentile(values, percent).context("nothing was done");
        let acts = ACTS
            .iter()
            .zip(&self.by_act)
            .map(|((_, reaction), seconds)| Ok(format!("{reaction} p99 {:.3} s", of(seconds, 99.0)?)));
        Ok(format!(
            "{} acts: median {:.3} s, p99 {:.3} s, longest {:.3} s ({}); operator {:.1} CPU s",
            all.len(),
            median(&all).context("nothing was done")?,
            of(&all, 99.0)?,
            of(&all, 100.0)?,
            acts.collect::<Result<Vec<_>>>()?.join(", "),
            self.cpu,
        ))
    }
}

/// Time from what the user of a quiet namespace writes until the operator acts, while hundreds of clusters in another
/// namespace are created, fail and go on failing: the 99th percentile. The same without them is measured in turn.
///
/// # Errors
/// When a round fails.
#[expect(clippy::print_stdout, reason = "a bench prints what it measures")]
pub async fn noisy_neighbour(size: Size, program: &Path, log: &Path) -> Result<Measurement> {
    let config = ClusterConfig::api_only(CLUSTER).with_audit_log();
    let server = Server::start_without_controllers(config).await?;
    let mut bench = Bench::new(server, program.to_owned(), log.to_owned(), size);
    let (mut alone, mut beside_noise) = (Reactions::default(), Reactions::default());
    for pair in 0..size.noisy_pairs {
        let noisy_first = !pair.is_multiple_of(2);
        for noisy in [noisy_first, !noisy_first] {
            let reactions = round(&mut bench, noisy).await.with_context(|| format!("noise: {noisy}"))?;
            let all = if noisy { &mut beside_noise } else { &mut alone };
            all.add(reactions);
        }
    }
    println!(
        "{FIGURE}: {} broken clusters in another namespace\n  without them {}\n  with them    {}\n",
        size.broken,
        alone.summary()?,
        beside_noise.summary()?
    );
    let p99 = percentile(&beside_noise.all(), 99.0).context("nothing was done")?;
    bench.server.stop().await?;
    Ok(Measurement::new(FIGURE, p99, "s", LIMIT, Bar::AtMostBaseline))
}

async fn round(bench: &mut Bench, with_noise: bool) -> Result<Reactions> {
    let (quiet, other) = (bench.next_namespace().await?, bench.next_namespace().await?);
    let operator = bench.start_operator_with("direct").await?;
    let processes = bench.server.processes.with_operator(Some(operator.pid()));
    let noise = if with_noise {
        Some(Noise::begin(&bench.server.client, &other, bench.size.broken).await?)
    } else {
        None
    };
    let before = processes.cpu_seconds()?;
    for number in 0..bench.size.quiet {
        live(&bench.server, &quiet, &format!("quiet-{number:03}")).await?;
    }
    let cpu = processes.cpu_seconds()? - before;
    drop((noise, operator));
    let written = writes(&bench.server.audit_log(), &quiet)?;
    bench.server.clear(&quiet).await?;
    bench.server.clear(&other).await?;
    let by_act = reactions(&written, &bench.server.operator.user)?;
    Ok(Reactions { by_act, cpu: cpu.operator })
}

/// A cluster is created, gets workers and is edited, one after the other, each when the operator has done its part.
async fn live(server: &Server, namespace: &str, name: &str) -> Result<()> {
    let client = &server.client;
    let clusters: Api<DaskCluster> = Api::namespaced(client.clone(), namespace);
    let groups: Api<DaskWorkerGroup> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let (group, scheduler) = (format!("{name}-default"), format!("{name}-scheduler"));

    let cluster = clusters.create(&PostParams::default(), &workload::cluster(namespace, name, 0)?).await?;
    // Workers wait for the pod of their scheduler.
    wait_for("group and scheduler of the quiet cluster", async || {
        let there = groups.get_opt(&group).await.is_ok_and(|group| group.is_some());
        let pod = pods.get_opt(&scheduler_pods::name(&scheduler)).await;
        there && pod.is_ok_and(|pod| pod.is_some())
    })
    .await?;

    driver::scale(client, &cluster, QUIET_WORKERS).await?;
    let workers = ListParams::default().labels(&format!("{WORKERS},dask.org/cluster-name={name}"));
    wait_for("workers of the quiet cluster", async || {
        let count = usize::try_from(QUIET_WORKERS).unwrap_or_default();
        pods.list_metadata(&workers).await.is_ok_and(|list| list.items.len() == count)
    })
    .await?;

    let mut ports = cluster.spec.scheduler.service.ports.clone().unwrap_or_default();
    ports.push(serde_json::from_value(json!({"name": "extra", "port": 9_000}))?);
    let wanted = ports.len();
    let patch = json!({"spec": {"scheduler": {"service": {"ports": ports}}}});
    clusters.patch(&cluster.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
    wait_for("the Service of the quiet cluster to be changed", async || {
        let service = services.get(&scheduler).await;
        service.is_ok_and(|service| {
            service.spec.and_then(|spec| spec.ports).is_some_and(|ports| ports.len() == wanted)
        })
    })
    .await
}

/// How long each act had to wait for what the operator does then.
fn reactions(writes: &[Write], operator: &str) -> Result<[Vec<f64>; 3]> {
    let mut by_act = <[Vec<f64>; 3]>::default();
    for act in writes.iter().filter(|write| write.user != operator) {
        let Some(number) = ACTS.iter().position(|(what, _)| *what == act.what) else { continue };
        let reaction = ACTS[number].1;
        // The operator may see it before the API server has answered.
        let after = |write: &&Write| {
            write.user == operator && write.what == reaction && write.answered >= act.received
        };
        let first = writes.iter().find(after).with_context(|| format!("no {reaction} after {}", act.what))?;
        by_act[number].push(first.answered.duration_since(act.received).as_secs_f64());
    }
    Ok(by_act)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(user: &str, what: &str, millis: i64) -> Write {
        let time = |millis| jiff::Timestamp::from_millisecond(millis).unwrap();
        Write {
            user: user.to_owned(),
            what: what.to_owned(),
            received: time(millis - 5),
            answered: time(millis),
        }
    }

    #[test]
    fn each_act_waits_for_its_own_reaction() {
        let writes = [
            write("user", "create daskclusters", 1_000),
            write("op", "patch daskclusters/status", 1_010),
            write("op", "create services", 1_095),
            write("user", "create pods", 1_100),
            write("user", "patch daskworkergroups", 2_000),
            write("op", "patch daskworkergroups", 2_010),
            write("op", "create pods", 2_045),
            write("op", "create pods", 2_046),
        ];
        let [services, pods, patches] = reactions(&writes, "op").unwrap();
        assert_eq!((services, pods, patches), (vec![0.1], vec![0.05], vec![]));
        let unanswered = [write("user", "patch daskclusters", 1_000)];
        let error = reactions(&unanswered, "op").unwrap_err().to_string();
        assert_eq!(error, "no patch services after patch daskclusters");
    }

    #[test]
    fn a_summary_has_all_acts() {
        let reactions = Reactions { by_act: [vec![0.1], vec![0.2], vec![0.3, 0.4]], cpu: 1.0 };
        let text = reactions.summary().unwrap();
        assert!(
            text.starts_with("4 acts: median 0.250 s") && text.contains("create pods p99 0.200 s"),
            "{text}"
        );
        assert!(Reactions::default().summary().is_err());
    }
}
