//! Events that wait to be sent: a line for each namespace, of which one is sent at a time.

use std::collections::{HashSet, VecDeque};

use k8s_openapi::api::core::v1::ObjectReference;

use super::Event;
use crate::fair::{Namespace, Rotation};

/// Events of one namespace that may wait; more are dropped and counted. It has 100 at once if it told nothing for long.
const OF_NAMESPACE: usize = 128;
/// Events of all namespaces that may wait; beyond that, only one of each namespace.
const TOTAL: usize = 512;
/// Events that may wait at all: 4 MB if each is as long as may be.
const MOST: usize = 2_048;

/// An Event that passed the gate.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) namespace: Namespace,
    pub(super) object: ObjectReference,
    pub(super) event: Event,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    lines: Rotation<Namespace, VecDeque<Waiting>>,
    length: usize,
    /// The namespaces of which one is being sent.
    sending: HashSet<Namespace>,
}

impl Queue {
    /// Whether an Event of this namespace may wait.
    pub(super) fn has_room(&self, namespace: &Namespace) -> bool {
        let own = self.lines.get(namespace).map_or(0, VecDeque::len);
        own < OF_NAMESPACE && (self.length < TOTAL || (own == 0 && self.length < MOST))
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.lines.queue(&waiting.namespace).push_back(waiting);
        self.length += 1;
    }

    /// The next to send, of a namespace of which none is being sent.
    pub(super) fn take(&mut self) -> Option<Waiting> {
        let waiting = self.lines.take(|namespace| !self.sending.contains(namespace))?;
        self.length -= 1;
        self.sending.insert(waiting.namespace.clone());
        Some(waiting)
    }

    /// The one of this namespace was sent, or given up.
    pub(super) fn sent(&mut self, namespace: &Namespace) {
        self.sending.remove(namespace);
    }
}

#[cfg(test)]
mod tests {
    use dask_operator_api::Reason;

    use super::*;
    use crate::events::EventType;

    fn waiting(namespace: &str, message: &str) -> Waiting {
        let (action, message) = ("Reconcile", message.to_owned());
        let event = Event { type_: EventType::Warning, reason: Reason::Unschedulable, action, message };
        Waiting { namespace: namespace.into(), object: ObjectReference::default(), event }
    }

    fn take(queue: &mut Queue) -> Option<String> {
        queue.take().map(|waiting| waiting.event.message)
    }

    #[test]
    fn namespaces_take_turns_and_one_that_is_being_sent_waits() {
        let mut queue = Queue::default();
        for (namespace, message) in [("noisy", "1"), ("noisy", "2"), ("quiet", "3")] {
            queue.push(waiting(namespace, message));
        }
        assert_eq!(
            [take(&mut queue), take(&mut queue), take(&mut queue)],
            [Some("1".into()), Some("3".into()), None]
        );
        queue.sent(&"quiet".into());
        assert_eq!(take(&mut queue), None, "the first one of noisy is not sent yet");
        queue.sent(&"noisy".into());
        assert_eq!(take(&mut queue).as_deref(), Some("2"));
        queue.sent(&"noisy".into());
        assert!(queue.lines.is_empty() && queue.sending.is_empty() && queue.length == 0);
    }

    #[test]
    fn each_namespace_has_room_of_its_own_but_not_without_end() {
        let mut queue = Queue::default();
        let mut fill = |namespace: &str| {
            let key: Namespace = namespace.into();
            let mut count = 0;
            while queue.has_room(&key) {
                queue.push(waiting(namespace, "x"));
                count += 1;
            }
            count
        };
        assert_eq!(
            (0..5).map(|number| fill(&number.to_string())).collect::<Vec<_>>(),
            [128, 128, 128, 128, 1]
        );
        assert_eq!(fill("quiet"), 1);
        let others: usize = (10..10_000).map(|number| fill(&number.to_string())).sum();
        assert_eq!(others + 514, MOST);
    }
}
