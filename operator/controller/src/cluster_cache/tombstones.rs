//! UIDs of objects whose deletion was seen.

use std::collections::{HashSet, VecDeque};

/// How many are remembered. A reply that is overtaken by this many deletions leaves a record behind until the
/// next list, no longer.
const CAPACITY: usize = 4096;

/// The UIDs of the objects that were deleted last.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    uids: HashSet<Box<str>>,
    oldest_first: VecDeque<Box<str>>,
}

impl Tombstones {
    pub(super) fn add(&mut self, uid: &str) {
        if !self.uids.insert(uid.into()) {
            return;
        }
        self.oldest_first.push_back(uid.into());
        if self.oldest_first.len() > CAPACITY
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut tombstones = Tombstones::default();
        for n in 0..=CAPACITY {
            tombstones.add(&n.to_string());
            tombstones.add(&n.to_string());
        }
        assert!(!tombstones.contains("0"));
        assert!(tombstones.contains("1"));
        assert!(tombstones.contains(&CAPACITY.to_string()));
        assert_eq!(tombstones.uids.len(), CAPACITY);
    }
}
