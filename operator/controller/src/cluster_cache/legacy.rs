//! Workers that the Python operator made: a Deployment each, whose pod belongs to a ReplicaSet that nobody watches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::records::{DeploymentRecord, PodRecord};
use super::snapshot::LegacyWorker;
use super::table::Change;

/// What the ReplicaSet controller appends to the name of a ReplicaSet for its pods has 5 characters, and before that
/// it cuts the name to 58 (`maxGeneratedNameLength` in `k8s.io/apiserver/pkg/storage/names`).
const LONGEST_PREFIX: usize = 58;

/// Deployments by name.
type ByName = BTreeMap<Arc<str>, Arc<DeploymentRecord>>;

/// Workers' Deployments by the group that owns them.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    by_owner: HashMap<String, ByName>,
}

impl Legacy {
    /// Brings the register in line with a change of the table.
    pub(super) fn settle(&mut self, change: &Change<Arc<DeploymentRecord>>) {
        if let Some(owner) = change.before.as_ref().and_then(|record| owner(record))
            && let Some(deployments) = self.by_owner.get_mut(owner)
        {
            deployments.remove(&change.key.name);
            if deployments.is_empty() {
                self.by_owner.remove(owner);
            }
        }
        if let Some((record, owner)) = change.after.as_ref().and_then(|record| Some((record, owner(record)?)))
        {
            let deployments = self.by_owner.entry(owner.to_owned()).or_default();
            deployments.insert(change.key.name.clone(), record.clone());
        }
    }

    /// The workers of the group with this UID; `pods` are those that may be theirs.
    pub(super) fn workers(
        &self,
        group_uid: &str,
        pods: impl FnOnce() -> Vec<Arc<PodRecord>>,
    ) -> Vec<LegacyWorker> {
        let Some(deployments) = self.by_owner.get(group_uid) else { return Vec::new() };
        let mut pods_of: HashMap<&str, Vec<Arc<PodRecord>>> = HashMap::new();
        for pod in pods() {
            if let Some(name) = deployment_of(deployments, &pod.name) {
                pods_of.entry(name).or_default().push(pod);
            }
        }
        let worker = |(name, deployment): (&Arc<str>, &Arc<DeploymentRecord>)| LegacyWorker {
            deployment: deployment.clone(),
            pods: pods_of.remove(&**name).unwrap_or_default(),
        };
        deployments.iter().map(worker).collect()
    }
}

fn owner(record: &Arc<DeploymentRecord>) -> Option<&str> {
    record.owner_uid.as_deref().filter(|_| record.worker)
}

/// The one Deployment whose pod this is. A pod that may be of two, because their long names are cut alike, is nobody's.
fn deployment_of<'a>(deployments: &'a ByName, pod: &str) -> Option<&'a str> {
    let (replica_set, _) = pod.rsplit_once('-')?;
    let whole = replica_set.rsplit_once('-').and_then(|(name, _)| deployments.get_key_value(name));
    if let Some((name, _)) = whole {
        return Some(name);
    }
    let mut candidates = deployments.keys().filter(|name| is_cut_from(name, pod));
    candidates.next().filter(|_| candidates.next().is_none()).map(AsRef::as_ref)
}

/// Whether a pod's name is a cut form of `<deployment>-<hash>-<five characters>`.
fn is_cut_from(deployment: &str, pod: &str) -> bool {
    let mut prefix = format!("{deployment}-");
    prefix.truncate(LONGEST_PREFIX);
    pod.len() == LONGEST_PREFIX + 5 && pod.starts_with(&prefix)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::cluster_cache::ObjectKey;
    use crate::cluster_cache::records::PodState;
    use crate::controllers::group::testing::{record, worker};

    fn deployment(name: &str) -> Change<Arc<DeploymentRecord>> {
        let object = serde_json::from_value(json!({
            "metadata": {
                "name": name, "uid": format!("{name}-uid"), "labels": {"dask.org/component": "worker"},
                "ownerReferences": [{
                    "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup", "name": "g", "uid": "g-uid",
                    "controller": true,
                }],
            },
        }));
        let record = Arc::new(DeploymentRecord::from(&object.unwrap()));
        Change { key: ObjectKey::new("ns", name), before: None, after: Some(record) }
    }

    fn pod(name: &str) -> Arc<PodRecord> {
        Arc::new(PodRecord { name: name.into(), ordinal: None, ..record(1, PodState::Ready) })
    }

    #[rstest]
    #[case("g-worker-0a1b2c3d4e", "g-worker-0a1b2c3d4e-7f8d9c6b5-x2x4z", true)]
    #[case("g-worker-0a1b2c3d4e", "g-worker-0a1b2c3d4f-7f8d9c6b5-x2x4z", false)]
    #[case("g", "g-worker-0a1b2c3d4e-7f8d9c6b5-x2x4z", false)]
    #[case("g", "g", false)]
    #[case(
        "a-name-of-many-words-default-worker-0a1b2c3d4e-long",
        "a-name-of-many-words-default-worker-0a1b2c3d4e-long-7f8d9cx2x4z",
        true
    )]
    #[case(
        "a-name-of-very-many-words-indeed-long-default-worker-0a1b2c3d4e",
        "a-name-of-very-many-words-indeed-long-default-worker-0a1b2x2x4z",
        true
    )]
    fn a_pod_is_told_by_its_name(#[case] deployment: &str, #[case] pod: &str, #[case] expected: bool) {
        let mut legacy = Legacy::default();
        legacy.settle(&self::deployment(deployment));
        assert_eq!(legacy.workers("g-uid", || vec![self::pod(pod)])[0].pods.len() == 1, expected);
    }

    #[test]
    fn each_worker_gets_its_pods() {
        let mut legacy = Legacy::default();
        for name in ["g-worker-1", "g-worker-2"] {
            legacy.settle(&deployment(name));
        }
        let pods = vec![
            pod("g-worker-1-7f8d9c6b5-x2x4z"),
            pod("g-worker-9-7f8d9c6b5-x2x4z"),
            worker(1, PodState::Ready),
        ];
        let workers = legacy.workers("g-uid", || pods);
        let counts: Vec<_> = workers.iter().map(|w| (w.deployment.name.as_str(), w.pods.len())).collect();
        assert_eq!(counts, [("g-worker-1", 1), ("g-worker-2", 0)]);
        assert!(legacy.workers("other", || unreachable!("not asked for")).is_empty());

        for name in ["g-worker-1", "g-worker-2"] {
            let Change { key, after, .. } = deployment(name);
            legacy.settle(&Change { key, before: after, after: None });
        }
        assert!(legacy.by_owner.is_empty());
    }

    #[test]
    fn a_pod_of_one_of_two_is_nobodys() {
        let mut legacy = Legacy::default();
        let name = "a-name-of-very-many-words-indeed-long-default-worker-0a1b2c3d4e";
        legacy.settle(&deployment(name));
        legacy.settle(&deployment(&format!("{}f", &name[..name.len() - 1])));
        let workers = legacy.workers("g-uid", || vec![pod(&format!("{}x2x4z", &name[..58]))]);
        assert!(workers.iter().all(|worker| worker.pods.is_empty()));
    }
}
