//! How edits of labels and annotations reach workers that run: they are patched in place. Pure.
//!
//! A pod keeps the digest of what it was given last. Keys that were taken away stay on pods that have them: others may
//! have set them too. The labels that select workers never change.

use std::sync::Arc;

use dask_operator_api::{DaskCluster, DaskWorkerGroup, labels};
use serde_json::{Value, json};

use crate::cluster_cache::records::PodRecord;
use crate::cluster_cache::snapshot::GroupMembers;
use crate::pods::metadata;

/// A pod whose labels or annotations are not those of its group any more.
#[derive(Clone, Debug, PartialEq)]
pub struct Relabel {
    /// The pod.
    pub pod: Arc<PodRecord>,
    /// The merge patch; does nothing to a pod made again under the same name.
    pub patch: Value,
}

/// The pods to patch.
#[must_use]
pub(super) fn relabel(members: &GroupMembers, cluster: &DaskCluster) -> Vec<Relabel> {
    let stale = |pod: &&Arc<PodRecord>, digest: &str| {
        pod.is_live() && pod.metadata_hash.as_deref().is_some_and(|own| own != digest)
    };
    let (wanted, digest) = wanted(&members.group, cluster);
    let pods = members.workers.iter().filter(|pod| stale(pod, &digest));
    pods.map(|pod| {
        let mut patch = wanted.clone();
        patch["metadata"]["uid"] = json!(pod.uid);
        Relabel { pod: Arc::clone(pod), patch }
    })
    .collect()
}

/// The labels and annotations of every worker of a group, as a patch, and their digest.
fn wanted(group: &DaskWorkerGroup, cluster: &DaskCluster) -> (Value, String) {
    let mut meta = metadata::of_worker(group, cluster, "", "");
    let mut annotations = meta.annotations.take().unwrap_or_default();
    annotations.remove(labels::ORDINAL);
    let digest = annotations.get(labels::METADATA_HASH).cloned().unwrap_or_default();
    (json!({"metadata": {"labels": meta.labels, "annotations": annotations}}), digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_cache::records::PodState;
    use crate::controllers::group::testing::{cluster, group, record, snapshot};

    fn digest(group: &DaskWorkerGroup) -> String {
        wanted(group, &cluster()).1
    }

    fn pod(ordinal: i64, digest: Option<&str>) -> Arc<PodRecord> {
        Arc::new(PodRecord { metadata_hash: digest.map(Into::into), ..record(ordinal, PodState::Ready) })
    }

    #[test]
    fn pods_of_the_current_labels_and_pods_without_digest_are_left() {
        let members = snapshot(2, vec![pod(1, Some(&digest(&group(2)))), pod(2, None)]).members;
        assert_eq!(relabel(&members, &cluster()), []);
    }

    #[test]
    fn an_edited_label_reaches_the_pod_and_nothing_is_removed() {
        let old = digest(&group(2));
        let mut members = snapshot(2, vec![pod(1, Some(&old))]).members;
        let group = Arc::make_mut(&mut members.group);
        group.metadata.labels.get_or_insert_default().insert("team".to_owned(), "a".to_owned());
        group.metadata.annotations.get_or_insert_default().insert("note".to_owned(), "x".to_owned());
        let new = digest(group);
        assert_ne!(old, new);
        let [one] = relabel(&members, &cluster()).try_into().unwrap();
        assert_eq!(one.patch["metadata"]["uid"], "uid-1");
        assert_eq!(one.patch["metadata"]["labels"]["team"], "a");
        assert_eq!(one.patch["metadata"]["annotations"], json!({"note": "x", (labels::METADATA_HASH): new}));
        assert!(!one.patch.to_string().contains("null"), "{}", one.patch);
    }

    #[test]
    fn what_selects_workers_wins_over_the_user() {
        let mut group = group(2);
        let own = [
            (labels::COMPONENT, "mine"),
            (labels::WORKER_GROUP_NAME, "mine"),
            (labels::CLUSTER_NAME, "mine"),
        ];
        group.metadata.labels = Some(own.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let labels = &wanted(&group, &cluster()).0["metadata"]["labels"];
        assert_eq!(labels[labels::COMPONENT], "worker");
        assert_eq!(labels[labels::WORKER_GROUP_NAME], "simple-default");
        assert_eq!(labels[labels::CLUSTER_NAME], "simple");
    }

    #[test]
    fn pods_that_ended_are_left() {
        let ended = PodRecord { metadata_hash: Some("old".into()), ..record(1, PodState::Failed) };
        assert_eq!(relabel(&snapshot(1, vec![Arc::new(ended)]).members, &cluster()), []);
    }
}
