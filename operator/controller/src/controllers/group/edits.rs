//! How long ago each group was edited.
//!
//! Clients that search for the right number, such as a person with `kubectl scale` or an autoscaler, edit a group
//! many times a second. New workers are made at once, but none is taken away before the number has stood for a moment.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cluster_cache::ObjectKey;

/// How long a number has to stand before workers are taken away for it.
const SETTLING: Duration = Duration::from_millis(500);

/// When the newest edit of each group was seen.
#[derive(Debug, Default)]
pub struct Edits {
    seen: Mutex<HashMap<ObjectKey, (Option<i64>, Instant)>>,
}

impl Edits {
    /// How long until this generation of the group has stood long enough; `None` if it has.
    pub fn settling(&self, group: &ObjectKey, generation: Option<i64>, now: Instant) -> Option<Duration> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = seen.entry(group.clone()).or_insert((generation, now));
        if entry.0 != generation {
            *entry = (generation, now);
        }
        SETTLING.checked_sub(now.saturating_duration_since(entry.1)).filter(|wait| !wait.is_zero())
    }

    /// Forgets a group that is gone.
    pub fn forget(&self, group: &ObjectKey) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_edit_starts_the_wait_afresh() {
        let (edits, group, start) = (Edits::default(), ObjectKey::new("ns", "g"), Instant::now());
        let after =
            |generation, ms| edits.settling(&group, Some(generation), start + Duration::from_millis(ms));
        assert_eq!(after(1, 0), Some(SETTLING));
        assert_eq!(after(1, 400), Some(Duration::from_millis(100)));
        assert_eq!(after(2, 400), Some(SETTLING));
        assert_eq!(after(2, 899), Some(Duration::from_millis(1)));
        assert_eq!(after(2, 900), None);
        edits.forget(&group);
        assert_eq!(after(2, 901), Some(SETTLING));
    }
}
