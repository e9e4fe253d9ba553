//! How edits of labels and annotations reach workers that run: they are patched in place. Pure.
//!
//! A pod keeps the digest of what it was given last. Keys that were taken away stay on pods that have them: others may
//! have set them too. The labels that select workers never change.

use std::sync::Arc;

use serde::Serialize;

use super::inherited::{Settled, WorkerMetadata};
use crate::cluster_cache::records::PodRecord;
use crate::cluster_cache::snapshot::GroupMembers;

/// Pods whose labels or annotations are not those of their group any more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Relabel {
    /// The pods.
    pub pods: Vec<Arc<PodRecord>>,
    /// What all of them get, the digest included.
    pub metadata: WorkerMetadata,
}

/// The merge patch of one pod; does nothing to a pod made again under the same name.
#[derive(Debug, Serialize)]
pub(super) struct RelabelPatch<'a> {
    metadata: PatchedMetadata<'a>,
}

#[derive(Debug, Serialize)]
struct PatchedMetadata<'a> {
    uid: &'a str,
    labels: &'a std::collections::BTreeMap<String, String>,
    annotations: &'a std::collections::BTreeMap<String, String>,
}

impl Relabel {
    /// The patch of a pod.
    pub(super) fn patch<'a>(&'a self, pod: &'a PodRecord) -> RelabelPatch<'a> {
        let WorkerMetadata { labels, annotations } = &self.metadata;
        RelabelPatch { metadata: PatchedMetadata { uid: &pod.uid, labels, annotations } }
    }
}

/// The pods to patch.
#[must_use]
pub(super) fn relabel(members: &GroupMembers, settled: &Settled) -> Relabel {
    let stale = |pod: &&Arc<PodRecord>| {
        pod.is_live() && pod.metadata_hash.as_deref().is_some_and(|own| own != settled.digest)
    };
    let pods: Vec<_> = members.workers.iter().filter(stale).filter(|_| settled.is_known).cloned().collect();
    if pods.is_empty() {
        return Relabel::default();
    }
    let mut metadata = settled.metadata.clone();
    metadata.annotations.insert(dask_operator_api::labels::METADATA_HASH.to_owned(), settled.digest.clone());
    Relabel { pods, metadata }
}

#[cfg(test)]
mod tests {
    use dask_operator_api::{DaskWorkerGroup, labels};
    use serde_json::json;

    use super::*;
    use crate::cluster_cache::records::PodState;
    use crate::controllers::group::testing::{cluster, group, record, snapshot};

    fn settled(group: &DaskWorkerGroup) -> Settled {
        let metadata = WorkerMetadata::of(group, &cluster());
        Settled { digest: metadata.digest(), metadata, is_known: true, is_new: false, wait: None }
    }

    fn pod(ordinal: i64, digest: Option<&str>) -> Arc<PodRecord> {
        Arc::new(PodRecord { metadata_hash: digest.map(Into::into), ..record(ordinal, PodState::Ready) })
    }

    #[test]
    fn pods_of_the_current_labels_and_pods_without_digest_are_left() {
        let settled = settled(&group(2));
        let members = snapshot(2, vec![pod(1, Some(&settled.digest)), pod(2, None)]).members;
        assert_eq!(relabel(&members, &settled), Relabel::default());
    }

    #[test]
    fn an_edited_label_reaches_the_pod_and_nothing_is_removed() {
        let old = settled(&group(2)).digest;
        let mut edited = group(2);
        edited.metadata.labels.get_or_insert_default().insert("team".to_owned(), "a".to_owned());
        edited.metadata.annotations.get_or_insert_default().insert("note".to_owned(), "x".to_owned());
        let new = settled(&edited);
        assert_ne!(old, new.digest);
        let relabel = relabel(&snapshot(2, vec![pod(1, Some(&old))]).members, &new);
        let patch = json!(relabel.patch(&relabel.pods[0]));
        assert_eq!(patch["metadata"]["uid"], "uid-1");
        assert_eq!(patch["metadata"]["labels"]["team"], "a");
        assert_eq!(
            patch["metadata"]["annotations"],
            json!({"note": "x", (labels::METADATA_HASH): new.digest})
        );
        assert!(!patch.to_string().contains("null"), "{patch}");
    }

    #[test]
    fn the_pod_has_the_digest_of_a_new_one() {
        let group = group(2);
        let made = crate::pods::metadata::of_worker(&group, &cluster(), "w", "1").annotations.unwrap();
        assert_eq!(made[labels::METADATA_HASH], settled(&group).digest);
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
        let wanted = settled(&group).metadata.labels;
        assert_eq!(wanted[labels::COMPONENT], "worker");
        assert_eq!(wanted[labels::WORKER_GROUP_NAME], "simple-default");
        assert_eq!(wanted[labels::CLUSTER_NAME], "simple");
    }

    #[test]
    fn pods_that_ended_are_left_and_so_are_all_while_nothing_is_known() {
        let ended = PodRecord { metadata_hash: Some("old".into()), ..record(1, PodState::Failed) };
        let stale = snapshot(1, vec![Arc::new(ended)]);
        assert_eq!(relabel(&stale.members, &settled(&group(1))), Relabel::default());
        let stale = snapshot(1, vec![pod(1, Some("old"))]);
        assert_eq!(relabel(&stale.members, &settled(&group(1))).pods.len(), 1);
        let unknown = Settled { is_known: false, ..settled(&group(1)) };
        assert_eq!(relabel(&stale.members, &unknown), Relabel::default());
    }
}
