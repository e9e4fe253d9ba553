//! `add_worker_group` and `delete_worker_group`.

use serde::Deserialize;

pub(super) const SCRIPT: &str = include_str!("../../../python/kubecluster/groups.py");

#[derive(Debug, Deserialize)]
pub(super) struct Groups {
    first: Vec<String>,
    second: Vec<String>,
    third: Vec<String>,
    roles: Vec<String>,
    last: Vec<String>,
}

impl Groups {
    /// Two workers of the first group, and more of a second one for a while.
    pub(super) fn check(&self, cluster: &str) {
        let extra = format!("{cluster}-extra-worker-");
        assert!(self.second.iter().all(|name| name.starts_with(&extra)), "{self:?}");
        assert_eq!((self.first.len(), self.second.len(), self.third.len()), (2, 1, 4), "{self:?}");
        let before = self.first.iter().chain(&self.second);
        assert!(before.into_iter().all(|name| self.third.contains(name)), "{self:?}");
        assert_eq!(self.roles, ["extra", "extra", "none", "none"]);
        assert_eq!(self.last, self.first, "only the second group went");
    }
}
