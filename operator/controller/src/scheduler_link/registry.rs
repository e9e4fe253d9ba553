//! The last view of every scheduler, for everybody to read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dask_operator_api::Reason;

use super::view::LinkView;
use crate::cluster_cache::ObjectKey;

/// The last view of every scheduler. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SchedulerLinks {
    views: Arc<Mutex<HashMap<ObjectKey, Arc<LinkView>>>>,
}

impl SchedulerLinks {
    /// What is known from the scheduler of this cluster; nothing at first.
    #[must_use]
    pub fn view(&self, cluster: &ObjectKey) -> Arc<LinkView> {
        self.views().get(cluster).cloned().unwrap_or_default()
    }

    /// Replaces what is known from the scheduler of this cluster.
    pub fn publish(&self, cluster: &ObjectKey, view: LinkView) {
        self.views().insert(cluster.clone(), Arc::new(view));
    }

    /// The cluster is gone.
    pub fn forget(&self, cluster: &ObjectKey) {
        self.views().remove(cluster);
    }

    /// Links by what they are like, for metrics.
    #[must_use]
    pub fn states(&self) -> Vec<(&'static str, usize)> {
        let (mut answering, mut failing, mut not_running) = (0, 0, 0);
        for view in self.views().values() {
            match &view.failure {
                None => answering += 1,
                Some(failure) if failure.reason == Reason::SchedulerNotRunning => not_running += 1,
                Some(_) => failing += 1,
            }
        }
        vec![("answering", answering), ("failing", failing), ("not_running", not_running)]
    }

    fn views(&self) -> MutexGuard<'_, HashMap<ObjectKey, Arc<LinkView>>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_kept_until_the_next_one_or_the_end_of_its_cluster() {
        let (links, key) = (SchedulerLinks::default(), ObjectKey::new("ns", "c"));
        assert_eq!(*links.view(&key), LinkView::default());
        let view = LinkView { asked: true, ..LinkView::default() };
        links.publish(&key, view.clone());
        assert_eq!(*links.clone().view(&key), view);
        assert_eq!(*links.view(&ObjectKey::new("other", "c")), LinkView::default());
        links.forget(&key);
        assert_eq!(*links.view(&key), LinkView::default());
    }
}
