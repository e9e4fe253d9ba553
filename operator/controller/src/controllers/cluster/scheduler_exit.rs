//! A scheduler that ended by itself: why, and what to do. Pure.
//!
//! Dask's own idle timeout ends the scheduler's process with exit code 0. In a pod it is started again, with its workers
//! after it, and so on for ever: the cluster is never gone, costs as before, and loses its results each time.

use dask_operator_api::{DaskCluster, Reason};
use k8s_openapi::api::core::v1::Container;

use super::status::scheduler_pod;
use crate::cluster_cache::records::PodState;
use crate::cluster_cache::snapshot::ClusterSnapshot;

/// The option of `dask scheduler`.
const IDLE_OPTION: &str = "--idle-timeout";
/// The setting in Dask's configuration, with hyphens for underscores.
const IDLE_SETTING: &str = "distributed.scheduler.idle-timeout";

/// How the scheduler's container ended before its last restart, in words for a person; with the cause and the cure if
/// it ended by itself.
pub(super) fn last_end(snapshot: &ClusterSnapshot) -> Option<String> {
    let pod = scheduler_pod(snapshot)?;
    message(snapshot).or_else(|| pod.last_termination.as_ref().map(|end| end.message.clone()))
}

/// What to say of a scheduler that ended by itself without an error; `None` if it did not.
pub(super) fn message(snapshot: &ClusterSnapshot) -> Option<String> {
    let pod = scheduler_pod(snapshot).filter(|pod| pod.state != PodState::Terminating)?;
    let end = pod.last_termination.as_ref().filter(|end| end.reason == Reason::WorkerExited)?;
    let rest = match idle_setting(&snapshot.cluster) {
        Some(setting) => format!(
            "it was idle for as long as {setting} says; remove that and set spec.idleTimeout of the DaskCluster \
             instead, which deletes the whole cluster when it has been idle, or this repeats for ever"
        ),
        None => format!(
            "it closed itself, probably because it was idle ({IDLE_SETTING} in a configuration file), or a client \
             shut it down; remove that setting and set spec.idleTimeout of the DaskCluster instead, which deletes \
             the whole cluster when it has been idle"
        ),
    };
    Some(format!("{}: {rest}", end.message))
}

/// Where the scheduler's template sets Dask's own idle timeout.
fn idle_setting(cluster: &DaskCluster) -> Option<String> {
    cluster.spec.scheduler.spec.containers.iter().find_map(|container| {
        let place = option(container).or_else(|| variable(container))?;
        Some(format!("{place} of container \"{}\"", container.name))
    })
}

fn option(container: &Container) -> Option<String> {
    let mut words = container.command.iter().flatten().chain(container.args.iter().flatten());
    // Also within a script.
    words.any(|word| word.contains(IDLE_OPTION)).then(|| format!("the option {IDLE_OPTION}"))
}

/// The variable that sets it, in any case and at any level: `DASK_DISTRIBUTED__SCHEDULER='{"idle-timeout": "1h"}'` is
/// one, too.
fn variable(container: &Container) -> Option<String> {
    let sets_it = |name: &str, value: &str| {
        let Some(path) = name.strip_prefix("DASK_") else { return false };
        let path = setting(&path.replace("__", "."));
        let below = IDLE_SETTING.strip_prefix(&path).is_some_and(|rest| rest.starts_with('.'));
        path == IDLE_SETTING || (below && setting(value).contains("idle-timeout"))
    };
    let mut variables = container.env.iter().flatten();
    let found =
        variables.find(|variable| sets_it(&variable.name, variable.value.as_deref().unwrap_or("")))?;
    Some(format!("the variable {}", found.name))
}

fn setting(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::controllers::cluster::testing::{exited, made};

    fn words(container: Value) -> String {
        let mut snapshot = exited(PodState::Starting);
        let scheduler = &mut Arc::make_mut(&mut snapshot.cluster).spec.scheduler;
        scheduler.spec.containers = vec![serde_json::from_value(container).unwrap()];
        let words = message(&snapshot).unwrap();
        assert!(words.contains("exit code 0") && words.contains("set spec.idleTimeout"), "{words}");
        assert_eq!(last_end(&snapshot).as_ref(), Some(&words));
        words
    }

    #[rstest]
    #[case("DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT", "20s")]
    #[case("DASK_distributed__scheduler__idle_timeout", "20s")]
    #[case("DASK_DISTRIBUTED__SCHEDULER__IDLE-TIMEOUT", "20s")]
    #[case("DASK_DISTRIBUTED__SCHEDULER", r#"{"idle-timeout": "20s"}"#)]
    #[case("DASK_DISTRIBUTED", r#"{"scheduler": {"idle_timeout": "20s"}}"#)]
    fn a_variable_is_named(#[case] name: &str, #[case] value: &str) {
        let found = words(json!({"name": "scheduler", "env": [{"name": name, "value": value}]}));
        let expected = format!("as long as the variable {name} of container \"scheduler\" says");
        assert!(found.contains(&expected), "{found}");
    }

    #[rstest]
    #[case(json!(["dask", "scheduler", "--idle-timeout", "20s"]))]
    #[case(json!(["dask-scheduler", "--idle-timeout=20s"]))]
    #[case(json!(["sh", "-c", "exec dask scheduler --idle-timeout 20s"]))]
    fn an_option_is_named(#[case] args: Value) {
        let found = words(json!({"name": "scheduler", "args": args}));
        assert!(found.contains("as long as the option --idle-timeout of"), "{found}");
    }

    #[rstest]
    #[case("DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING", "true")]
    #[case("DASK_DISTRIBUTED__SCHEDULER", r#"{"allowed-failures": 3}"#)]
    #[case("IDLE_TIMEOUT", "20s")]
    fn otherwise_it_is_only_probable(#[case] name: &str, #[case] value: &str) {
        let found = words(json!({"name": "scheduler", "env": [{"name": name, "value": value}]}));
        assert!(found.contains("probably because it was idle"), "{found}");
    }

    #[test]
    fn a_scheduler_that_never_ended_or_crashed_is_no_matter() {
        assert_eq!(message(&made(PodState::Ready)), None);
        let mut crashed = exited(PodState::Starting);
        let pod = Arc::make_mut(&mut crashed.scheduler_pods[0]);
        pod.last_termination.as_mut().unwrap().reason = Reason::OutOfMemory;
        assert_eq!(message(&crashed), None);
        assert!(last_end(&crashed).is_some(), "but it is said how it ended");
    }
}
