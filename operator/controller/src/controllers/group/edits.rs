//! How long ago each group was edited.
//!
//! Clients that search for the right number, such as a person with `kubectl scale` or an autoscaler, edit a group
//! many times a second. New workers are made at once, but none is taken away before the number has stood for a moment.
//! Labels and annotations have to stand longer, see [`super::inherited`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dask_operator_api::{DaskCluster, DaskWorkerGroup};
use kube::ResourceExt;

use super::inherited::{Inherited, Settled};
use crate::cluster_cache::ObjectKey;

/// How long a number has to stand before workers are taken away for it.
const SETTLING: Duration = Duration::from_millis(500);

/// When the newest edit of each group was seen.
#[derive(Debug, Default)]
pub struct Edits {
    seen: Mutex<HashMap<ObjectKey, Edit>>,
}

#[derive(Debug)]
struct Edit {
    uid: Option<String>,
    generation: Option<i64>,
    at: Instant,
    inherited: Option<Inherited>,
}

impl Edits {
    /// How long until this generation of the group has stood long enough; `None` if it has.
    pub fn settling(&self, key: &ObjectKey, group: &DaskWorkerGroup, now: Instant) -> Option<Duration> {
        let mut seen = self.seen();
        let edit = entry_of(&mut seen, key, group, now);
        if edit.generation != group.metadata.generation {
            (edit.generation, edit.at) = (group.metadata.generation, now);
        }
        SETTLING.checked_sub(now.saturating_duration_since(edit.at)).filter(|wait| !wait.is_zero())
    }

    /// The labels and annotations that running workers should have.
    pub(super) fn inherited(
        &self,
        key: &ObjectKey,
        group: &Arc<DaskWorkerGroup>,
        cluster: &Arc<DaskCluster>,
        now: Instant,
    ) -> Settled {
        let mut seen = self.seen();
        let edit = entry_of(&mut seen, key, group, now);
        // A cluster made again under the name is another one, whose labels have always been these.
        let inherited = edit.inherited.take().filter(|inherited| inherited.is_of(cluster));
        let mut inherited = inherited.unwrap_or_else(|| Inherited::new(group, cluster));
        let settled = inherited.look(group, cluster, now);
        edit.inherited = Some(inherited);
        settled
    }

    /// Forgets a group that is gone.
    pub fn forget(&self, group: &ObjectKey) {
        self.seen().remove(group);
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<ObjectKey, Edit>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was seen of a group; another one with its name is new.
fn entry_of<'a>(
    seen: &'a mut HashMap<ObjectKey, Edit>,
    key: &ObjectKey,
    group: &DaskWorkerGroup,
    now: Instant,
) -> &'a mut Edit {
    let new = || Edit { uid: group.uid(), generation: group.metadata.generation, at: now, inherited: None };
    let edit = seen.entry(key.clone()).or_insert_with(new);
    if edit.uid != group.metadata.uid {
        *edit = new();
    }
    edit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::group::testing;

    fn group(uid: &str, generation: i64) -> DaskWorkerGroup {
        let mut group = testing::group(1);
        (group.metadata.uid, group.metadata.generation) = (Some(uid.to_owned()), Some(generation));
        group
    }

    #[test]
    fn each_edit_starts_the_wait_afresh() {
        let (edits, key, start) = (Edits::default(), ObjectKey::new("ns", "g"), Instant::now());
        let after = |uid, generation, ms| {
            edits.settling(&key, &group(uid, generation), start + Duration::from_millis(ms))
        };
        assert_eq!(after("a", 1, 0), Some(SETTLING));
        assert_eq!(after("a", 1, 400), Some(Duration::from_millis(100)));
        assert_eq!(after("a", 2, 400), Some(SETTLING));
        assert_eq!(after("a", 2, 899), Some(Duration::from_millis(1)));
        assert_eq!(after("a", 2, 900), None);
        assert_eq!(after("b", 2, 901), Some(SETTLING), "another group of the name, in the same generation");
        edits.forget(&key);
        assert_eq!(after("b", 2, 2_000), Some(SETTLING));
    }

    #[test]
    fn labels_are_remembered_for_one_group_and_cluster() {
        let (edits, key, now) = (Edits::default(), ObjectKey::new("ns", "g"), Instant::now());
        let labelled = |uid: &str, team: &str| {
            let mut group = group(uid, 1);
            group.metadata.labels = Some([("team".to_owned(), team.to_owned())].into());
            Arc::new(group)
        };
        let cluster = Arc::new(testing::cluster());
        let wait = |group| edits.inherited(&key, &group, &cluster, now).wait;
        assert_eq!(wait(labelled("a", "x")), None);
        assert!(wait(labelled("a", "y")).is_some());
        assert_eq!(wait(labelled("b", "z")), None, "it was made with this label");
        let mut other = testing::cluster();
        other.metadata.uid = Some("other".to_owned());
        other.metadata.labels = Some([("stage".to_owned(), "test".to_owned())].into());
        assert_eq!(edits.inherited(&key, &labelled("b", "z"), &Arc::new(other), now).wait, None);
    }
}
