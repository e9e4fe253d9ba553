//! Groups whose workers cannot load the preload modules because of what their author wrote. Pure: no client, no clock.

use dask_operator_api::{ConditionType, Conditions, DaskWorkerGroup, DaskWorkerGroupStatus, Reason};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pods::telemetry::{self, Telemetry, WORKER_PATH};

/// Adds the condition `ModulesReady` to the status of a group whose workers cannot load the modules.
pub(super) fn with_modules(
    mut status: DaskWorkerGroupStatus,
    group: &DaskWorkerGroup,
    telemetry: Telemetry,
    previous: &DaskWorkerGroupStatus,
    now: Timestamp,
) -> DaskWorkerGroupStatus {
    let type_: &str = ConditionType::ModulesReady.into();
    status.conditions.retain(|condition| condition.type_ != type_);
    let unloaded = telemetry::unloadable(&group.spec.worker.spec).filter(|_| telemetry.is_on());
    let Some(why) = unloaded else { return status };
    let message = format!(
        "{why}, so workers do not load the preload modules: scaled down by the operator they hand over their results, but a \
         pod that is evicted or deleted by others loses its results; start `dask worker` by the container's own words, or \
         add --preload {WORKER_PATH} --preload-nanny {WORKER_PATH} to them"
    );
    let time = Time(now);
    let built = Conditions::new(&previous.conditions, group.metadata.generation, &time)
        .set(ConditionType::ModulesReady, Some(false), Reason::ModulesNotLoaded, &message)
        .build();
    status.conditions.extend(built.into_iter().find(|condition| condition.type_ == type_));
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::group::testing::{at, group};

    fn with(
        group: &DaskWorkerGroup,
        telemetry: Telemetry,
        previous: &DaskWorkerGroupStatus,
    ) -> DaskWorkerGroupStatus {
        with_modules(previous.clone(), group, telemetry, previous, at(0))
    }

    #[test]
    fn workers_behind_a_script_lose_results_at_evictions_and_that_is_said() {
        let empty = DaskWorkerGroupStatus::default();
        let mut scripted = group(1);
        assert_eq!(with(&scripted, Telemetry::On, &empty), empty, "a plain worker");
        scripted.spec.worker.spec.containers[0].args = Some(vec!["/opt/site/start-worker".to_owned()]);
        let told = with(&scripted, Telemetry::On, &empty);
        let [condition] = told.conditions.as_slice() else { panic!("{told:?}") };
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "ModulesNotLoaded"));
        assert!(condition.message.contains("loses its results"), "{}", condition.message);
        assert_eq!(with(&scripted, Telemetry::On, &told), told, "nothing to write");
        assert_eq!(with(&group(1), Telemetry::On, &told), empty, "corrected");
        assert_eq!(with(&scripted, Telemetry::Off, &empty), empty, "nobody wants them");
    }
}
