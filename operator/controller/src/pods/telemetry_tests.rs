use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> PodSpec {
    serde_json::from_value(spec).unwrap()
}

fn scheduler(spec: Value) -> Value {
    let mut pod = pod(spec);
    add_to_scheduler(&mut pod, "c");
    json!(pod)
}

fn worker(spec: Value) -> Value {
    let mut pod = pod(spec);
    add_to_worker(&mut pod, "c");
    json!(pod)
}

fn volumes() -> Value {
    json!([{"name": "dask-operator", "configMap": {"name": "c-dask-operator"}}])
}

fn mounts() -> Value {
    json!([{"name": "dask-operator", "mountPath": "/etc/dask-operator", "readOnly": true}])
}

#[test]
fn a_scheduler_gets_a_flag_after_the_users() {
    let mine = json!({"containers": [
        {"name": "scheduler", "args": ["dask-scheduler", "--preload", "mine.py"], "env": [{"name": "A", "value": "1"}]},
        {"name": "sidecar", "args": ["sleep", "9"]},
    ]});
    assert_eq!(
        scheduler(mine),
        json!({
            "containers": [
                {
                    "name": "scheduler",
                    "args": ["dask-scheduler", "--preload", "mine.py", "--preload", SCHEDULER_PATH],
                    "env": [{"name": "A", "value": "1"}],
                    "volumeMounts": mounts(),
                },
                {"name": "sidecar", "args": ["sleep", "9"]},
            ],
            "volumes": volumes(),
        })
    );
}

#[test]
fn a_worker_and_its_nanny_get_flags_and_time() {
    let mine = json!({
        "containers": [{"name": "w", "args": ["dask", "worker", "--name", "$(DASK_WORKER_NAME)"],
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "emptyDir": {}}],
    });
    let pod = worker(mine);
    assert_eq!(
        pod["containers"][0]["args"],
        json!([
            "dask",
            "worker",
            "--name",
            "$(DASK_WORKER_NAME)",
            "--preload",
            WORKER_PATH,
            "--preload-nanny",
            WORKER_PATH
        ])
    );
    assert_eq!(pod["containers"][0]["volumeMounts"][1], mounts()[0]);
    assert_eq!(pod["volumes"][1], volumes()[0]);
    assert_eq!(pod["terminationGracePeriodSeconds"], 35);
    assert_eq!(pod["containers"][0]["env"], Value::Null, "the default needs no variable");
}

#[test]
fn a_scheduler_that_a_script_starts_loads_it_by_a_variable() {
    let script = |script: &str, env: Value| {
        scheduler(json!({"containers": [{"name": "s", "command": ["sh", "-c", script], "env": env}]}))
    };
    let pod = script("exec dask scheduler", json!([{"name": "A", "value": "1"}]));
    assert_eq!(
        pod["containers"][0]["env"],
        json!([
            {"name": "A", "value": "1"},
            {"name": SCHEDULER_PRELOAD, "value": "[\"/etc/dask-operator/dask_operator_scheduler.py\"]"},
        ])
    );
    assert_eq!(pod["containers"][0]["volumeMounts"], mounts());
    assert_eq!(pod["containers"][0]["command"], json!(["sh", "-c", "exec dask scheduler"]));

    let own = json!([{"name": "dask_distributed__scheduler__preload", "value": "mine.py"}]);
    for pod in [script("dask scheduler --preload mine.py", json!([])), script("dask scheduler", own)] {
        assert_eq!((&pod["volumes"], &pod["containers"][0]["volumeMounts"]), (&Value::Null, &Value::Null));
    }
}

#[rstest]
#[case::script(json!({"containers": [{"name": "w", "command": ["sh", "-c", "dask worker"]}]}))]
#[case::no_command(json!({"containers": [{"name": "w"}]}))]
#[case::scheduler(json!({"containers": [{"name": "w", "args": ["dask", "scheduler"]}]}))]
#[case::volume_of_that_name(json!({
    "containers": [{"name": "w", "args": ["dask", "worker"]}], "volumes": [{"name": "dask-operator", "emptyDir": {}}],
}))]
#[case::mount_of_that_path(json!({
    "containers": [{"name": "w", "args": ["dask", "worker"],
                    "volumeMounts": [{"name": "x", "mountPath": "/etc/dask-operator/"}]}],
    "volumes": [{"name": "x", "emptyDir": {}}],
}))]
#[case::no_container(json!({"containers": []}))]
fn workers_that_are_left_as_they_are(#[case] spec: Value) {
    assert_eq!(worker(spec.clone()), json!(pod(spec)));
}

#[rstest]
#[case::default(None, None, 35, None)]
#[case::short_is_raised(Some(5), None, 35, None)]
#[case::long_is_kept_and_used(Some(600), None, 600, Some("585"))]
#[case::just_enough(Some(35), None, 35, None)]
#[case::own_budget(None, Some("100"), 115, Some("100"))]
#[case::own_budget_in_a_long_period(Some(600), Some("2.5"), 600, Some("2.5"))]
#[case::own_budget_that_is_none(None, Some("soon"), 35, Some("soon"))]
#[case::endless(Some(i64::MAX), None, i64::MAX, Some("9223372036854775792"))]
fn time_to_drain(
    #[case] grace: Option<i64>,
    #[case] budget: Option<&str>,
    #[case] period: i64,
    #[case] variable: Option<&str>,
) {
    let env: Vec<Value> =
        budget.iter().map(|seconds| json!({"name": DRAIN_SECONDS, "value": seconds})).collect();
    let pod = worker(json!({
        "containers": [{"name": "w", "args": ["dask", "worker"], "env": env}],
        "terminationGracePeriodSeconds": grace,
    }));
    assert_eq!(pod["terminationGracePeriodSeconds"], period);
    assert_eq!(pod["containers"][0]["env"][0]["value"].as_str(), variable);
}

#[test]
fn the_config_map_holds_both_modules_and_goes_with_its_cluster() {
    let cluster: DaskCluster = serde_json::from_value(json!({
        "apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster",
        "metadata": {"name": "c", "namespace": "ns", "uid": "cluster-uid", "labels": {"team": "a"}},
        "spec": {"scheduler": {"spec": {"containers": []}, "service": {}}, "worker": {"spec": {"containers": []}}},
    }))
    .unwrap();
    let map = config_map(&cluster);
    assert!(is_current(map.data.as_ref()));
    assert!(!is_current(None));
    let mut older = map.data.clone().unwrap();
    older.insert(WORKER_FILE.to_owned(), "# older".to_owned());
    assert!(!is_current(Some(&older)));
    assert_eq!(map.name_any(), "c-dask-operator");
    assert_eq!(map.labels().get("dask.org/cluster-name").map(String::as_str), Some("c"));
    assert!(!map.labels().contains_key("dask.org/component"), "clients count objects by it");
    assert_eq!(map.owner_references()[0].uid, "cluster-uid");
    let data = map.data.unwrap();
    assert!(data[SCHEDULER_FILE].contains("dask_operator_queue"));
    assert!(
        data[WORKER_FILE].contains("dask_operator_executing") && data[WORKER_FILE].contains(DRAIN_SECONDS)
    );
    assert_eq!(modules_digest().len(), 16);
}

/// The number that a Python constant has; several may be written in one line.
fn constant(module: &str, name: &str) -> f64 {
    let line = module
        .lines()
        .find(|line| {
            line.split('=').next().is_some_and(|names| names.split(',').any(|own| own.trim() == name))
        })
        .unwrap_or_else(|| panic!("no constant {name}"));
    let (names, values) = line.split_once('=').unwrap();
    let at = names.split(',').position(|own| own.trim() == name).unwrap();
    values.split(',').nth(at).unwrap().trim().replace('_', "").parse().unwrap()
}

fn protocol_sources() -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runtime/protocol/src");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// What is said twice, here and in Python, is said alike.
#[test]
#[expect(clippy::cast_precision_loss, reason = "whole numbers, written in both places")]
fn the_modules_and_the_operator_mean_the_same() {
    assert!(WORKER_MODULE.contains(&format!("DRAIN_SECONDS = \"{DRAIN_SECONDS}\"")));
    assert!(WORKER_MODULE.contains(&format!("os.environ.get(DRAIN_SECONDS, \"\") or {DEFAULT_DRAIN}))")));
    assert!(WORKER_MODULE.contains(&format!("by default {DEFAULT_DRAIN};")));
    let closed = constant(WORKER_MODULE, "CLOSED") + 1.0 + constant(WORKER_MODULE, "LAST_WORDS");
    assert!(closed <= MODULE_ENDS as f64, "closed after {closed} s");
    assert!(WORKER_MODULE.contains("Eight seconds after the time is over all is over."));
    assert_eq!(MODULE_ENDS, 8);
    const { assert!(CLOSING > MODULE_ENDS) }; // Dask and the kubelet need some, too.
    assert!(constant(WORKER_MODULE, "HAND_OVER") < constant(WORKER_MODULE, "CLOSED"));
    assert_eq!(
        (SCHEDULER_PATH, WORKER_PATH),
        (&*format!("{FOLDER}/{SCHEDULER_FILE}"), &*format!("{FOLDER}/{WORKER_FILE}"))
    );
    assert!(SCHEDULER_MODULE.contains(&format!("VARIABLE = \"{SCHEDULER_PRELOAD}\"")));
    let protocol = protocol_sources();
    for (module, operations) in [
        (SCHEDULER_MODULE, &["dask_operator_queue", "dask_operator_workers"][..]),
        (WORKER_MODULE, &["dask_operator_executing", "dask_operator_draining"][..]),
    ] {
        for operation in operations {
            assert!(module.contains(&format!("handlers[\"{operation}\"]")), "{operation}");
        }
        assert!(
            protocol.contains(&format!("\"{}\"", operations[0])),
            "the operator asks for {}",
            operations[0]
        );
        let version = constant(module, "VERSION");
        assert!(protocol.contains(&format!("const MODULE_VERSION: u64 = {version};")), "version {version}");
    }
}
