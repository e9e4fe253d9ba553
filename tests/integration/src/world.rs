//! What most tests begin with.

use crate::api_server::ApiServer;
use crate::kubelet::Kubelet;
use crate::link::Link;
use crate::namespace::Namespace;
use crate::observer::Observer;
use crate::operator::{Launch, Operator};
use crate::templates;

/// A namespace of the shared server in which an operator runs, pods become ready, and workers are watched.
#[derive(Debug)]
pub struct World {
    /// The namespace.
    pub namespace: Namespace,
    /// What the operator hears from the schedulers.
    pub link: Link,
    /// The operator, alone, with a recorder.
    pub operator: Operator,
    /// The watch over the workers.
    pub observer: Observer,
    /// Makes pods ready.
    pub kubelet: Kubelet,
}

impl World {
    /// An empty one; `test` becomes part of the namespace's name.
    pub async fn start(test: &str) -> Self {
        let namespace = ApiServer::shared().await.namespace(test).await;
        let kubelet = Kubelet::start(&namespace).await;
        let observer = Observer::start(&namespace);
        let link = Link::obliging();
        let operator = Operator::launch(Launch::alone(&namespace).link(&link)).await;
        Self { namespace, link, operator, observer, kubelet }
    }

    /// One with a cluster `c` whose default group has so many ready workers.
    pub async fn with_cluster(test: &str, workers: i32) -> Self {
        let world = Self::start(test).await;
        world.observer.allow("c-default", workers);
        world.namespace.create_object(&templates::cluster("c", workers)).await;
        world.namespace.wait_for_ready_workers("c-default", workers).await;
        world
    }

    /// Kills the operator and starts another one.
    pub async fn restart_operator(&mut self) {
        self.operator.kill();
        self.operator = Operator::launch(Launch::alone(&self.namespace).link(&self.link)).await;
        self.operator.wait_until_ready().await;
    }
}
