//! Making a cluster the owner of what names it, so that it goes when the cluster goes. Pure.

use dask_operator_api::{DaskCluster, GROUP};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::pods::metadata;

/// The merge patch that makes the cluster an owner of `child`; `None` if it is one already.
///
/// Of several owners one at most can be the controller: beside one of somebody else's, such as a workflow engine, the
/// cluster becomes an owner that does not control. Kubernetes deletes the child when the last of its owners is gone.
#[must_use]
pub fn adoption<K: Resource<DynamicType = ()>>(child: &K, cluster: &DaskCluster) -> Option<Value> {
    let mut owner = metadata::owner(cluster)?;
    let mut owners = child.owner_references().to_vec();
    if owners.iter().any(|existing| existing.uid == owner.uid) {
        return None;
    }
    if owners.iter().any(|existing| existing.controller == Some(true)) {
        owner.controller = None;
    }
    owners.push(owner);
    Some(json!({"metadata": {"ownerReferences": owners, "resourceVersion": child.resource_version()}}))
}

/// Whether an owner is a DaskCluster of ours, rather than of another API that uses the word.
#[must_use]
pub fn is_dask_cluster(owner: &OwnerReference) -> bool {
    owner.kind == DaskCluster::kind(&())
        && owner.api_version.split_once('/').is_some_and(|(group, _)| group == GROUP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::group::testing::{cluster, group};

    fn owners(patch: &Value) -> &Vec<Value> {
        patch["metadata"]["ownerReferences"].as_array().unwrap()
    }

    #[test]
    fn the_cluster_becomes_the_owner_once() {
        let mut group = group(1);
        assert_eq!(adoption(&group, &cluster()), None);
        group.metadata.owner_references = None;
        group.metadata.resource_version = Some("7".to_owned());
        let patch = adoption(&group, &cluster()).unwrap();
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!((&owners(&patch)[0]["uid"], owners(&patch).len()), (&json!("cluster-uid"), 1));
        assert_eq!(owners(&patch)[0]["controller"], true);
    }

    #[test]
    fn beside_another_controller_it_owns_without_controlling() {
        let mut group = group(1);
        let other = json!([{
            "apiVersion": "gone.example.org/v1", "kind": "Workflow", "name": "w", "uid": "other", "controller": true,
        }]);
        group.metadata.owner_references = serde_json::from_value(other).unwrap();
        let patch = adoption(&group, &cluster()).unwrap();
        assert_eq!((owners(&patch).len(), &owners(&patch)[0]["uid"]), (2, &json!("other")));
        assert_eq!(owners(&patch)[1].get("controller"), None, "two controllers are refused");
        assert_eq!(owners(&patch)[1]["uid"], "cluster-uid");
    }
}
