use std::future::pending;

use dask_operator_api::DaskCluster;
use kube::api::ObjectMeta;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::context::tests::context;
use crate::writer::Target;

#[test]
fn only_the_object_itself_is_gone() {
    let (group, key) = ("DaskWorkerGroup", ObjectKey::new("ns", "simple-default"));
    let not_found = |kind: &'static str, key: &ObjectKey| {
        let target = Target { verb: "patch", kind: kind.into(), key: key.clone() };
        ReconcileError::Write(WriteError::NotFound { target, message: "not found".to_owned() })
    };
    assert!(not_found(group, &key).means_gone(group, &key));
    assert!(!not_found("Pod", &key).means_gone(group, &key), "a pod of the same name");
    assert!(!not_found(group, &key.sibling("other")).means_gone(group, &key));
    let conflict =
        WriteError::Conflict { target: Target { verb: "patch", kind: group.into(), key: key.clone() } };
    assert!(!ReconcileError::Write(conflict).means_gone(group, &key));
}

const LIMIT: Duration = Duration::from_secs(10);

fn key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(namespace, name)
}

/// A controller of these clusters, and the keys of those that it reconciles.
fn start<Fut>(
    clusters: &[ObjectKey],
    result: impl Fn(ObjectKey) -> Fut + Send + Sync + 'static,
) -> (Triggers, UnboundedReceiver<ObjectKey>, AbortOnDropHandle<()>)
where
    Fut: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
{
    let (ctx, _) = context();
    ctx.cache.watch_clusters();
    for key in clusters {
        let metadata = ObjectMeta {
            namespace: Some(key.namespace.to_string()),
            name: Some(key.name.to_string()),
            uid: Some(key.to_string()),
            resource_version: Some("1".to_owned()),
            ..ObjectMeta::default()
        };
        ctx.cache.created_cluster(&DaskCluster { metadata, ..DaskCluster::default() });
    }
    let (triggers, (reconciled, heard)) = (Triggers::default(), mpsc::unbounded_channel());
    let store = ctx.cache.cluster_store();
    let reconcile = move |cluster: Arc<DaskCluster>, _| {
        let key = ObjectKey::of(&*cluster);
        reconciled.send(key.clone()).unwrap();
        result(key)
    };
    let controller =
        run(store, triggers.clone(), Arc::new(ctx), CancellationToken::new(), |_, _| {}, reconcile);
    (triggers, heard, AbortOnDropHandle::new(tokio::spawn(controller)))
}

async fn next(heard: &mut UnboundedReceiver<ObjectKey>) -> ObjectKey {
    timeout(LIMIT, heard.recv()).await.expect("something is reconciled").unwrap()
}

#[tokio::test]
async fn reconciliations_that_hang_in_one_namespace_do_not_hold_up_another() {
    let noisy: Vec<ObjectKey> = (0..200).map(|number| key("noisy", &number.to_string())).collect();
    let quiet = key("quiet", "c");
    let clusters = [&noisy[..], std::slice::from_ref(&quiet)].concat();
    let (triggers, mut heard, _controller) = start(&clusters, |key| async move {
        if &*key.namespace == "noisy" {
            return pending().await;
        }
        Ok(Action::await_change())
    });
    triggers.add(noisy);
    for _ in 0..56 {
        assert_eq!(&*next(&mut heard).await.namespace, "noisy");
    }
    for _ in 0..3 {
        triggers.add([quiet.clone()]);
        assert_eq!(next(&mut heard).await, quiet, "of 64 places 8 are left");
    }
}

#[tokio::test]
async fn an_object_that_asked_to_be_looked_at_again_gets_in_line() {
    let cluster = key("ns", "c");
    let (triggers, mut heard, _controller) =
        start(std::slice::from_ref(&cluster), |_| async { Ok(Action::requeue(Duration::from_millis(1))) });
    triggers.add([cluster.clone()]);
    let started = Instant::now();
    for _ in 0..3 {
        assert_eq!(next(&mut heard).await, cluster);
    }
    assert!(started.elapsed() >= Duration::from_millis(200), "and is spaced like all others");
}

#[tokio::test]
async fn objects_that_are_gone_take_no_place() {
    let cluster = key("ns", "c");
    let (triggers, mut heard, _controller) =
        start(std::slice::from_ref(&cluster), |_| async { Ok(Action::await_change()) });
    triggers.add((0..200).map(|number| key("ns", &number.to_string())));
    triggers.add([cluster.clone()]);
    assert_eq!(next(&mut heard).await, cluster);
}
