//! Whether workers were deleted that the scheduler still counted on.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::Deserialize;
use tokio_util::task::AbortOnDropHandle;

/// The scheduler took up a worker, or let it go: [seconds since 1970, IP address, whether it took it up].
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Change(pub f64, pub String, pub bool);

/// A worker's pod was told to go.
#[derive(Clone, Debug, PartialEq)]
pub struct Deletion {
    /// Name of the pod.
    pub pod: String,
    /// Its IP address; empty if it never had one.
    pub host: String,
    /// When this was seen, in seconds since 1970: not before it was so.
    pub at: f64,
}

/// The pods that were deleted while the scheduler had a worker on them. A drain ends with the scheduler letting the
/// worker go, so the operator deletes no such pod. `ours`: the pods that the walk itself deleted or killed.
#[must_use]
pub fn unconfirmed(deletions: &[Deletion], changes: &[Change], ours: &[String]) -> Vec<String> {
    let counted_on = |deletion: &&Deletion| {
        let before =
            changes.iter().filter(|Change(at, host, _)| *host == deletion.host && *at <= deletion.at);
        before.max_by(|one, other| one.0.total_cmp(&other.0)).is_some_and(|Change(_, _, joined)| *joined)
    };
    let deletions = deletions.iter().filter(|deletion| !ours.contains(&deletion.pod)).filter(counted_on);
    deletions.map(|deletion| deletion.pod.clone()).collect()
}

/// Watches the workers of a namespace; ends when this is dropped.
#[derive(Debug)]
pub struct Deletions {
    seen: Arc<Mutex<Vec<Deletion>>>,
    _watch: AbortOnDropHandle<()>,
}

impl Deletions {
    /// Begins to watch.
    #[must_use]
    pub fn watch(client: kube::Client, namespace: &str) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let watch = AbortOnDropHandle::new(tokio::spawn(follow(pods, Arc::clone(&seen))));
        Self { seen, _watch: watch }
    }

    /// What was seen since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Deletion> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn follow(pods: Api<Pod>, seen: Arc<Mutex<Vec<Deletion>>>) {
    let config = watcher::Config::default().labels("dask.org/component=worker");
    let events = watcher(pods, config).default_backoff();
    pin_mut!(events);
    let mut marked = HashSet::new();
    while let Some(event) = events.next().await {
        // After an error it begins anew by itself.
        let Ok(event) = event else { continue };
        let Some(pod) = going(event) else { continue };
        if marked.insert(pod.uid()) {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let host = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
            let deletion = Deletion { pod: pod.name_any(), host, at: since.as_secs_f64() };
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(deletion);
        }
    }
}

/// The pod of an event that shows that it is on its way out, or gone.
fn going(event: Event<Pod>) -> Option<Pod> {
    match event {
        Event::Delete(pod) => Some(pod),
        Event::Apply(pod) | Event::InitApply(pod) => pod.metadata.deletion_timestamp.is_some().then_some(pod),
        Event::Init | Event::InitDone => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deleted(at: f64) -> Vec<Deletion> {
        vec![Deletion { pod: "w".into(), host: "10.0.0.1".into(), at }]
    }

    fn changes() -> Vec<Change> {
        // As the audit writes them.
        serde_json::from_value(json!([
            [1.0, "10.0.0.1", true],
            [5.0, "10.0.0.1", false],
            [1.0, "10.0.0.2", true]
        ]))
        .unwrap()
    }

    #[rstest::rstest]
    #[case::before_the_scheduler_let_it_go(4.9, true)]
    #[case::after_that(5.1, false)]
    #[case::before_it_was_known(0.5, false)]
    fn a_pod_is_not_deleted_under_the_scheduler(#[case] at: f64, #[case] bad: bool) {
        assert_eq!(!unconfirmed(&deleted(at), &changes(), &[]).is_empty(), bad);
    }

    #[test]
    fn an_address_that_is_used_again_is_judged_by_its_last_user() {
        let mut changes = changes();
        changes.push(Change(7.0, "10.0.0.1".into(), true));
        assert_eq!(unconfirmed(&deleted(6.0), &changes, &[]), [""; 0]);
        assert_eq!(unconfirmed(&deleted(8.0), &changes, &[]), ["w"]);
    }

    #[test]
    fn what_the_walk_deletes_is_its_own_affair() {
        assert!(unconfirmed(&deleted(2.0), &changes(), &["w".into()]).is_empty());
    }

    #[test]
    fn a_pod_goes_when_it_is_marked_or_gone() {
        let pod = |going: bool| {
            let at = going.then_some("2026-11-28T10:00:00Z");
            serde_json::from_value::<Pod>(json!({"metadata": {"name": "w", "deletionTimestamp": at}}))
                .unwrap()
        };
        assert!(going(Event::Apply(pod(false))).is_none());
        assert!(going(Event::Apply(pod(true))).is_some());
        assert!(going(Event::Delete(pod(false))).is_some());
    }
}
