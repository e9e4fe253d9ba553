//! Which of several autoscalers of one cluster acts. Pure.

use std::sync::Arc;

use dask_operator_api::DaskAutoscaler;
use jiff::Timestamp;
use kube::ResourceExt;

use super::decide::are_valid;

/// The name of the autoscaler that acts instead of this one: the oldest that can, and of equally old ones the first by
/// name. dask-kubernetes' documentation of 2022 and its `KubeCluster.adapt()` call theirs differently, so who uses both
/// has two.
pub(super) fn rival<'a>(autoscaler: &DaskAutoscaler, others: &'a [Arc<DaskAutoscaler>]) -> Option<&'a str> {
    let own = seniority(autoscaler);
    let older = others.iter().filter(|other| {
        other.metadata.deletion_timestamp.is_none()
            && are_valid(other.spec.minimum, other.spec.maximum)
            && seniority(other) < own
    });
    older.min_by_key(|other| seniority(other))?.metadata.name.as_deref()
}

fn seniority(autoscaler: &DaskAutoscaler) -> (Timestamp, String) {
    let created = autoscaler.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
    (created, autoscaler.name_any())
}

#[cfg(test)]
mod tests {
    use dask_operator_api::DaskAutoscalerSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn autoscaler(name: &str, created: i64) -> DaskAutoscaler {
        let spec = DaskAutoscalerSpec { cluster: "c".to_owned(), minimum: 0, maximum: 3 };
        let mut autoscaler = DaskAutoscaler::new(name, spec);
        autoscaler.metadata.creation_timestamp = Some(Time(Timestamp::from_second(created).unwrap()));
        autoscaler
    }

    #[test]
    fn exactly_one_acts() {
        let all =
            [("c", 5), ("c-autoscaler", 5), ("young", 9)].map(|(name, created)| autoscaler(name, created));
        let rivals = all.each_ref().map(|one| {
            let others: Vec<_> = all
                .iter()
                .filter(|other| other.name_any() != one.name_any())
                .cloned()
                .map(Arc::new)
                .collect();
            rival(one, &others).map(str::to_owned)
        });
        assert_eq!(rivals, [None, Some("c".to_owned()), Some("c".to_owned())]);
    }

    #[test]
    fn one_that_goes_or_cannot_act_is_no_rival() {
        let own = autoscaler("b", 5);
        let mut going = autoscaler("a", 1);
        going.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let mut contradictory = autoscaler("a", 1);
        contradictory.spec.minimum = 4;
        assert_eq!(rival(&own, &[Arc::new(going), Arc::new(contradictory)]), None);
    }
}
