//! The highest ordinal that this process gave in each group, in case the status cannot be written.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::cluster_cache::ObjectKey;

/// Highest ordinals by group; a group that was made again starts afresh.
#[derive(Debug, Default)]
pub struct Ordinals {
    highest: Mutex<HashMap<ObjectKey, (String, i64)>>,
}

impl Ordinals {
    /// The highest ordinal that was given, or `written` if that is higher.
    pub fn highest(&self, group: &ObjectKey, uid: &str, written: i64) -> i64 {
        let highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        highest.get(group).filter(|(of, _)| of == uid).map_or(written, |(_, given)| written.max(*given))
    }

    /// Remembers that these ordinals are about to be used.
    pub fn give(&self, group: &ObjectKey, uid: &str, ordinals: &[i64]) {
        let Some(last) = ordinals.iter().max() else { return };
        let highest = self.highest(group, uid, *last);
        let mut all = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(group.clone(), (uid.to_owned(), highest));
    }

    /// Forgets a group that is gone.
    pub fn forget(&self, group: &ObjectKey) {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner).remove(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_is_known_without_the_status() {
        let (ordinals, group) = (Ordinals::default(), ObjectKey::new("ns", "g"));
        assert_eq!(ordinals.highest(&group, "uid", 2), 2);
        ordinals.give(&group, "uid", &[3, 4]);
        ordinals.give(&group, "uid", &[1]);
        ordinals.give(&group, "uid", &[]);
        assert_eq!(ordinals.highest(&group, "uid", 2), 4);
        assert_eq!(ordinals.highest(&group, "uid", 9), 9);
        assert_eq!(ordinals.highest(&group, "another", 0), 0, "a group that was made again");
        ordinals.forget(&group);
        assert_eq!(ordinals.highest(&group, "uid", 0), 0);
    }
}
