//! Strings that thousands of records share.

use std::collections::HashSet;
use std::sync::Arc;

/// Hands out one copy of each string.
#[derive(Debug, Default)]
pub(super) struct Interner {
    strings: HashSet<Arc<str>>,
    /// Number of strings at which those that nobody uses any more are dropped.
    limit: usize,
}

impl Interner {
    /// The shared copy of this string.
    pub(super) fn get(&mut self, string: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(string) {
            return known.clone();
        }
        if self.strings.len() >= self.limit {
            self.strings.retain(|string| Arc::strong_count(string) > 1);
            self.limit = (2 * self.strings.len()).max(64);
        }
        let new: Arc<str> = Arc::from(string);
        self.strings.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_are_one() {
        let mut interner = Interner::default();
        let (one, two) = (interner.get("a"), interner.get("a"));
        assert!(Arc::ptr_eq(&one, &two));
        assert!(!Arc::ptr_eq(&one, &interner.get("b")));
    }

    #[test]
    fn unused_strings_are_dropped() {
        let mut interner = Interner::default();
        let kept = interner.get("kept");
        for n in 0..10_000 {
            interner.get(&n.to_string());
        }
        assert!(interner.strings.len() < 200, "{}", interner.strings.len());
        assert!(Arc::ptr_eq(&kept, &interner.get("kept")));
    }
}
