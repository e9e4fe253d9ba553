use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn scheduler(container: Value) -> Container {
    behind(container, &json!({}))
}

#[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
fn behind(container: Value, service: &Value) -> Container {
    let mut pod: PodSpec = serde_json::from_value(json!({"containers": [container]})).unwrap();
    add_to_scheduler(&mut pod, &serde_json::from_value(service.clone()).unwrap());
    pod.containers.remove(0)
}

#[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
fn worker(container: Value) -> Container {
    let mut pod: PodSpec = serde_json::from_value(json!({"containers": [container]})).unwrap();
    add_to_worker(&mut pod);
    pod.containers.remove(0)
}

fn tcp_port(probe: Option<&Probe>) -> Option<IntOrString> {
    probe.and_then(|probe| probe.tcp_socket.as_ref()).map(|tcp| tcp.port.clone())
}

/// A scheduler started by these words, with its usual port declared.
fn started_by(words: &[&str]) -> Value {
    json!({"name": "scheduler", "args": words, "ports": [{"name": "tcp-comm", "containerPort": 8786}]})
}

#[rstest]
#[case::plain(&["dask", "scheduler"])]
#[case::kubecluster(&["dask-scheduler", "--host", "0.0.0.0"])]
#[case::module(&["python", "-m", "distributed.cli.dask_scheduler", "--port=8786"])]
#[case::prefix(&["dask", "scheduler", "--dashboard-prefix", "/team-a/dask"])]
#[case::other_dashboard(&["dask", "scheduler", "--dashboard-address", ":9999"])]
#[case::tls(&["dask", "scheduler", "--tls-ca-file", "ca.pem", "--tls-cert", "c.pem", "--tls-key", "k.pem"])]
fn a_plain_scheduler_has_a_day_to_open_its_port_and_no_other_probe(#[case] words: &[&str]) {
    let container = scheduler(started_by(words));
    let startup = container.startup_probe.unwrap();
    assert_eq!(tcp_port(Some(&startup)), Some(IntOrString::Int(8786)));
    assert_eq!((startup.period_seconds, startup.failure_threshold), (Some(1), Some(86_400)));
    assert_eq!(container.liveness_probe, None, "a restart loses all results");
    assert_eq!(container.readiness_probe, None, "the scheduler would log every look");
}

#[rstest]
#[case::another_port(&["dask", "scheduler", "--port", "9000"])]
#[case::any_port(&["dask", "scheduler", "--port", "0"])]
#[case::several_ports(&["dask", "scheduler", "--port", "8786,8787"])]
#[case::port_by_variable(&["dask", "scheduler", "--port", "$(PORT)"])]
#[case::interface(&["dask", "scheduler", "--interface", "ib0"])]
#[case::protocol(&["dask", "scheduler", "--protocol=ucx"])]
#[case::address(&["dask", "scheduler", "--host", "127.0.0.1"])]
#[case::uri(&["dask", "scheduler", "--host", "tcp://0.0.0.0:9000"])]
#[case::script(&["sh", "-c", "sleep 4000; exec dask scheduler"])]
#[case::unknown(&["start-scheduler"])]
fn no_probe_where_the_port_is_uncertain(#[case] words: &[&str]) {
    assert_eq!(scheduler(started_by(words)), serde_json::from_value(started_by(words)).unwrap());
}

#[rstest]
#[case::scheme(json!({"env": [{"name": "DASK_DISTRIBUTED__COMM__DEFAULT_SCHEME", "value": "ucx"}]}))]
#[case::folder(json!({"env": [{"name": "DASK_CONFIG", "value": "/site"}]}))]
#[case::variables(json!({"envFrom": [{"configMapRef": {"name": "site"}}]}))]
#[case::file(json!({"volumeMounts": [{"name": "site", "mountPath": "/etc/dask"}]}))]
fn no_probe_where_a_configuration_may_move_the_port(#[case] more: Value) {
    let mut container = started_by(&["dask", "scheduler"]);
    container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!(scheduler(container).startup_probe, None);
}

#[test]
fn the_port_must_be_the_declared_one() {
    let service = |port: Value| json!({"ports": [{"name": "tcp-comm", "port": 80, "targetPort": port}]});
    let plain = json!({"name": "scheduler", "args": ["dask", "scheduler"]});
    let asked =
        |container: Value, service: &Value| tcp_port(behind(container, service).startup_probe.as_ref());
    let usual = Some(IntOrString::Int(8786));
    assert_eq!(asked(plain.clone(), &service(json!(8786))), usual);
    assert_eq!(asked(plain.clone(), &service(json!("tcp-comm"))), None, "a name that no port has");
    let numbered =
        json!({"name": "scheduler", "args": ["dask", "scheduler"], "ports": [{"containerPort": 8786}]});
    assert_eq!(asked(numbered, &json!({})), usual);
    assert_eq!(asked(plain.clone(), &service(json!(9000))), None);
    let ports = json!([{"name": "tcp-comm", "containerPort": 9000}]);
    let words = json!(["dask", "scheduler", "--port", "9000"]);
    let moved = json!({"name": "scheduler", "args": words, "ports": ports});
    assert_eq!(asked(moved, &json!({})), Some(IntOrString::Int(9000)));
}

/// What `KubeCluster` of dask-kubernetes 2026.3.0 writes: it kills a scheduler that does not answer within 75 s.
#[test]
fn a_start_that_takes_long_is_spared_the_authors_liveness_probe() {
    let mut container = started_by(&[]);
    container["command"] =
        json!(["sh", "-c", "echo installing; sleep 100; exec dask-scheduler --host 0.0.0.0"]);
    container["livenessProbe"] = json!({
        "httpGet": {"path": "/health", "port": "http-dashboard"}, "initialDelaySeconds": 15, "periodSeconds": 20,
    });
    container["readinessProbe"] = json!({
        "httpGet": {"path": "/health", "port": "http-dashboard"}, "periodSeconds": 1, "timeoutSeconds": 300,
    });
    let with_probes = scheduler(container.clone());
    let expected = json!({
        "httpGet": {"path": "/health", "port": "http-dashboard"}, "periodSeconds": 1, "failureThreshold": 86_400,
    });
    assert_eq!(json!(with_probes.startup_probe), expected);
    let rest = Container { startup_probe: None, ..with_probes };
    assert_eq!(rest, serde_json::from_value(container).unwrap(), "the author's stay");
}

#[rstest]
#[case::begins_after_a_day(json!({"initialDelaySeconds": 86_400}))]
#[case::begins_after_an_hour(json!({"initialDelaySeconds": 3_600}))]
#[case::may_fail_for_an_hour(json!({"failureThreshold": 360}))]
#[case::asks_every_half_hour(json!({"periodSeconds": 1_800}))]
#[case::for_ever(json!({"failureThreshold": i32::MAX, "periodSeconds": i32::MAX}))]
fn a_liveness_probe_that_is_patient_itself_is_not_asked_as_startup_probe(#[case] patience: Value) {
    let mut liveness = json!({"httpGet": {"path": "/wrong", "port": 8787}});
    liveness.as_object_mut().unwrap().extend(patience.as_object().unwrap().clone());
    let with = |words: &[&str]| {
        let mut container = started_by(words);
        container["livenessProbe"] = liveness.clone();
        scheduler(container).startup_probe
    };
    assert_eq!(with(&["sh", "-c", "sleep 4000; exec dask scheduler"]), None);
    let certain = with(&["dask", "scheduler"]);
    assert_eq!(tcp_port(certain.as_ref()), Some(IntOrString::Int(8786)));
}

#[rstest]
#[case(json!({"initialDelaySeconds": 3_599}))]
#[case(json!({"failureThreshold": 359}))]
fn one_that_would_end_a_start_within_the_hour_is_asked(#[case] patience: Value) {
    let mut container = started_by(&["dask", "scheduler"]);
    container["livenessProbe"] = json!({"httpGet": {"path": "/health", "port": 8787}});
    container["livenessProbe"].as_object_mut().unwrap().extend(patience.as_object().unwrap().clone());
    assert!(scheduler(container).startup_probe.is_some_and(|probe| probe.http_get.is_some()));
}

#[test]
fn a_command_is_asked_less_often() {
    let mut container = started_by(&["dask", "scheduler"]);
    container["livenessProbe"] = json!({"exec": {"command": ["check"]}, "timeoutSeconds": 7});
    let startup = scheduler(container).startup_probe;
    let expected = json!({
        "exec": {"command": ["check"]}, "timeoutSeconds": 7, "periodSeconds": 10, "failureThreshold": 8_640,
    });
    assert_eq!(json!(startup), expected);
}

#[test]
fn an_own_startup_probe_stays() {
    let mut container = started_by(&["dask", "scheduler"]);
    container["startupProbe"] = json!({"tcpSocket": {"port": 1}, "failureThreshold": 3});
    assert_eq!(scheduler(container.clone()), serde_json::from_value(container).unwrap());
}

#[test]
fn the_container_that_runs_dask_gets_the_probe() {
    let containers = json!([{"name": "proxy"}, started_by(&["dask", "scheduler"])]);
    let mut pod: PodSpec = serde_json::from_value(json!({"containers": containers})).unwrap();
    add_to_scheduler(&mut pod, &ServiceSpec::default());
    let has_probe: Vec<_> = pod.containers.iter().map(|c| c.startup_probe.is_some()).collect();
    assert_eq!(has_probe, [false, true]);
}

#[rstest]
#[case::port(&["dask-worker", "--dashboard-address", "8788"], true)]
#[case::colon(&["dask", "worker", "--dashboard-address=:8788"], true)]
#[case::everywhere(&["dask", "worker", "--dashboard-address", "0.0.0.0:8788"], true)]
#[case::another_port(&["dask", "worker", "--dashboard-address", ":9999"], false)]
#[case::one_address(&["dask", "worker", "--dashboard-address", "127.0.0.1:8788"], false)]
#[case::by_variable(&["dask", "worker", "--dashboard-address", "$(PORT)"], false)]
#[case::several(&["dask", "worker", "--dashboard-address", ":8788", "--nworkers", "2"], false)]
#[case::none(&["dask", "worker", "--dashboard-address", ":8788", "--no-dashboard"], false)]
#[case::any(&["dask", "worker"], false)]
#[case::script(&["sh", "-c", "sleep 9; dask worker", "--dashboard-address", ":8788"], false)]
fn workers_get_readiness_only_where_the_dashboard_port_is_certain(
    #[case] words: &[&str],
    #[case] asked: bool,
) {
    let ports = json!([{"name": "http-dashboard", "containerPort": 8788}]);
    let container = worker(json!({"name": "worker", "args": words, "ports": ports}));
    let port = tcp_port(container.readiness_probe.as_ref());
    assert_eq!(port, asked.then_some(IntOrString::Int(8788)));
    assert!(container.liveness_probe.is_none() && container.startup_probe.is_none());
    assert_eq!(worker(json!({"name": "worker", "args": words})).readiness_probe, None, "no port is declared");
}
