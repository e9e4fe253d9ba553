//! Which objects are to be reconciled: a queue in which each key waits at most once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::Stream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::ObjectKey;

/// Least time between two triggers of one object. The first comes at once; while a thousand pods come up, their
/// group is looked at now and then instead of after each of them.
const SPACING: Duration = Duration::from_millis(100);

/// Keys that wait to be reconciled. It is never longer than there are objects, even while nobody takes any.
#[derive(Clone, Debug, Default)]
pub(super) struct Triggers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    added: Notify,
}

impl Triggers {
    /// Adds the keys that do not wait yet.
    pub(super) fn add(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        let now = Instant::now();
        let mut queue = self.queue();
        for key in keys {
            queue.add(key, now);
        }
        drop(queue);
        self.shared.added.notify_one();
    }

    /// The keys as they come, without end. One taker at a time.
    pub(super) fn stream(&self) -> impl Stream<Item = ObjectKey> + Send + 'static {
        futures::stream::unfold(self.clone(), |triggers| async {
            loop {
                let next = triggers.queue().next(Instant::now());
                match next {
                    Next::Now(key) => return Some((key, triggers)),
                    Next::At(time) => tokio::select! {
                        () = sleep_until(time) => {}
                        () = triggers.shared.added.notified() => {}
                    },
                    Next::Never => triggers.shared.added.notified().await,
                }
            }
        })
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
    /// By time, and in order of arrival for the same time.
    due: BTreeMap<(Instant, u64), ObjectKey>,
    waiting: HashSet<ObjectKey>,
    arrivals: u64,
    /// When keys were taken, as long as it matters; oldest first.
    taken: VecDeque<(Instant, ObjectKey)>,
    taken_at: HashMap<ObjectKey, Instant>,
}

impl Queue {
    fn add(&mut self, key: ObjectKey, now: Instant) {
        if self.waiting.insert(key.clone()) {
            let due = self.taken_at.get(&key).map_or(now, |taken| now.max(*taken + SPACING));
            self.arrivals += 1;
            self.due.insert((due, self.arrivals), key);
        }
    }

    /// Takes the key that is due first, or says when one will be.
    fn next(&mut self, now: Instant) -> Next {
        while let Some((taken, key)) = self.taken.front().filter(|(taken, _)| *taken + SPACING <= now) {
            if self.taken_at.get(key) == Some(taken) {
                self.taken_at.remove(key);
            }
            self.taken.pop_front();
        }
        let Some(first) = self.due.first_entry() else { return Next::Never };
        if first.key().0 > now {
            return Next::At(first.key().0);
        }
        let key = first.remove();
        self.waiting.remove(&key);
        self.taken.push_back((now, key.clone()));
        self.taken_at.insert(key.clone(), now);
        Next::Now(key)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::StreamExt;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    fn now(name: &str) -> Next {
        Next::Now(key(name))
    }

    #[test]
    fn a_key_waits_once_and_in_its_turn() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        for name in ["b", "a", "b"] {
            queue.add(key(name), start);
        }
        assert_eq!(
            [queue.next(start), queue.next(start), queue.next(start)],
            [now("b"), now("a"), Next::Never]
        );
    }

    #[test]
    fn the_first_trigger_comes_at_once_and_the_others_are_spaced() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        queue.add(key("busy"), at(0));
        assert_eq!(queue.next(at(0)), now("busy"));
        queue.add(key("busy"), at(10));
        queue.add(key("quiet"), at(20));
        assert_eq!(queue.next(at(20)), now("quiet"), "the busy one holds up nobody");
        assert_eq!(queue.next(at(20)), Next::At(at(100)));
        queue.add(key("busy"), at(99));
        assert_eq!(queue.next(at(100)), now("busy"));
        queue.add(key("busy"), at(300));
        assert_eq!(queue.next(at(300)), now("busy"), "it had been quiet for long enough");
    }

    #[test]
    fn what_was_taken_long_ago_is_forgotten() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        for n in 0..100 {
            queue.add(key(&n.to_string()), start);
            queue.next(start);
        }
        assert_eq!(queue.next(start + SPACING), Next::Never);
        assert!(queue.taken.is_empty() && queue.taken_at.is_empty() && queue.waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_taker_is_woken_by_what_comes_later() {
        let triggers = Triggers::default();
        let mut stream = pin!(triggers.stream());
        let (adder, start) = (triggers.clone(), Instant::now());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            adder.add([key("late"), key("later")]);
        });
        assert_eq!(stream.next().await, Some(key("late")));
        assert_eq!(stream.next().await, Some(key("later")));
        triggers.add([key("late")]);
        assert_eq!(stream.next().await, Some(key("late")));
        assert_eq!(start.elapsed(), Duration::from_secs(1) + SPACING);
    }
}
