//! The last view of every scheduler, for everybody to read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dask_operator_api::Reason;

use super::view::LinkView;
use crate::cluster_cache::ObjectKey;

/// The last view of every scheduler. Clones share it.
///
/// A view belongs to one cluster object: one that is made again under the same name has another UID, and nothing that
/// was known from the scheduler before is true of it.
#[derive(Clone, Debug, Default)]
pub struct SchedulerLinks {
    views: Arc<Mutex<HashMap<ObjectKey, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    /// UID of the cluster.
    uid: Box<str>,
    view: Arc<LinkView>,
}

impl SchedulerLinks {
    /// What is known from the scheduler of the cluster with this name and UID; nothing at first.
    #[must_use]
    pub fn view(&self, cluster: &ObjectKey, uid: Option<&str>) -> Arc<LinkView> {
        let views = self.views();
        let entry = views.get(cluster).filter(|entry| Some(&*entry.uid) == uid);
        entry.map(|entry| entry.view.clone()).unwrap_or_default()
    }

    /// From now on the scheduler of this cluster is asked. What was known of another one of its name is dropped.
    pub fn begin(&self, cluster: &ObjectKey, uid: &str) {
        let mut views = self.views();
        if views.get(cluster).is_none_or(|entry| *entry.uid != *uid) {
            views.insert(cluster.clone(), Entry { uid: uid.into(), view: Arc::default() });
        }
    }

    /// Replaces what is known from the scheduler of this cluster, unless its time is over: the task that asks may end a
    /// moment later than its cluster.
    pub fn publish(&self, cluster: &ObjectKey, uid: &str, view: LinkView) {
        if let Some(entry) = self.views().get_mut(cluster).filter(|entry| *entry.uid == *uid) {
            entry.view = Arc::new(view);
        }
    }

    /// The cluster is gone.
    pub fn forget(&self, cluster: &ObjectKey) {
        self.views().remove(cluster);
    }

    /// Links by what they are like, for metrics.
    #[must_use]
    pub fn states(&self) -> Vec<(&'static str, usize)> {
        let (mut answering, mut failing, mut not_running) = (0, 0, 0);
        for entry in self.views().values().filter(|entry| entry.view.asked) {
            match &entry.view.failure {
                None => answering += 1,
                Some(failure) if failure.reason == Reason::SchedulerNotRunning => not_running += 1,
                Some(_) => failing += 1,
            }
        }
        vec![("answering", answering), ("failing", failing), ("not_running", not_running)]
    }

    fn views(&self) -> MutexGuard<'_, HashMap<ObjectKey, Entry>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_kept_until_the_next_one_or_the_end_of_its_cluster() {
        let (links, key) = (SchedulerLinks::default(), ObjectKey::new("ns", "c"));
        let nothing = LinkView::default();
        assert_eq!(*links.view(&key, Some("u")), nothing);
        let view = LinkView { asked: true, ..LinkView::default() };
        links.begin(&key, "u");
        links.publish(&key, "u", view.clone());
        links.begin(&key, "u");
        assert_eq!(*links.clone().view(&key, Some("u")), view);
        assert_eq!(*links.view(&ObjectKey::new("other", "c"), Some("u")), nothing);
        links.forget(&key);
        assert_eq!(*links.view(&key, Some("u")), nothing);
        links.publish(&key, "u", view);
        assert!(links.states().iter().all(|(_, count)| *count == 0), "the word of a task that is ending");
    }

    #[test]
    fn a_cluster_made_again_inherits_nothing() {
        let (links, key) = (SchedulerLinks::default(), ObjectKey::new("ns", "c"));
        let view = LinkView { asked: true, ..LinkView::default() };
        links.begin(&key, "old");
        links.publish(&key, "old", view.clone());
        assert_eq!(*links.view(&key, Some("new")), LinkView::default(), "seen before its link begins");
        assert_eq!(*links.view(&key, None), LinkView::default());
        links.begin(&key, "new");
        links.publish(&key, "old", view.clone());
        assert_eq!(*links.view(&key, Some("new")), LinkView::default());
        assert_eq!(*links.view(&key, Some("old")), LinkView::default());
        links.publish(&key, "new", view.clone());
        assert_eq!(*links.view(&key, Some("new")), view);
    }
}
