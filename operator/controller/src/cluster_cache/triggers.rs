//! Which objects are to be reconciled: a queue in which each key waits at most once, and namespaces take turns.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::ObjectKey;
use crate::fair::{Namespace, Rotation, Shares};

/// Least time between two triggers of one object. The first comes at once; while a thousand pods come up, their
/// group is looked at now and then instead of after each of them.
const SPACING: Duration = Duration::from_millis(100);

/// Keys that wait to be reconciled. It is never longer than there are objects, even while nobody takes any. Clones share
/// the queue.
#[derive(Clone, Debug, Default)]
pub struct Triggers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Triggers {
    /// Adds the keys that do not wait yet.
    pub fn add(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        let now = Instant::now();
        let mut queue = self.queue();
        for key in keys {
            queue.add(key, now);
        }
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// The keys as they come, without end. One taker at a time.
    pub fn stream(&self) -> impl Stream<Item = ObjectKey> + Send + 'static {
        futures::stream::unfold(self.clone(), |triggers| async {
            loop {
                let next = triggers.queue().next(Instant::now());
                match next {
                    Next::Now(key) => return Some((key, triggers)),
                    Next::At(time) => tokio::select! {
                        () = sleep_until(time) => {}
                        () = triggers.shared.changed.notified() => {}
                    },
                    Next::Never => triggers.shared.changed.notified().await,
                }
            }
        })
    }

    /// The keys as they come, at most `limit` of them at a time, of which no namespace gets all: each is under way until
    /// [`Self::done`], and does not come again before.
    pub fn turns(&self, limit: usize) -> impl Stream<Item = ObjectKey> + Send + 'static {
        self.queue().under_way = Some(UnderWay { shares: Shares::of(limit), keys: HashMap::new() });
        self.stream()
    }

    /// Whether this key was given by [`Self::turns`] and is not done.
    #[must_use]
    pub fn is_under_way(&self, key: &ObjectKey) -> bool {
        self.queue().under_way.as_ref().is_some_and(|under_way| under_way.keys.contains_key(key))
    }

    /// A key that was given by [`Self::turns`] is done with.
    pub fn done(&self, key: &ObjectKey) {
        self.queue().done(key, Instant::now());
        self.shared.changed.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, PartialEq)]
enum Next {
    Now(ObjectKey),
    At(Instant),
    Never,
}

#[derive(Debug, Default)]
struct Queue {
    /// Those whose time has not come, by time, and in order of arrival for the same time.
    later: BTreeMap<(Instant, u64), ObjectKey>,
    arrivals: u64,
    /// Those whose time has come.
    due: Rotation<Namespace, VecDeque<ObjectKey>>,
    /// All that are in one of the two.
    waiting: HashSet<ObjectKey>,
    /// When keys were taken, as long as it matters; oldest first.
    taken: VecDeque<(Instant, ObjectKey)>,
    taken_at: HashMap<ObjectKey, Instant>,
    /// Without it there is no limit.
    under_way: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    shares: Shares,
    /// Whether each was added again meanwhile.
    keys: HashMap<ObjectKey, bool>,
}

impl Queue {
    fn add(&mut self, key: ObjectKey, now: Instant) {
        if let Some(again) = self.under_way.as_mut().and_then(|under_way| under_way.keys.get_mut(&key)) {
            *again = true;
            return;
        }
        if !self.waiting.insert(key.clone()) {
            return;
        }
        match self.taken_at.get(&key).map(|taken| *taken + SPACING).filter(|due| *due > now) {
            Some(due) => {
                self.arrivals += 1;
                self.later.insert((due, self.arrivals), key);
            }
            None => self.due.queue(&key.namespace).push_back(key),
        }
    }

    /// Takes the key whose turn it is, or says when one may be due.
    fn next(&mut self, now: Instant) -> Next {
        while let Some((taken, key)) = self.taken.front().filter(|(taken, _)| *taken + SPACING <= now) {
            if self.taken_at.get(key) == Some(taken) {
                self.taken_at.remove(key);
            }
            self.taken.pop_front();
        }
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.remove();
            self.due.queue(&key.namespace).push_back(key);
        }
        let shares = self.under_way.as_ref().map(|under_way| &under_way.shares);
        let may = |namespace: &Namespace| shares.is_none_or(|shares| shares.may_take(namespace));
        let Some(key) = self.due.take(may) else {
            // Those that may not come now wait for another to be done.
            return self.later.first_key_value().map_or(Next::Never, |((time, _), _)| Next::At(*time));
        };
        self.waiting.remove(&key);
        self.taken.push_back((now, key.clone()));
        self.taken_at.insert(key.clone(), now);
        if let Some(under_way) = &mut self.under_way {
            under_way.shares.take(&key.namespace);
            under_way.keys.insert(key.clone(), false);
        }
        Next::Now(key)
    }

    fn done(&mut self, key: &ObjectKey, now: Instant) {
        let Some(under_way) = &mut self.under_way else { return };
        let Some(again) = under_way.keys.remove(key) else { return };
        under_way.shares.give_back(&key.namespace);
        if again {
            self.add(key.clone(), now);
        }
    }
}

#[cfg(test)]
#[path = "triggers_tests.rs"]
mod tests;
