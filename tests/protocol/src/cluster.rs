//! What the contract needs to do to a cluster behind the scheduler's back.

use std::future::Future;

/// A scheduler and three workers with one thread each, named `w0`, `w1` and `w2`, without work.
pub trait Cluster {
    /// Where the scheduler listens.
    fn host_port(&self) -> String;

    /// Its release.
    fn release(&self) -> [u64; 3];

    /// Whether the operator's module is loaded.
    fn has_module(&self) -> bool;

    /// Stores this many results on a worker, and nowhere else.
    fn store(&mut self, worker: &str, keys: u64) -> impl Future<Output = ()>;

    /// Occupies a worker with a task.
    fn occupy(&mut self, worker: &str) -> impl Future<Output = ()>;

    /// Ends all such tasks.
    fn free(&mut self) -> impl Future<Output = ()>;

    /// Creates an actor on a worker.
    fn settle(&mut self, worker: &str) -> impl Future<Output = ()>;

    /// Texts that were logged under a topic.
    fn logged(&mut self, topic: &str) -> impl Future<Output = Vec<String>>;

    /// How many tasks ran more often than once.
    fn repeated(&mut self) -> impl Future<Output = u64>;
}
