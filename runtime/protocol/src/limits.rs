//! How much a peer may send and how long it may take.

use std::time::Duration;

use crate::Budget;

/// Caps on one message of a peer, checked before memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimits {
    /// Bytes of one message with all its frames.
    pub message_bytes: u64,
    /// Frames of one message.
    pub frames: u64,
    /// Containers within containers. More than [`MessageLimits::MOST_DEPTH`] counts as that.
    pub depth: usize,
    /// Values in one message, those in containers included. A decoded one takes 40 bytes of memory, twice as much in a
    /// list that grows, and 32 more if it is text.
    pub items: u64,
}

impl MessageLimits {
    /// Decoding recurses: deeper could end the stack.
    pub const MOST_DEPTH: usize = 256;

    /// The first message of a peer: three fields, 42 bytes.
    pub const HANDSHAKE: Self = Self { message_bytes: 4 << 10, frames: 8, depth: 8, items: 64 };

    /// Every answer but lists of workers. The largest is `dask_operator_queue`: up to 5,000 kinds of tasks of 6 values
    /// each are 30,026 values, and some 200 kB with names of 20 bytes. Decoded, 40,000 values take 5 MB at most.
    pub const SMALL: Self = Self { message_bytes: 1 << 20, frames: 64, depth: 64, items: 40_000 };

    /// The same with this much more for each of `count` entries.
    fn with_entries(count: usize, bytes: u64, items: u64, most: u64) -> Self {
        let count = count as u64;
        Self {
            message_bytes: Self::SMALL.message_bytes.saturating_add(count.saturating_mul(bytes)).min(most),
            items: Self::SMALL.items.saturating_add(count.saturating_mul(items)),
            ..Self::SMALL
        }
    }
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self::SMALL
    }
}

/// What a client allows its peer.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// Each answer that is no list of workers.
    pub small: MessageLimits,
    /// Pods that the cluster has: what bounds a list of its workers.
    pub pods: usize,
    /// What the answers of all peers share.
    pub budget: Budget,
}

impl Limits {
    /// Workers in a list that belong to no pod of the cluster: of other groups, of notebooks, outside of Kubernetes.
    pub const FOREIGN_WORKERS: usize = 1_000;
    /// Dask workers of one pod (`--nworkers`): one for each of its processors in the extreme.
    pub const WORKERS_OF_A_POD: usize = 16;
    /// Longest list of workers, however many pods there are.
    pub const MOST_WORKERS: usize = 32_768;
    /// Bytes of the longest answer. Standard Dask's identity of 10,000 workers has 15 MB, the telemetry module's list
    /// 2.5 MB.
    pub const MOST_BYTES: usize = 32 << 20;
    /// Memory of one worker in a list, with the longest name, address and host.
    pub const WORKER_BYTES: usize = 1 << 10;
    /// Bytes that each worker of a list has in the message at least; the names of the fields alone take twice as much.
    pub(crate) const LEAST_WORKER: usize = 64;
    /// Bytes of a worker in an identity, on average: 1,500 were measured, more with metrics of the user's own.
    const IDENTITY_BYTES: u64 = 4 << 10;
    /// Values of a worker in an identity, on average: 100 were measured.
    const IDENTITY_ITEMS: u64 = 400;

    /// The same for all peers that share a budget.
    #[must_use]
    pub fn sharing(budget: &Budget) -> Self {
        Self { budget: budget.clone(), ..Self::default() }
    }

    /// Workers that a list may have.
    #[must_use]
    pub fn workers(&self) -> usize {
        let workers = self.pods.saturating_mul(Self::WORKERS_OF_A_POD).saturating_add(Self::FOREIGN_WORKERS);
        workers.min(Self::MOST_WORKERS).min(self.budget.total() / 2 / Self::WORKER_BYTES)
    }

    /// An answer that lists all workers.
    #[must_use]
    pub fn list(&self) -> MessageLimits {
        let (bytes, items) = (Self::IDENTITY_BYTES, Self::IDENTITY_ITEMS);
        MessageLimits::with_entries(self.workers(), bytes, items, self.most_bytes())
    }

    /// An answer that names `count` workers.
    #[must_use]
    pub fn names(&self, count: usize) -> MessageLimits {
        let bytes = crate::text::LONGEST as u64 + 8;
        MessageLimits::with_entries(count.min(self.workers()), bytes, 1, self.most_bytes())
    }

    /// An answer that describes `count` workers, each of them at length.
    #[must_use]
    pub fn described(&self, count: usize) -> MessageLimits {
        let (bytes, items) = (16 * Self::IDENTITY_BYTES, 16 * Self::IDENTITY_ITEMS);
        MessageLimits::with_entries(count.min(self.workers()), bytes, items, self.most_bytes())
    }

    /// Most memory of what is made of a list that has `bytes`.
    pub(crate) fn made_of(bytes: usize, workers: usize) -> usize {
        workers.min(bytes / Self::LEAST_WORKER) * Self::WORKER_BYTES
    }

    /// Half of the budget, so that there is room for what is made of it.
    fn most_bytes(&self) -> u64 {
        Self::MOST_BYTES.min(self.budget.total() / 2) as u64
    }
}

/// How long to wait for each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Until the TCP connection, and then again until TLS, is up.
    pub connect: Duration,
    /// Until both sides have introduced themselves.
    pub handshake: Duration,
    /// Until a call is answered. A scheduler that takes a graph of a million tasks is silent for 36 s.
    pub call: Duration,
    /// Until workers are retired: their data is copied to others first.
    pub retire: Duration,
    /// From the first byte of an answer that is taken from the budget until its last: 32 MB at 3 MB/s.
    pub transfer: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            call: Duration::from_mins(1),
            retire: Duration::from_mins(2),
            transfer: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(pods: usize, total: usize) -> Limits {
        Limits { pods, ..Limits::sharing(&Budget::new(total)) }
    }

    #[test]
    fn the_largest_cluster_that_is_promised_fits() {
        let limits = limits(10_000, Budget::TOTAL);
        let list = limits.list();
        assert!(limits.workers() >= 10_000, "{limits:?}");
        assert!(list.message_bytes >= 10_000 * 1_500 && list.items >= 10_000 * 100, "{list:?}");
        let memory = list.message_bytes + (limits.workers() * Limits::WORKER_BYTES) as u64;
        assert!(memory <= Budget::TOTAL as u64, "{memory}");
    }

    #[test]
    fn a_small_cluster_may_send_little() {
        let limits = limits(2, Budget::TOTAL);
        assert_eq!(limits.workers(), 1_032);
        assert!(limits.list().message_bytes <= 6 << 20, "{:?}", limits.list());
        assert!(limits.names(2).message_bytes < 2 << 20, "{:?}", limits.names(2));
        assert!(limits.described(20).message_bytes < 4 << 20, "{:?}", limits.described(20));
    }

    #[test]
    fn whatever_the_numbers_a_message_and_what_is_made_of_it_fit_into_the_budget() {
        for pods in [0, 1, 5_000, usize::MAX] {
            for total in [4 << 20, Budget::TOTAL, usize::MAX] {
                let limits = limits(pods, total);
                let made = limits.workers() * Limits::WORKER_BYTES;
                let most = [limits.list(), limits.names(usize::MAX), limits.described(usize::MAX)];
                for message in most {
                    assert!(
                        message.message_bytes + made as u64 <= limits.budget.total() as u64,
                        "{limits:?}"
                    );
                }
            }
        }
    }
}
