//! Waiting for a DaskCluster and reading its conditions.

use std::{fmt::Write as _, time::Duration};

use dask_operator_api::DaskCluster;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, ResourceExt};

use crate::{
    Error,
    wait::{self, Look},
};

/// The condition of this type.
#[must_use]
pub fn condition<'a>(cluster: &'a DaskCluster, type_: &str) -> Option<&'a Condition> {
    cluster.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the cluster says that its scheduler and exactly `workers` workers are ready.
#[must_use]
pub fn is_ready(cluster: &DaskCluster, workers: i32) -> bool {
    let counted = cluster.status.as_ref().is_some_and(|status| status.ready_replicas == workers);
    let said = condition(cluster, "Ready").is_some_and(|ready| {
        ready.status == "True" && ready.observed_generation == cluster.metadata.generation
    });
    counted && said && cluster.spec.worker.replicas == workers
}

/// Waits until `holds` of the cluster, and returns it as it then is.
///
/// # Errors
/// When it does not hold in time; the message has the cluster's conditions.
pub async fn until(
    clusters: &Api<DaskCluster>,
    name: &str,
    what: &str,
    patience: Duration,
    holds: impl Fn(&DaskCluster) -> bool,
) -> Result<DaskCluster, Error> {
    wait::until(what, patience, async || {
        let cluster = clusters.get(name).await.map_err(Error::api(format!("get DaskCluster {name:?}")))?;
        Ok(if holds(&cluster) { Look::Done(cluster) } else { Look::NotYet(describe(&cluster)) })
    })
    .await
}

/// Phase, counts and conditions in a line.
#[must_use]
pub fn describe(cluster: &DaskCluster) -> String {
    let Some(status) = &cluster.status else {
        return format!("DaskCluster {:?} without status", cluster.name_any());
    };
    let phase = status.phase.map_or_else(|| "none".to_owned(), |phase| phase.to_string());
    let mut text = format!(
        "phase {phase}, {} wanted, ready {}",
        cluster.spec.worker.replicas,
        status.ready.as_deref().unwrap_or("unknown")
    );
    for Condition { type_, status, reason, message, .. } in &status.conditions {
        let _ = write!(text, "; {type_}={status} {reason}: {message}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(ready: &str, generation: i64, ready_replicas: i32) -> DaskCluster {
        serde_json::from_value(json!({
            "metadata": {"name": "demo", "generation": 2},
            "spec": {
                "scheduler": {"spec": {"containers": [{"name": "scheduler"}]}, "service": {}},
                "worker": {"replicas": 3, "spec": {"containers": [{"name": "worker"}]}},
            },
            "status": {
                "phase": "Running", "ready": format!("{ready_replicas}/3"), "readyReplicas": ready_replicas,
                "conditions": [{
                    "type": "Ready", "status": ready, "reason": "Starting", "message": "soon",
                    "observedGeneration": generation, "lastTransitionTime": "2026-11-23T10:00:00Z",
                }],
            },
        }))
        .unwrap()
    }

    #[rstest::rstest]
    #[case("True", 2, 3, true)]
    #[case("False", 2, 3, false)]
    #[case("True", 1, 3, false)]
    #[case("True", 2, 2, false)]
    fn ready_means_said_now_and_counted(
        #[case] said: &str,
        #[case] generation: i64,
        #[case] counted: i32,
        #[case] ready: bool,
    ) {
        assert_eq!(is_ready(&cluster(said, generation, counted), 3), ready);
    }

    #[test]
    fn a_description_holds_counts_and_conditions() {
        let text = describe(&cluster("False", 2, 1));
        assert_eq!(text, "phase Running, 3 wanted, ready 1/3; Ready=False Starting: soon");
    }
}
