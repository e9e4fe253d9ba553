use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use futures::{FutureExt, StreamExt};
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::cluster_cache::records::PodState;
use crate::telemetry::Metrics;

/// An answer of the API server.
#[derive(Clone, Debug)]
enum Answer {
    /// This status and body.
    Body(u16, Vec<u8>),
    /// None at all.
    Never,
}

/// Watch events, one a line; then the watch ends.
fn events(events: &[Value]) -> Answer {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    Answer::Body(200, lines.join("\n").into_bytes())
}

/// A page of a list.
fn page(items: &[Value], version: u64, more: Option<&str>) -> Answer {
    let metadata = json!({"resourceVersion": version.to_string(), "continue": more.unwrap_or_default()});
    Answer::Body(
        200,
        json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}).to_string().into(),
    )
}

fn list(items: &[Value], version: u64) -> Answer {
    page(items, version, None)
}

fn status(code: u16, reason: &str) -> Answer {
    Answer::Body(
        code,
        json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason}).to_string().into(),
    )
}

fn event(kind: &str, object: &Value) -> Value {
    json!({"type": kind, "object": object})
}

fn bookmark(version: u64) -> Value {
    event(
        "BOOKMARK",
        &json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": version.to_string()}}),
    )
}

fn expired() -> Value {
    event(
        "ERROR",
        &json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}),
    )
}

/// An API server with prepared answers to lists and watches of each kind. Without one, a list is empty at
/// version 1, and a watch stays silent.
#[derive(Clone, Default)]
struct Api {
    lists: Arc<Mutex<BTreeMap<&'static str, VecDeque<Answer>>>>,
    watches: Arc<Mutex<BTreeMap<&'static str, VecDeque<Answer>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Api {
    fn lists(self, plural: &'static str, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.lists.lock().unwrap().entry(plural).or_default().extend(answers);
        self
    }

    fn watches(self, plural: &'static str, answers: impl IntoIterator<Item = Answer>) -> Self {
        self.watches.lock().unwrap().entry(plural).or_default().extend(answers);
        self
    }

    fn answer(&self, uri: &str) -> Answer {
        self.asked.lock().unwrap().push(uri.to_owned());
        let (path, query) = uri.split_once('?').unwrap();
        let plural = path.rsplit('/').next().unwrap();
        let (answers, otherwise) = if query.contains("watch=true") {
            (&self.watches, Answer::Never)
        } else {
            (&self.lists, list(&[], 1))
        };
        answers.lock().unwrap().get_mut(plural).and_then(VecDeque::pop_front).unwrap_or(otherwise)
    }

    fn client(&self) -> Client {
        let api = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let answer = api.answer(&request.uri().to_string());
            async move {
                match answer {
                    Answer::Body(code, body) => {
                        Ok(Response::builder().status(code).body(Body::from(body)).unwrap())
                    }
                    Answer::Never => std::future::pending::<Result<_, std::io::Error>>().await,
                }
            }
        });
        Client::new(service, "default")
    }

    /// The queries for this plural.
    fn asked(&self, plural: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|uri| uri.contains(&format!("/{plural}?"))).cloned().collect()
    }

    fn start(&self, scope: &Scope) -> Running {
        let cache = ClusterCache::new(Metrics::new().unwrap());
        let shutdown = CancellationToken::new();
        let tasks = watch(&self.client(), scope, &cache, &shutdown);
        Running { cache, shutdown, tasks }
    }
}

struct Running {
    cache: ClusterCache,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Running {
    /// Waits until a group has these workers, looking again whenever it is triggered.
    async fn until_workers(&self, expected: &[&str]) {
        let mut triggers = std::pin::pin!(self.cache.group_triggers().stream());
        let seen = || self.workers();
        let wait = async { while seen() != expected && triggers.next().await.is_some() {} };
        let in_time = timeout(Duration::from_mins(5), wait).await.is_ok();
        let health = self.cache.watch_health();
        assert!(in_time, "expected workers {expected:?} but see {:?}; watches: {health:?}", seen());
    }

    fn workers(&self) -> Vec<String> {
        let snapshot = self.cache.group_snapshot(&ObjectKey::new("ns", "g"));
        let workers = snapshot.into_iter().flat_map(|snapshot| snapshot.members.workers);
        workers.map(|pod| pod.name.to_string()).collect()
    }

    fn health(&self, kind: &str) -> crate::cluster_cache::WatchHealth {
        self.cache.watch_health().into_iter().find(|watch| watch.kind == kind).unwrap()
    }
}

fn metadata(name: &str, version: u64) -> Value {
    json!({"name": name, "namespace": "ns", "uid": format!("{name}-uid"), "resourceVersion": version.to_string()})
}

fn cluster(name: &str, version: u64) -> Value {
    json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "metadata": metadata(name, version),
        "spec": {"scheduler": {"spec": {"containers": []}, "service": {}}, "worker": {"spec": {"containers": []}}},
    })
}

fn group(version: u64) -> Value {
    json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskWorkerGroup", "metadata": metadata("g", version),
        "spec": {"cluster": "c", "worker": {"spec": {"containers": []}}},
    })
}

fn pod(name: &str, version: u64) -> Value {
    let mut metadata = metadata(name, version);
    metadata["labels"] = json!({"dask.org/cluster-name": "c", "dask.org/component": "worker"});
    metadata["ownerReferences"] = json!([{"uid": "g-uid", "controller": true}]);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
}

fn with_group() -> Api {
    Api::default()
        .lists("daskclusters", [list(&[cluster("c", 2)], 5)])
        .lists("daskworkergroups", [list(&[group(3)], 5)])
}

#[tokio::test]
async fn lists_of_several_pages_and_then_events() {
    let api = with_group()
        .lists("pods", [page(&[pod("a", 1)], 10, Some("next")), page(&[pod("b", 2)], 10, None)])
        .watches(
            "pods",
            [events(&[
                event("ADDED", &pod("c", 11)),
                event("MODIFIED", &pod("b", 12)),
                event("DELETED", &pod("a", 13)),
                bookmark(20),
            ])],
        );
    let running = api.start(&Scope::All);
    running.cache.wait_ready().await;
    running.until_workers(&["b", "c"]).await;

    let asked = api.asked("pods");
    assert_eq!(asked[0], "/api/v1/pods?&labelSelector=dask.org%2Fcluster-name&limit=250");
    assert!(asked[1].contains("limit=250") && asked[1].contains("continue=next"), "{asked:?}");
    assert!(asked[2].contains("watch=true") && asked[2].contains("resourceVersion=10"), "{asked:?}");
    assert!(asked[2].contains("allowWatchBookmarks=true"), "{asked:?}");
    let scheduler_only = "labelSelector=dask.org%2Fcomponent%3Dscheduler";
    let either = "labelSelector=dask.org%2Fcomponent+in+%28scheduler%2Cworker%29";
    assert!(api.asked("services")[0].contains(scheduler_only), "{:?}", api.asked("services"));
    assert!(api.asked("deployments")[0].contains(either), "{:?}", api.asked("deployments"));
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let api = with_group()
        .lists("pods", [list(&[], 10)])
        .watches("pods", [events(&[bookmark(15)]), events(&[event("ADDED", &pod("a", 17))])]);
    let running = api.start(&Scope::All);
    running.until_workers(&["a"]).await;
    let asked = api.asked("pods");
    assert!(asked[1].contains("resourceVersion=10") && asked[2].contains("resourceVersion=15"), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn an_expired_version_leads_to_a_new_list() {
    for gone in [events(&[expired()]), status(410, "Gone")] {
        let api = with_group()
            .lists("pods", [list(&[pod("a", 1), pod("b", 2)], 10), list(&[pod("b", 2), pod("c", 30)], 40)])
            .watches("pods", [gone]);
        let running = api.start(&Scope::All);
        running.until_workers(&["b", "c"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_list_is_tried_again_and_holds_up_nobody_else() {
    let api =
        with_group().lists("pods", [status(403, "Forbidden"), status(500, ""), list(&[pod("a", 1)], 10)]);
    let running = api.start(&Scope::All);
    let failing = async {
        while running.health("Pod").seconds_failing.is_none() {
            tokio::task::yield_now().await;
        }
    };
    failing.await;
    assert!(!running.cache.is_ready());
    assert!(running.health("Pod").last_error.unwrap().starts_with("failed to list: "));
    while !running.health("DaskCluster").ready {
        tokio::task::yield_now().await;
    }
    running.cache.wait_ready().await;
    assert_eq!(running.health("Pod").last_error, None);
    assert_eq!(running.workers(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ends_at_once_is_not_started_in_a_loop() {
    let api = with_group().watches("pods", std::iter::repeat_n(events(&[]), 1000));
    let running = api.start(&Scope::All);
    running.cache.wait_ready().await;
    sleep(Duration::from_mins(1)).await;
    let asked = api.asked("pods").len();
    assert!((3..30).contains(&asked), "asked {asked} times in a minute");
}

#[tokio::test]
async fn an_object_that_does_not_fit_the_schema_stops_nobody() {
    let mut bad = cluster("bad", 1);
    bad["spec"]["worker"]["spec"]["containers"] = json!("none");
    let api = Api::default()
        .lists("daskclusters", [list(&[bad.clone(), cluster("good", 2)], 5)])
        .watches("daskclusters", [events(&[event("MODIFIED", &bad), event("ADDED", &cluster("late", 7))])]);
    let running = api.start(&Scope::All);
    let mut triggers = std::pin::pin!(running.cache.cluster_triggers().stream());
    let mut seen: Vec<String> = Vec::new();
    while !seen.contains(&"late".to_owned()) {
        seen.push(triggers.next().await.unwrap().name.to_string());
    }
    assert!(seen.contains(&"good".to_owned()) && !seen.contains(&"bad".to_owned()), "{seen:?}");
    assert!(running.cache.cluster_snapshot(&ObjectKey::new("ns", "bad")).is_none());
    let [unreadable] = &running.cache.unreadable()[..] else { panic!("{:?}", running.cache.unreadable()) };
    let reference = &unreadable.object;
    assert_eq!((reference.kind.as_deref(), reference.name.as_deref()), (Some("DaskCluster"), Some("bad")));
    assert_eq!((reference.namespace.as_deref(), reference.uid.as_deref()), (Some("ns"), Some("bad-uid")));
    assert!(unreadable.error.contains("expected a sequence"), "{}", unreadable.error);
}

#[tokio::test]
async fn what_can_be_read_again_or_is_gone_is_unreadable_no_more() {
    let bad = |name: &str, version| {
        let mut bad = cluster(name, version);
        bad["spec"]["worker"]["spec"]["volumes"] =
            json!([{"name": "v", "projected": {"sources": vec![json!({}); 20_000]}}]);
        bad
    };
    let api = Api::default()
        .lists("daskclusters", [list(&[bad("mended", 1), bad("gone", 2), bad("kept", 3)], 5)])
        .watches(
            "daskclusters",
            [events(&[event("MODIFIED", &cluster("mended", 6)), event("DELETED", &bad("gone", 7))])],
        );
    let running = api.start(&Scope::All);
    let mut triggers = std::pin::pin!(running.cache.cluster_triggers().stream());
    assert_eq!(&*triggers.next().await.unwrap().name, "mended");
    while running.cache.unreadable().len() != 1 {
        tokio::task::yield_now().await;
    }
    let unreadable = running.cache.unreadable().remove(0);
    assert_eq!(unreadable.object.name.as_deref(), Some("kept"));
    assert!(unreadable.error.contains("values, more than 10000; make it smaller"), "{}", unreadable.error);
}

#[tokio::test]
async fn large_pages_are_asked_for_in_smaller_ones() {
    let large = |name: &str| {
        let mut pod = pod(name, 1);
        pod["metadata"]["annotations"] = json!({"large": "x".repeat(3 << 20)});
        pod
    };
    let api = with_group().lists(
        "pods",
        [list(&[large("a"), large("b")], 10), page(&[large("a")], 10, Some("next")), list(&[large("b")], 10)],
    );
    let running = api.start(&Scope::All);
    running.until_workers(&["a", "b"]).await;
    let asked = api.asked("pods");
    assert!(asked[0].contains("limit=250") && asked[1].contains("limit=125"), "{asked:?}");
    assert!(asked[2].contains("limit=125") && asked[2].contains("continue=next"), "{asked:?}");
}

#[tokio::test]
async fn nothing_is_triggered_before_everything_was_listed() {
    let api = with_group().lists("deployments", [Answer::Never]);
    let running = api.start(&Scope::All);
    while running.cache.watch_health().iter().filter(|watch| watch.ready).count() < 4 {
        tokio::task::yield_now().await;
    }
    let first = std::pin::pin!(running.cache.group_triggers().stream()).next().now_or_never();
    assert_eq!(first, None);
    assert!(!running.cache.is_ready());
}

#[tokio::test]
async fn a_trigger_comes_after_the_store_has_the_object() {
    let running = with_group().start(&Scope::All);
    let store = running.cache.cluster_store();
    let trigger = std::pin::pin!(running.cache.cluster_triggers().stream()).next().await.unwrap();
    assert_eq!(store.get(&trigger.object_ref()).unwrap().name_any(), "c");
}

#[tokio::test]
async fn only_the_given_namespaces_are_watched() {
    let api = Api::default();
    let scope = Scope::Namespaces(["b", "a", "b"].map(str::to_owned).into());
    let running = api.start(&scope);
    running.cache.wait_ready().await;
    let mut lists: Vec<_> = api.asked("pods").into_iter().filter(|uri| !uri.contains("watch=")).collect();
    lists.sort();
    let paths: Vec<_> = lists.iter().map(|uri| uri.split('?').next().unwrap()).collect();
    assert_eq!(paths, ["/api/v1/namespaces/a/pods", "/api/v1/namespaces/b/pods"]);
    assert_eq!(running.cache.watch_health().len(), 14, "two namespaces, seven kinds");
}

#[tokio::test]
async fn shutdown_ends_every_watch() {
    let mut running = Api::default().start(&Scope::All);
    running.cache.wait_ready().await;
    running.shutdown.cancel();
    let mut ended = 0;
    while let Some(result) = running.tasks.join_next().await {
        result.unwrap();
        ended += 1;
    }
    assert_eq!(ended, 7);
}

#[tokio::test]
async fn replies_to_own_writes_are_seen_at_once_and_wake() {
    let running = with_group().start(&Scope::All);
    let cache = &running.cache;
    let mut groups = std::pin::pin!(cache.group_triggers().stream());
    assert_eq!(&*groups.next().await.unwrap().name, "g");

    cache.created_pod(&serde_json::from_value(pod("own", 50)).unwrap());
    assert_eq!(running.workers(), ["own"]);
    assert_eq!(&*groups.next().await.unwrap().name, "g");

    cache.deleted_pod("ns", "own", "another uid");
    cache.deleted_pod("ns", "own", "own-uid");
    let workers = cache.group_snapshot(&ObjectKey::new("ns", "g")).unwrap().members.workers;
    assert_eq!(workers[0].state, PodState::Terminating);
    assert_eq!(cache.counts(std::time::Instant::now()).pods, [(false, PodState::Terminating, 1)]);

    cache.created_service(&serde_json::from_value(json!({"metadata": metadata("c-scheduler", 51)})).unwrap());
    cache.created_deployment(
        &serde_json::from_value(json!({"metadata": metadata("c-scheduler", 52)})).unwrap(),
    );
    let mut default_group = group(53);
    default_group["metadata"] = metadata("c-default", 53);
    cache.created_group(&serde_json::from_value(default_group).unwrap());
    let snapshot = cache.cluster_snapshot(&ObjectKey::new("ns", "c")).unwrap();
    assert!(snapshot.service.is_some() && snapshot.deployment.is_some() && snapshot.default_group.is_some());
    let now = std::time::Instant::now();
    let counts = cache.counts(now);
    assert_eq!((counts.groups, counts.clusters), (1, vec![(None, 1)]), "as counted before");
    let counts = cache.counts(now + Duration::from_secs(1));
    assert_eq!((counts.groups, counts.clusters), (2, vec![(None, 1)]));
}
