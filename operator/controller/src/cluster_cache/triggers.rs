//! Which objects are to be reconciled: a queue in which each key waits at most once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::Stream;
use tokio::sync::Notify;

use super::ObjectKey;

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

#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<ObjectKey>,
    waiting: HashSet<ObjectKey>,
}

impl Triggers {
    /// Adds the keys that do not wait yet.
    pub(super) fn add(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if queue.waiting.insert(key.clone()) {
                queue.order.push_back(key);
            }
        }
        drop(queue);
        self.shared.added.notify_one();
    }

    /// Takes the key that has waited longest.
    pub(super) fn pop(&self) -> Option<ObjectKey> {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let key = queue.order.pop_front()?;
        queue.waiting.remove(&key);
        Some(key)
    }

    /// The keys as they come, without end. One taker at a time.
    pub(super) fn stream(&self) -> impl Stream<Item = ObjectKey> + Send + 'static {
        futures::stream::unfold(self.clone(), |triggers| async {
            loop {
                if let Some(key) = triggers.pop() {
                    return Some((key, triggers));
                }
                triggers.shared.added.notified().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use futures::StreamExt;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("ns", name)
    }

    #[test]
    fn a_key_waits_once_and_in_its_turn() {
        let triggers = Triggers::default();
        triggers.add([key("a"), key("b"), key("a")]);
        triggers.add([key("a")]);
        assert_eq!((triggers.pop(), triggers.pop(), triggers.pop()), (Some(key("a")), Some(key("b")), None));
        triggers.add([key("a")]);
        assert_eq!(triggers.pop(), Some(key("a")), "it may wait again once it was taken");
    }

    #[tokio::test(start_paused = true)]
    async fn a_taker_is_woken_by_what_comes_later() {
        let triggers = Triggers::default();
        let mut stream = pin!(triggers.stream());
        let adder = triggers.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            adder.add([key("late"), key("later")]);
        });
        assert_eq!(stream.next().await, Some(key("late")));
        assert_eq!(stream.next().await, Some(key("later")));
    }
}
