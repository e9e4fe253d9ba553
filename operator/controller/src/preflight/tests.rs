//! Inspections against a model of the few calls that they make, in paused time.

use std::sync::{Arc, Mutex};

use http::{Request, Response, StatusCode};
use kube::client::Body;
use kube::core::Status;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;
use crate::preflight::requirements::KINDS;

/// What the API server has.
#[derive(Clone)]
struct World(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    resources: Vec<String>,
    namespaces: Vec<&'static str>,
    denied: Vec<(&'static str, &'static str)>,
    reads_definitions: bool,
    lists_namespaces: bool,
    silent: bool,
    paths: Vec<String>,
}

impl World {
    fn complete() -> Self {
        let subresources = |kind: &requirements::Kind| {
            kind.subresources.iter().map(|sub| format!("{}/{sub}", kind.plural)).collect::<Vec<_>>()
        };
        let resources = KINDS
            .iter()
            .flat_map(|kind| [vec![kind.plural.to_owned()], subresources(kind)].concat())
            .collect();
        let state = State {
            resources,
            namespaces: vec!["default", "team-a"],
            reads_definitions: true,
            lists_namespaces: true,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn client(&self) -> Client {
        let world = self.clone();
        Client::new(service_fn(move |request| world.clone().answer(request)), "ns")
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Body>, std::convert::Infallible> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect_bytes().await.unwrap();
        if self.change(|state| state.silent) {
            return std::future::pending().await;
        }
        Ok(self.change(|state| {
            state.paths.push(path.clone());
            state.respond(&path, serde_json::from_slice(&body).unwrap_or_default())
        }))
    }

    fn inspections(&self, arguments: &[&str]) -> (Inspections, Findings) {
        Inspections::new(self.client(), &Settings::from_arguments(arguments).unwrap())
    }
}

impl State {
    fn respond(&self, path: &str, mut body: Value) -> Response<Body> {
        if path == "/apis/kubernetes.dask.org/v1" {
            if self.resources.is_empty() {
                return Response::builder()
                    .status(404)
                    .body(Body::from(b"404 page not found\n".to_vec()))
                    .unwrap();
            }
            let resource = |name: &String| json!({"name": name, "singularName": "", "namespaced": true, "kind": "K", "verbs": []});
            let resources: Vec<Value> = self.resources.iter().map(resource).collect();
            return response(200, &json!({"groupVersion": "kubernetes.dask.org/v1", "resources": resources}));
        }
        if path.starts_with("/apis/apiextensions.k8s.io/") {
            if !self.reads_definitions {
                return failure(403);
            }
            let open = json!({"openAPIV3Schema": {"x-kubernetes-preserve-unknown-fields": true}});
            return response(200, &json!({"spec": {"versions": [{"name": "v1", "schema": open}]}}));
        }
        if path.ends_with("/selfsubjectaccessreviews") {
            let asked = &body["spec"]["resourceAttributes"];
            let denied = self
                .denied
                .iter()
                .any(|(verb, resource)| asked["verb"] == *verb && asked["resource"] == *resource);
            body["status"] = json!({"allowed": !denied});
            return response(201, &body);
        }
        let named = |name: &str| json!({"metadata": {"name": name}});
        if path == "/api/v1/namespaces" {
            let items: Vec<Value> = self.namespaces.iter().map(|name| named(name)).collect();
            return if self.lists_namespaces {
                response(200, &json!({"metadata": {}, "items": items}))
            } else {
                failure(403)
            };
        }
        match path.strip_prefix("/api/v1/namespaces/") {
            Some(name) if self.namespaces.contains(&name) => response(200, &named(name)),
            _ => failure(404),
        }
    }
}

fn response(code: u16, body: &Value) -> Response<Body> {
    let code = StatusCode::from_u16(code).unwrap();
    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
}

fn failure(code: u16) -> Response<Body> {
    let reason = if code == 403 { "Forbidden" } else { "NotFound" };
    response(code, &serde_json::to_value(Status::failure("no", reason).with_code(code)).unwrap())
}

/// The first findings of a run.
async fn first(world: &World, arguments: &[&str]) -> Inspection {
    let (inspections, mut findings) = world.inspections(arguments);
    let run = tokio::spawn(inspections.run(|| false));
    findings.latest.changed().await.unwrap();
    run.abort();
    findings.latest.borrow().clone()
}

fn what(inspection: &Inspection) -> Vec<&str> {
    inspection.preflight.missing.iter().map(|missing| missing.what.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn all_is_there() {
    let world = World::complete();
    let found = first(&world, &[]).await;
    assert_eq!(found, Inspection::default());
    let found = first(&world, &["-n", "team-a"]).await;
    assert_eq!(found.namespaces, Some(BTreeSet::from(["team-a".to_owned()])));
    assert!(found.preflight.is_fine());
}

#[tokio::test(start_paused = true)]
async fn it_starts_by_itself_when_definitions_appear() {
    let world = World::complete();
    let resources = world.change(|state| std::mem::take(&mut state.resources));
    let (inspections, mut findings) = world.inspections(&[]);
    let _run = tokio::spawn(inspections.run(|| false));
    findings.latest.changed().await.unwrap();
    assert_eq!(findings.preflight().missing.len(), 4);
    world.change(|state| state.resources = resources);
    let namespaces = tokio::time::timeout(MISSING_INTERVAL * 2, findings.complete()).await;
    assert_eq!(namespaces, Ok(None), "within one interval");
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_read_definitions_discovery_must_do() {
    let world = World::complete();
    world.change(|state| state.reads_definitions = false);
    assert!(first(&world, &[]).await.preflight.is_fine());
    world.change(|state| state.resources.retain(|name| name != "daskclusters/status"));
    let found = first(&world, &[]).await;
    assert!(what(&found)[0].contains("daskclusters.kubernetes.dask.org is older"), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn denied_rights_are_missing_and_denied_events_are_advice() {
    let world = World::complete();
    world.change(|state| state.denied = vec![("delete", "pods"), ("create", "events")]);
    let found = first(&world, &["-n", "team-a"]).await;
    assert_eq!(what(&found), ["no right to delete pods in namespace team-a"]);
    assert!(found.preflight.advice[0].what.contains("events"), "{found:?}");
    let found = first(&world, &["--events-enabled=false"]).await;
    assert_eq!(what(&found), ["no right to delete pods in all namespaces"]);
    assert_eq!(found.preflight.advice, []);
}

#[tokio::test(start_paused = true)]
async fn namespaces_by_name_and_by_pattern() {
    let world = World::complete();
    let found = first(&world, &["-n", "team-z"]).await;
    assert_eq!(what(&found), ["namespace team-z, given by --namespace, does not exist"]);
    let found = first(&world, &["-n", "team-*"]).await;
    assert_eq!(found.namespaces, Some(BTreeSet::from(["team-a".to_owned()])));
    let found = first(&world, &["-n", "nobody-*"]).await;
    assert_eq!(what(&found), ["no namespace matches the patterns of --namespace"]);
    world.change(|state| state.lists_namespaces = false);
    let found = first(&world, &["-n", "team-*"]).await;
    assert!(what(&found)[0].contains("no right to list namespaces"), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_created_later_is_named() {
    let world = World::complete();
    let (inspections, mut findings) = world.inspections(&["-n", "team-*"]);
    let _run = tokio::spawn(inspections.run(|| false));
    assert_eq!(findings.complete().await, Some(BTreeSet::from(["team-a".to_owned()])));
    world.change(|state| state.namespaces.push("team-b"));
    sleep(ROUTINE_INTERVAL * 2).await;
    let advice = findings.preflight().advice;
    assert!(advice[0].what.ends_with("not watched: team-b"), "{advice:?}");
    assert_eq!(findings.complete().await, Some(BTreeSet::from(["team-a".to_owned()])), "what is watched");
}

#[tokio::test(start_paused = true)]
async fn at_rest_only_a_few_small_reads() {
    let world = World::complete();
    let (inspections, mut findings) = world.inspections(&[]);
    let _run = tokio::spawn(inspections.run(|| false));
    findings.complete().await;
    world.change(|state| state.paths.clear());
    sleep(ROUTINE_INTERVAL * 2).await;
    let paths = world.change(|state| std::mem::take(&mut state.paths));
    assert!(
        !paths.is_empty() && paths.iter().all(|path| path == "/apis/kubernetes.dask.org/v1"),
        "{paths:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_watch_makes_it_look_closely() {
    let world = World::complete();
    let (inspections, mut findings) = world.inspections(&[]);
    let _run = tokio::spawn(inspections.run(|| true));
    findings.complete().await;
    world.change(|state| state.denied = vec![("watch", "pods")]);
    sleep(MISSING_INTERVAL * 2).await;
    assert_eq!(findings.preflight().missing[0].what, "no right to watch pods in all namespaces");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_named_at_the_start_only() {
    let world = World::complete();
    world.change(|state| state.silent = true);
    let found = first(&world, &[]).await;
    assert!(what(&found)[0].contains("the API server does not answer"), "{found:?}");

    world.change(|state| state.silent = false);
    let (inspections, mut findings) = world.inspections(&[]);
    let _run = tokio::spawn(inspections.run(|| false));
    findings.complete().await;
    world.change(|state| state.silent = true);
    sleep(ROUTINE_INTERVAL * 3).await;
    assert!(findings.preflight().is_fine());
}
