//! Doing a step.

use std::time::Duration;

use e2e_tests::{
    operator,
    wait::{self, Look},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

use crate::{
    Error,
    audit::Audit,
    ledger::Excuse,
    plan::{Group, Step},
    world::{DOOMED_NODE, World, drains_itself, group_name, index, is_ready, node, worker_spec},
};

/// Patience for nodes, operator and scheduler to come back.
const PATIENCE: Duration = Duration::from_mins(3);

/// What a step did besides what the operator has to answer for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// What Dask cannot help.
    pub excuse: Excuse,
    /// Names of the pods that the step itself deleted or killed.
    pub taken: Vec<String>,
}

/// Does a step, without waiting for what the operator makes of it.
///
/// # Errors
/// When it cannot be done.
pub async fn perform(world: &mut World, audit: &mut Audit, step: Step) -> Result<Done, Error> {
    let mut taken = Vec::new();
    let excuse = take(world, audit, step, &mut taken).await?;
    Ok(Done { excuse, taken })
}

async fn take(
    world: &mut World,
    audit: &mut Audit,
    step: Step,
    taken: &mut Vec<String>,
) -> Result<Excuse, Error> {
    world.sizes = step.sizes_after(world.sizes);
    match step {
        Step::Scale(group, _) => scale(world, group).await?,
        Step::ScaleBoth(_) => {
            let (first, second) = tokio::join!(scale(world, Group::First), scale(world, Group::Second));
            first.and(second)?;
        }
        Step::ScaleAndKillOperator(group, _) => {
            let (scaled, killed) = tokio::join!(scale(world, group), kill_operator(world));
            scaled.and(killed)?;
        }
        Step::KillOperator => kill_operator(world).await?,
        Step::DeleteWorker(group, number) => return delete_worker(world, audit, group, number, taken).await,
        Step::EditLabels(group) => {
            let label = format!("label daskworkergroup {} --overwrite", group_name(group));
            let value = format!("walked=r{}", world.revisions.iter().sum::<u32>());
            world.kubectl(&label).args([value]).run().await?;
        }
        Step::EditTemplate(group) => edit_template(world, group).await?,
        Step::RestartScheduler => {
            restart_scheduler(world).await?;
            world.settle(PATIENCE).await?;
            audit.restarted(PATIENCE).await?;
            audit.fill().await?;
            return Ok(Excuse::NewRound);
        }
        Step::KillNode => {
            kill_node(world, audit, taken).await?;
            return Ok(Excuse::Death);
        }
    }
    Ok(Excuse::None)
}

async fn scale(world: &World, group: Group) -> Result<(), Error> {
    let (name, size) = (group_name(group), world.sizes.of(group));
    world.kubectl(&format!("scale daskworkergroup {name} --replicas={size}")).run().await?;
    Ok(())
}

/// SIGKILL for the replica that leads.
async fn kill_operator(world: &World) -> Result<(), Error> {
    let pods = operator::ready_pods(&world.client).await?;
    let holder = operator::leader(&world.client).await?.unwrap_or_default();
    let leader = pods.iter().find(|pod| holder.starts_with(&pod.name_any()));
    let Some(pod) = leader.or(pods.first()) else {
        return Err(Error::Absent { what: "a replica of the operator that is ready".to_owned() });
    };
    let kill =
        format!("delete pod {} --namespace {} --force --grace-period=0", pod.name_any(), operator::RELEASE);
    world.kubernetes.kubectl(&kill).run().await?;
    Ok(())
}

async fn delete_worker(
    world: &World,
    audit: &mut Audit,
    group: Group,
    number: u32,
    taken: &mut Vec<String>,
) -> Result<Excuse, Error> {
    let pods = world.workers(group).await?;
    let pods: Vec<&Pod> = pods.iter().filter(|pod| is_ready(pod)).collect();
    let Some(pod) = chosen(&pods, number) else {
        return Err(Error::Absent { what: format!("a worker of {group} that is ready") });
    };
    let excuse = if drains_itself(pod) {
        Excuse::None
    } else {
        audit.excuse(&addresses(&[pod])).await?;
        Excuse::Death
    };
    taken.push(pod.name_any());
    world.kubectl(&format!("delete pod {} --wait=false", pod.name_any())).run().await?;
    // It has to be gone from the count before its replacement is waited for.
    let gone = world.kubectl(&format!("wait pod/{} --for=delete --timeout=120s", pod.name_any()));
    gone.deadline(PATIENCE).run().await?;
    Ok(excuse)
}

fn chosen<'a>(pods: &[&'a Pod], number: u32) -> Option<&'a Pod> {
    let count = u32::try_from(pods.len()).ok().filter(|count| *count > 0)?;
    pods.get(usize::try_from(number % count).ok()?).copied()
}

fn addresses(pods: &[&Pod]) -> Vec<String> {
    pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect()
}

async fn edit_template(world: &mut World, group: Group) -> Result<(), Error> {
    let revision = world.revisions[index(group)] + 1;
    let patch = json!({"spec": {"worker": {"spec": worker_spec(revision)}}});
    let edit = format!("patch daskworkergroup {} --type=merge --patch", group_name(group));
    world.kubectl(&edit).args([patch.to_string()]).run().await?;
    world.revisions[index(group)] = revision;
    Ok(())
}

/// Deletes the scheduler's pod and waits for the next one.
async fn restart_scheduler(world: &World) -> Result<(), Error> {
    let before: Vec<String> = world.schedulers().await?.iter().map(ResourceExt::name_any).collect();
    let Some(name) = before.first() else {
        return Err(Error::Absent { what: "the scheduler's pod".to_owned() });
    };
    world.kubectl(&format!("delete pod {name} --wait=false")).run().await?;
    let what = "another scheduler that is ready";
    Ok(wait::until(what, PATIENCE, async || {
        let pods = world.schedulers().await.map_err(|error| match error {
            Error::Kit(error) => error,
            other => e2e_tests::Error::Timeout { what: other.to_string(), seconds: 0, seen: String::new() },
        })?;
        let seen: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        let there = pods.iter().any(|pod| is_ready(pod) && !before.contains(&pod.name_any()));
        Ok(if there && pods.len() == 1 { Look::Done(()) } else { Look::NotYet(seen.join(", ")) })
    })
    .await?)
}

/// A power cut; when the workers are replaced, the node comes back.
async fn kill_node(world: &World, audit: &mut Audit, taken: &mut Vec<String>) -> Result<(), Error> {
    let Some(testbed) = world.kubernetes.testbed() else {
        return Err(Error::Absent { what: "the local cluster".to_owned() });
    };
    let mut pods = world.workers(Group::First).await?;
    pods.extend(world.workers(Group::Second).await?);
    let doomed: Vec<&Pod> = pods.iter().filter(|pod| node(pod) == Some(DOOMED_NODE)).collect();
    taken.extend(doomed.iter().map(|pod| pod.name_any()));
    audit.excuse(&addresses(&doomed)).await?;
    testbed.kill_node(DOOMED_NODE).await?;
    // Until Kubernetes finds out, its pods look well.
    let dead =
        format!("wait node/{DOOMED_NODE} --for=condition=Ready=Unknown --timeout {}s", PATIENCE.as_secs());
    let noticed = world.kubernetes.kubectl(&dead).deadline(PATIENCE * 2).run().await;
    let replaced = world.replaced(DOOMED_NODE, PATIENCE).await;
    testbed.restart_node(DOOMED_NODE).await?;
    noticed?;
    replaced?;
    let ready = format!("wait node/{DOOMED_NODE} --for condition=Ready --timeout {}s", PATIENCE.as_secs());
    world.kubernetes.kubectl(&ready).deadline(PATIENCE * 2).run().await?;
    let whole = format!(
        "rollout status deployment/{0} --namespace {0} --timeout {1}s",
        operator::RELEASE,
        PATIENCE.as_secs()
    );
    world.kubernetes.kubectl(&whole).deadline(PATIENCE * 2).run().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ip: Option<&str>) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"podIP": ip}})).unwrap()
    }

    #[test]
    fn a_number_always_chooses_one_of_those_there_are() {
        let (one, two) = (pod("one", None), pod("two", None));
        let names: Vec<_> = (0..4).map(|n| chosen(&[&one, &two], n).unwrap().name_any()).collect();
        assert_eq!(names, ["one", "two", "one", "two"]);
        assert!(chosen(&[], 3).is_none());
    }

    #[test]
    fn only_pods_with_an_address_hold_something() {
        let (one, two) = (pod("one", Some("10.200.1.2")), pod("two", None));
        assert_eq!(addresses(&[&one, &two]), ["10.200.1.2"]);
    }
}
