//! Sharing between namespaces: who is next in line, and how many places one of them may hold.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

/// Name of a namespace, as [`ObjectKey`](crate::cluster_cache::ObjectKey) has it.
pub type Namespace = Arc<str>;

/// A namespace may hold so many times what is free of the places that all share: one alone gets 7 of 8 places, two get
/// 7 of 15 each. So whoever comes next finds a place even while all calls of a few others hang, and no place is kept for
/// anybody by name. (Dynamic thresholds of Choudhury and Hahne, 1998, for the shared buffers of switches.)
const TIMES_FREE: usize = 7;

/// Something from which one item after another is taken.
pub trait Queue: Default {
    /// What is taken.
    type Item;

    /// The next item.
    fn pop(&mut self) -> Option<Self::Item>;

    /// Whether there is none.
    fn is_empty(&self) -> bool;
}

impl<T> Queue for VecDeque<T> {
    type Item = T;

    fn pop(&mut self) -> Option<T> {
        self.pop_front()
    }

    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}

/// Queues that take turns: one item of each key's queue after the other. Only those that hold something are kept.
#[derive(Debug)]
pub struct Rotation<K, Q> {
    order: VecDeque<K>,
    queues: HashMap<K, Q>,
}

impl<K, Q> Default for Rotation<K, Q> {
    fn default() -> Self {
        Self { order: VecDeque::new(), queues: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash, Q: Queue> Rotation<K, Q> {
    /// The queue of a key, to put something in. A new one has its turn after all others.
    pub fn queue(&mut self, key: &K) -> &mut Q {
        if !self.queues.contains_key(key) {
            self.order.push_back(key.clone());
        }
        self.queues.entry(key.clone()).or_default()
    }

    /// What a key's queue holds; nothing if there is none.
    pub fn get(&self, key: &K) -> Option<&Q> {
        self.queues.get(key)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The next item of the first queue in turn whose key `may` go; those that may not keep their place.
    pub fn take(&mut self, mut may: impl FnMut(&K) -> bool) -> Option<Q::Item> {
        loop {
            let position = self.order.iter().position(&mut may)?;
            let key = self.order.remove(position)?;
            let queue = self.queues.get_mut(&key)?;
            let item = queue.pop();
            if queue.is_empty() {
                self.queues.remove(&key);
            } else {
                self.order.push_back(key);
            }
            if item.is_some() {
                return item;
            }
        }
    }
}

impl<K: Clone + Eq + Hash, Q: Queue> Queue for Rotation<K, Q> {
    type Item = Q::Item;

    fn pop(&mut self) -> Option<Q::Item> {
        self.take(|_| true)
    }

    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }
}

/// A number of places that namespaces share.
#[derive(Debug)]
pub struct Shares {
    free: usize,
    taken: usize,
    held: HashMap<Namespace, usize>,
}

impl Shares {
    /// So many places, all of them free.
    #[must_use]
    pub fn of(places: usize) -> Self {
        Self { free: places, taken: 0, held: HashMap::new() }
    }

    /// Places that are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Whether a namespace may take another place.
    #[must_use]
    pub fn may_take(&self, namespace: &Namespace) -> bool {
        let held = self.held.get(namespace).copied().unwrap_or_default();
        held < self.free.saturating_mul(TIMES_FREE)
    }

    /// A namespace takes a place. Whoever does so has asked [`Self::may_take`].
    pub fn take(&mut self, namespace: &Namespace) {
        self.free = self.free.saturating_sub(1);
        self.taken += 1;
        *self.held.entry(namespace.clone()).or_default() += 1;
    }

    /// A namespace gives a place back.
    pub fn give_back(&mut self, namespace: &Namespace) {
        let Some(held) = self.held.get_mut(namespace) else { return };
        *held -= 1;
        if *held == 0 {
            self.held.remove(namespace);
        }
        self.free += 1;
        self.taken -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rotation(items: &[(&'static str, i32)]) -> Rotation<&'static str, VecDeque<i32>> {
        let mut rotation: Rotation<&str, VecDeque<i32>> = Rotation::default();
        for (key, item) in items {
            rotation.queue(key).push_back(*item);
        }
        rotation
    }

    fn all<Q: Queue>(mut queue: Q) -> Vec<Q::Item> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn queues_take_turns_and_are_in_order() {
        let rotation = rotation(&[("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)]);
        assert_eq!(all(rotation), [1, 4, 5, 2, 6, 3]);
    }

    #[test]
    fn whoever_may_not_go_keeps_the_place() {
        let mut rotation = rotation(&[("a", 1), ("a", 2), ("b", 3), ("c", 4)]);
        assert_eq!(rotation.take(|key| *key != "a"), Some(3));
        assert_eq!(rotation.take(|_| false), None);
        assert_eq!(all(rotation), [1, 4, 2]);
    }

    #[test]
    fn nothing_is_kept_of_empty_queues() {
        let mut rotation = rotation(&[("a", 1), ("b", 2)]);
        rotation.queue(&"c");
        assert_eq!((rotation.pop(), rotation.pop(), rotation.pop()), (Some(1), Some(2), None));
        assert!(rotation.is_empty() && rotation.order.is_empty());
    }

    #[test]
    fn rotations_of_rotations() {
        let mut outer: Rotation<&str, Rotation<&str, VecDeque<i32>>> = Rotation::default();
        for (namespace, group, item) in
            [("a", "x", 1), ("a", "x", 2), ("a", "y", 3), ("b", "z", 4), ("b", "z", 5)]
        {
            outer.queue(&namespace).queue(&group).push_back(item);
        }
        assert_eq!(all(outer), [1, 4, 3, 5, 2]);
    }

    /// Takes for one namespace after the other until none may take more; what each holds then.
    fn filled(shares: &mut Shares, namespaces: &[Namespace]) -> Vec<usize> {
        while let Some(namespace) = {
            let held = |namespace: &&Namespace| shares.held.get(*namespace).copied().unwrap_or_default();
            namespaces.iter().filter(|namespace| shares.may_take(namespace)).min_by_key(held)
        } {
            shares.take(namespace);
        }
        namespaces.iter().map(|namespace| shares.held.get(namespace).copied().unwrap_or_default()).collect()
    }

    fn names(count: usize) -> Vec<Namespace> {
        (0..count).map(|number| number.to_string().into()).collect()
    }

    #[rstest::rstest]
    #[case(32, 1, &[28])]
    #[case(64, 1, &[56])]
    #[case(32, 2, &[15, 15])]
    #[case(32, 4, &[8, 8, 8, 7])]
    #[case(4, 1, &[4])]
    #[case(1, 1, &[1])]
    fn the_busy_share_and_leave_something(
        #[case] places: usize,
        #[case] namespaces: usize,
        #[case] expected: &[usize],
    ) {
        assert_eq!(filled(&mut Shares::of(places), &names(namespaces)), expected);
    }

    #[test]
    fn whoever_comes_next_finds_a_place_while_others_hold_theirs() {
        let mut shares = Shares::of(32);
        filled(&mut shares, &names(4));
        let quiet: Namespace = "quiet".into();
        assert!(shares.may_take(&quiet));
        shares.take(&quiet);
        assert!(!shares.may_take(&names(1)[0]));
    }

    proptest! {
        #[test]
        fn what_is_given_back_is_free_again(places in 1_usize..64, taken in 0_usize..64) {
            let mut shares = Shares::of(places);
            let namespaces = names(5);
            for namespace in namespaces.iter().cycle().take(taken) {
                if shares.may_take(namespace) {
                    shares.take(namespace);
                }
            }
            prop_assert!(shares.taken() <= places);
            for namespace in &namespaces {
                while shares.held.contains_key(namespace) {
                    shares.give_back(namespace);
                }
                shares.give_back(namespace);
            }
            prop_assert_eq!((shares.free, shares.taken, shares.held.len()), (places, 0, 0));
        }
    }
}
