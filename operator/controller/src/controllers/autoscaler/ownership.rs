//! What an autoscaler's metadata should be. Pure.

use dask_operator_api::{DaskAutoscaler, DaskCluster};
use kube::ResourceExt;
use kube::core::Resource;
use serde_json::Value;

use crate::controllers::adoption::adoption;

/// The merge patch that makes the cluster the autoscaler's owner, so that it goes with the cluster.
pub(super) fn patch(autoscaler: &DaskAutoscaler, cluster: Option<&DaskCluster>) -> Option<Value> {
    cluster.and_then(|cluster| adoption(autoscaler, cluster))
}

/// Whether the autoscaler belongs to the cluster that it names and to no other, and so goes when that goes. One whose
/// `spec.cluster` was edited belongs to the cluster that it named before, too.
pub(super) fn goes_with_its_cluster(autoscaler: &DaskAutoscaler) -> bool {
    let clusters =
        || autoscaler.owner_references().iter().filter(|owner| owner.kind == DaskCluster::kind(&()));
    clusters().next().is_some() && clusters().all(|owner| owner.name == autoscaler.spec.cluster)
}

#[cfg(test)]
mod tests {
    use dask_operator_api::DaskAutoscalerSpec;
    use serde_json::json;

    use super::*;

    fn autoscaler() -> DaskAutoscaler {
        let spec = DaskAutoscalerSpec { cluster: "c".to_owned(), ..DaskAutoscalerSpec::default() };
        let mut autoscaler = DaskAutoscaler::new("a", spec);
        autoscaler.metadata.resource_version = Some("7".to_owned());
        autoscaler
    }

    fn cluster() -> DaskCluster {
        let mut cluster =
            DaskCluster { metadata: kube::api::ObjectMeta::default(), ..DaskCluster::default() };
        cluster.metadata.name = Some("c".to_owned());
        cluster.metadata.uid = Some("c-uid".to_owned());
        cluster
    }

    #[test]
    fn the_cluster_becomes_the_owner_once() {
        let mut autoscaler = autoscaler();
        let found = patch(&autoscaler, Some(&cluster())).unwrap();
        assert_eq!(found["metadata"]["resourceVersion"], "7");
        let owners = found["metadata"]["ownerReferences"].clone();
        assert_eq!((&owners[0]["kind"], &owners[0]["uid"]), (&json!("DaskCluster"), &json!("c-uid")));
        assert_eq!((&owners[0]["controller"], owners.as_array().unwrap().len()), (&json!(true), 1));
        assert!(!goes_with_its_cluster(&autoscaler));
        autoscaler.metadata.owner_references = serde_json::from_value(owners).unwrap();
        assert_eq!(patch(&autoscaler, Some(&cluster())), None);
        assert!(goes_with_its_cluster(&autoscaler));
        autoscaler.spec.cluster = "another".to_owned();
        assert!(!goes_with_its_cluster(&autoscaler), "it was given to another cluster, which may be missing");
    }

    #[test]
    fn owners_of_others_stay() {
        let mut autoscaler = autoscaler();
        let other =
            json!([{"apiVersion": "v1", "kind": "K", "name": "n", "uid": "other", "controller": true}]);
        autoscaler.metadata.owner_references = serde_json::from_value(other).unwrap();
        let found = patch(&autoscaler, Some(&cluster())).unwrap();
        let owners = found["metadata"]["ownerReferences"].as_array().unwrap();
        assert_eq!((owners.len(), &owners[0]["uid"]), (2, &json!("other")));
        assert_eq!(owners[1].get("controller"), None, "two controllers are refused");
    }

    #[test]
    fn without_a_cluster_there_is_no_owner() {
        assert_eq!(patch(&autoscaler(), None), None);
    }
}
