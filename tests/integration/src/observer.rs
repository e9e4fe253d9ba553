//! Watches every change of every worker pod, and holds the operator to what must be true at every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dask_operator_api::labels;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};
use tokio_util::task::AbortOnDropHandle;

use crate::namespace::Namespace;
use crate::wait::{check, wait_for};

/// The watch over the worker pods of a namespace. At every moment:
///
/// * a group has no more live workers than it was ever allowed since its last [`Observer::settle`];
/// * worker names have the documented shape, and none comes a second time;
/// * no ordinal of a group comes a second time.
#[derive(Debug)]
pub struct Observer {
    book: Arc<Mutex<Book>>,
    _task: AbortOnDropHandle<()>,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Book {
    allowed: BTreeMap<String, usize>,
    live: BTreeMap<String, BTreeSet<String>>,
    /// UID of each worker by name, of those that are gone too.
    uids: BTreeMap<String, String>,
    /// Name by UID of the group and ordinal, of those that are gone too.
    ordinals: BTreeMap<(String, String), String>,
    violations: Vec<String>,
}

impl Observer {
    /// Starts to watch a namespace.
    #[must_use]
    pub fn start(namespace: &Namespace) -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let config = watcher::Config::default().labels(&format!("{}={}", labels::COMPONENT, labels::WORKER));
        let pods = namespace.api::<Pod>();
        let notes = book.clone();
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(pods, config));
            while let Some(event) = events.next().await {
                let mut book = lock(&notes);
                match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => book.applied(&pod),
                    Ok(Event::Delete(pod)) => book.removed(&pod.name_any()),
                    Ok(Event::Init) => book.live.clear(),
                    Ok(Event::InitDone) => {}
                    Err(error) => tracing::warn!(%error, "the observer's watch failed and starts again"),
                }
            }
        });
        Self { book, _task: AbortOnDropHandle::new(task) }
    }

    /// The group may have up to `workers` workers, or as many as it was allowed before.
    pub fn allow(&self, group: &str, workers: i32) {
        let workers = usize::try_from(workers).unwrap_or(0);
        let mut book = lock(&self.book);
        let allowed = book.allowed.entry(group.to_owned()).or_default();
        *allowed = workers.max(*allowed);
    }

    /// Waits until the group has exactly `workers` live workers, and allows no more from then on.
    pub async fn settle(&self, group: &str, workers: i32) {
        let workers = usize::try_from(workers).unwrap_or(0);
        wait_for(&format!("{group} has {workers} workers"), async || {
            let mut book = lock(&self.book);
            let live = book.live.get(group).map_or(0, BTreeSet::len);
            check(live == workers, || format!("{live}"))?;
            book.allowed.insert(group.to_owned(), workers);
            Ok(())
        })
        .await;
    }

    /// Names of all workers that ever were.
    #[must_use]
    pub fn ever(&self) -> BTreeSet<String> {
        lock(&self.book).uids.keys().cloned().collect()
    }

    /// Fails if anything was seen that must not be.
    pub fn assert_no_violation(&self) {
        let violations = &lock(&self.book).violations;
        assert!(violations.is_empty(), "seen on the way:\n  {}", violations.join("\n  "));
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    fn applied(&mut self, pod: &Pod) {
        let name = pod.name_any();
        let uid = pod.uid().unwrap_or_default();
        let Some(group) = pod.labels().get(labels::WORKER_GROUP_NAME).cloned() else {
            self.violations.push(format!("worker {name} has no label {}", labels::WORKER_GROUP_NAME));
            return;
        };
        match self.uids.insert(name.clone(), uid.clone()) {
            None => self.first_sight(&group, &name, pod),
            Some(earlier) if earlier != uid => self.violations.push(format!("worker name {name} came twice")),
            Some(_) => {}
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let ended =
            pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Failed" | "Succeeded"));
        if ended {
            self.removed(&name);
            return;
        }
        let live = self.live.entry(group.clone()).or_default();
        let allowed = self.allowed.get(&group).copied().unwrap_or(0);
        if live.insert(name.clone()) && live.len() > allowed {
            self.violations.push(format!("{group} has {} workers, allowed {allowed}: {live:?}", live.len()));
        }
    }

    fn first_sight(&mut self, group: &str, name: &str, pod: &Pod) {
        if !has_documented_shape(group, name) {
            self.violations.push(format!("worker name {name} is not {group}-worker-<10 hex digits>"));
        }
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let told = containers.flat_map(|container| container.env.iter().flatten());
        let told: Vec<_> = told.filter(|variable| variable.name == "DASK_WORKER_NAME").collect();
        if told.is_empty() || told.iter().any(|variable| variable.value.as_deref() != Some(name)) {
            self.violations.push(format!("worker {name} is told another name: {told:?}"));
        }
        match pod.annotations().get(labels::ORDINAL) {
            None => self.violations.push(format!("worker {name} has no annotation {}", labels::ORDINAL)),
            Some(ordinal) => {
                let owner = pod.owner_references().first().map(|owner| owner.uid.clone());
                let key = (owner.unwrap_or_default(), ordinal.clone());
                if let Some(other) = self.ordinals.insert(key, name.to_owned()) {
                    self.violations.push(format!("{other} and {name} have the same ordinal {ordinal}"));
                }
            }
        }
    }

    fn removed(&mut self, name: &str) {
        for live in self.live.values_mut() {
            live.remove(name);
        }
    }
}

fn has_documented_shape(group: &str, name: &str) -> bool {
    let number = name.strip_prefix(group).and_then(|rest| rest.strip_prefix("-worker-"));
    number.is_some_and(|number| number.len() == 10 && number.chars().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn worker(name: &str, uid: &str, ordinal: i32) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "uid": uid,
                "labels": {"dask.org/workergroup-name": "g"},
                "annotations": {"kubernetes.dask.org/ordinal": ordinal.to_string()},
            },
            "spec": {"containers": [{"name": "w", "env": [{"name": "DASK_WORKER_NAME", "value": name}]}]},
        }))
        .unwrap()
    }

    fn violations(allowed: usize, pods: &[Pod]) -> Vec<String> {
        let mut book = Book { allowed: [("g".to_owned(), allowed)].into(), ..Book::default() };
        for pod in pods {
            book.applied(pod);
        }
        book.violations
    }

    #[test]
    fn each_promise_is_held() {
        let (one, two) = ("g-worker-0000000001", "g-worker-0000000002");
        assert_eq!(violations(2, &[worker(one, "a", 1), worker(two, "b", 2), worker(one, "a", 1)]), [""; 0]);
        for (broken, words) in [
            (violations(1, &[worker(one, "a", 1), worker(two, "b", 2)]), "has 2 workers, allowed 1"),
            (violations(2, &[worker(one, "a", 1), worker(one, "b", 2)]), "came twice"),
            (violations(2, &[worker(one, "a", 1), worker(two, "b", 1)]), "the same ordinal"),
            (violations(2, &[worker("g-worker-1", "a", 1)]), "is not g-worker-<10 hex digits>"),
        ] {
            assert!(broken.len() == 1 && broken[0].contains(words), "{words}: {broken:?}");
        }
    }

    #[test]
    fn ended_workers_make_room() {
        let mut gone = worker("g-worker-0000000001", "a", 1);
        gone.status = serde_json::from_value(json!({"phase": "Failed"})).unwrap();
        assert_eq!(violations(1, &[gone, worker("g-worker-0000000002", "b", 2)]), [""; 0]);
    }
}
