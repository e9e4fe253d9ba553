use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn life(spec: Value, status: Value) -> PodLife {
    let metadata = json!({"name": "w-1", "namespace": "ns"});
    let pod: Value = [("metadata", metadata), ("spec", spec), ("status", status)].into_iter().collect();
    PodLife::of(&serde_json::from_value(pod).unwrap())
}

/// A pod on a node with one container in this state.
fn container(phase: &str, state: Value) -> PodLife {
    let Value::Object(mut container) = state else { panic!("{state} is no object") };
    container.extend([("name".to_owned(), json!("worker")), ("image".to_owned(), json!("dask:1"))]);
    life(json!({"nodeName": "node"}), json!({"phase": phase, "containerStatuses": [container]}))
}

fn reason(life: &PodLife) -> Option<Reason> {
    life.problem.as_ref().map(|problem| problem.reason)
}

fn message(life: &PodLife) -> &str {
    life.problem.as_ref().map_or("", |problem| &problem.message)
}

const READY: &str = "2026-11-23T10:00:00Z";

fn ready() -> Value {
    json!([{"type": "Ready", "status": "True", "lastTransitionTime": READY}])
}

#[rstest]
#[case::created(json!({}), json!({}), PodState::Pending)]
#[case::pending(json!({}), json!({"phase": "Pending"}), PodState::Pending)]
#[case::bound(json!({"nodeName": "n"}), json!({"phase": "Pending"}), PodState::Starting)]
#[case::scheduled(json!({}), json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}),
    PodState::Starting)]
#[case::running(json!({}), json!({"phase": "Running"}), PodState::Starting)]
#[case::not_ready(json!({}), json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}),
    PodState::Starting)]
#[case::unknown(json!({"nodeName": "n"}), json!({"phase": "Unknown"}), PodState::Starting)]
#[case::ready(json!({}), json!({"phase": "Running", "conditions": ready()}), PodState::Ready)]
#[case::gated(json!({}), json!({"phase": "Pending", "conditions": [
    {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}), PodState::Pending)]
fn states_without_a_problem(#[case] spec: Value, #[case] status: Value, #[case] expected: PodState) {
    let life = life(spec, status);
    assert_eq!((life.state, &life.problem), (expected, &None));
    assert_eq!(life.ready_since.is_some(), expected == PodState::Ready);
}

#[test]
fn ready_since_is_when_the_condition_changed() {
    let life = life(json!({}), json!({"phase": "Running", "conditions": ready()}));
    assert_eq!(life.ready_since, Some(READY.parse().unwrap()));
}

#[test]
fn a_pod_that_is_being_deleted_is_neither_ready_nor_a_problem() {
    for phase in ["Running", "Failed", "Succeeded", "Pending"] {
        let pod = json!({
            "metadata": {"name": "w", "deletionTimestamp": READY},
            "status": {"phase": phase, "reason": "Evicted", "conditions": ready()},
        });
        let life = PodLife::of(&serde_json::from_value(pod).unwrap());
        assert_eq!(
            (life.state, life.problem, life.ready_since),
            (PodState::Terminating, None, None),
            "{phase}"
        );
    }
}

#[test]
fn the_schedulers_words_are_passed_on() {
    let life = life(
        json!({}),
        json!({"phase": "Pending", "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/2 nodes are available: 2 Insufficient memory.",
        }]}),
    );
    assert_eq!((life.state, reason(&life)), (PodState::Pending, Some(Reason::Unschedulable)));
    assert_eq!(
        message(&life),
        "pod \"w-1\" cannot be scheduled: 0/2 nodes are available: 2 Insufficient memory; add nodes that fit or \
         lower its requests and constraints"
    );
}

#[rstest]
#[case("ErrImagePull", Reason::ImagePullFailed)]
#[case("ImagePullBackOff", Reason::ImagePullFailed)]
#[case("InvalidImageName", Reason::ImagePullFailed)]
#[case("ErrImageNeverPull", Reason::ImagePullFailed)]
#[case("CreateContainerConfigError", Reason::ContainerCannotStart)]
#[case("CreateContainerError", Reason::ContainerCannotStart)]
#[case("RunContainerError", Reason::ContainerCannotStart)]
#[case("CrashLoopBackOff", Reason::CrashLoop)]
fn waiting_containers(#[case] word: &str, #[case] expected: Reason) {
    for list in ["containerStatuses", "initContainerStatuses"] {
        let waiting = json!([{"name": "worker", "image": "dask:1", "state": {"waiting": {"reason": word}}}]);
        let life = life(json!({"nodeName": "n"}), json!({"phase": "Pending", list: waiting}));
        assert_eq!((life.state, reason(&life)), (PodState::Starting, Some(expected)), "{list}");
        for named in ["\"w-1\"", "\"worker\"", "\"dask:1\""] {
            assert!(message(&life).contains(named), "{named} is missing in: {}", message(&life));
        }
    }
}

#[rstest]
#[case("ContainerCreating")]
#[case("PodInitializing")]
fn ordinary_waiting_is_no_problem(#[case] word: &str) {
    let life = container("Pending", json!({"state": {"waiting": {"reason": word}}}));
    assert_eq!((life.state, life.problem), (PodState::Starting, None));
}

#[test]
fn the_cause_of_a_failed_pull_is_the_same_while_the_kubelet_backs_off() {
    let pull = |reason: &str, message: &str| {
        container("Pending", json!({"state": {"waiting": {"reason": reason, "message": message}}})).problem
    };
    let cause = "failed to resolve reference \"docker.io/library/dask:1\": not found";
    let now = pull("ErrImagePull", cause);
    assert_eq!(
        now,
        pull("ImagePullBackOff", &format!("Back-off pulling image \"dask:1\": ErrImagePull: {cause}"))
    );
    assert_eq!(
        now.unwrap().message,
        format!(
            "image \"dask:1\" of container \"worker\" in pod \"w-1\" cannot be pulled: {cause}; correct the image, or \
             give the pod an imagePullSecret that may read it"
        )
    );
    let older = pull("ImagePullBackOff", "Back-off pulling image \"dask:1\"").unwrap();
    assert!(older.message.contains("cannot be pulled; correct"), "{}", older.message);
}

#[test]
fn a_missing_config_map_is_named() {
    let life = container(
        "Pending",
        json!({"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "configmap \"c\" not found"}}}),
    );
    assert_eq!(
        message(&life),
        "container \"worker\" (image \"dask:1\") of pod \"w-1\" cannot start (CreateContainerConfigError): configmap \
         \"c\" not found; create what is missing or correct the pod spec"
    );
}

#[test]
fn a_crash_loop_tells_the_exit_code_and_where_to_read_on() {
    let life = container(
        "Running",
        json!({
            "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
        }),
    );
    assert_eq!((reason(&life), life.restarts), (Some(Reason::CrashLoop), 3));
    assert_eq!(
        message(&life),
        "container \"worker\" (image \"dask:1\") of pod \"w-1\" keeps crashing with exit code 1; `kubectl logs -n ns w-1 \
         -c worker --previous` tells why"
    );
}

const NOT_FOUND: &str = "exec: \"dask-worker\": executable file not found in $PATH: unknown";
/// The same by crun.
const CRUN: &str =
    "container create failed: executable file `dask-worker` not found in $PATH: No such file or directory";

#[rstest]
#[case::by_the_shell(json!({"exitCode": 127, "reason": "Error"}))]
#[case::by_the_runtime(json!({"exitCode": 128, "reason": "StartError", "message": NOT_FOUND}))]
#[case::by_crun(json!({"exitCode": 128, "reason": "StartError", "message": CRUN}))]
#[case::by_its_path(json!({"exitCode": 128, "reason": "StartError",
    "message": "exec: \"/opt/dask-worker\": stat /opt/dask-worker: no such file or directory"}))]
fn a_command_that_distributed_dropped_is_explained(#[case] end: Value) {
    let looping = json!({"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": end}});
    let failed = json!({"state": {"terminated": end}});
    for (life, expected) in
        [(container("Running", looping), Reason::CrashLoop), (container("Failed", failed), Reason::PodFailed)]
    {
        assert_eq!(reason(&life), Some(expected));
        assert!(message(&life).contains("`dask scheduler` or `dask worker`"), "{}", message(&life));
    }
}

#[rstest]
fn a_command_missing_at_the_first_start_is_explained(
    #[values("RunContainerError", "CreateContainerError")] word: &str,
    #[values(NOT_FOUND, CRUN)] words: &str,
) {
    let life = container("Pending", json!({"state": {"waiting": {"reason": word, "message": words}}}));
    assert_eq!(reason(&life), Some(Reason::ContainerCannotStart));
    assert!(message(&life).contains("distributed 2026.6 dropped"), "{}", message(&life));
}

#[rstest]
#[case::volume(
    "failed to create containerd task: error mounting \"/var/lib/kubelet/exec\" to rootfs at \"/data\": no such \
    file or directory"
)]
#[case::directory("container create failed: cannot stat `/var/lib/kubelet/exec`: No such file or directory")]
#[case::config_map("MountVolume.SetUp failed for volume \"executable file\": configmap \"c\" is missing")]
#[case::program(
    "  exec(code)\nFileNotFoundError: [Errno 2] No such file or directory: '/data/x'\nkey not found"
)]
fn another_thing_that_is_missing_is_no_command(#[case] words: &str) {
    let waits = json!({"state": {"waiting": {"reason": "RunContainerError", "message": words}}});
    assert!(!message(&container("Pending", waits)).contains("lacks the command"));
    assert_eq!(missing_command(Some(words), Some(1)), None);
}

#[rstest]
#[case::invalid(json!({"state": {"waiting": {"reason": "InvalidImageName"}}}))]
#[case::cannot_start(json!({"state": {"waiting": {"reason": "RunContainerError"}}}))]
#[case::crash_loop(json!({"restartCount": 3, "state": {"terminated": {"exitCode": 1}}, "lastState": {"terminated": {"exitCode": 1}}}))]
fn long_names_take_little_room(#[case] mut state: Value) {
    let long = "x".repeat(600_000);
    state
        .as_object_mut()
        .unwrap()
        .extend([("name".to_owned(), json!(long)), ("image".to_owned(), json!(long))]);
    let running = json!({"phase": "Running", "containerStatuses": [state]});
    let life = life(json!({"nodeName": "node"}), running);
    let PodLife { problem, last_termination, .. } = &life;
    let kept: usize =
        [problem, last_termination].into_iter().flatten().map(|problem| problem.message.len()).sum();
    assert!((1..2_000).contains(&kept), "{kept}");
}

#[test]
fn a_program_that_cannot_be_started_is_in_a_crash_loop_between_two_tries() {
    let end = json!({"exitCode": 128, "reason": "StartError", "message": NOT_FOUND,
        "startedAt": "1970-01-01T00:00:00Z", "finishedAt": "2026-11-23T10:00:00Z"});
    let state = json!({"restartCount": 2, "state": {"terminated": end}, "lastState": {"terminated": end}});
    assert_eq!(reason(&container("Running", state)), Some(Reason::CrashLoop));
}

#[rstest]
#[case::loop_(json!({"restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}))]
#[case::just_now(json!({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}))]
#[case::running_again(json!({"restartCount": 1, "state": {"running": {"startedAt": READY}},
    "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}))]
fn out_of_memory_until_ready(#[case] state: Value) {
    let life = container("Running", state);
    assert_eq!((life.state, reason(&life)), (PodState::Starting, Some(Reason::OutOfMemory)));
    assert!(message(&life).contains("resources.limits.memory"), "{}", message(&life));
}

#[rstest]
#[case::ended_again(json!({"restartCount": 1, "state": {"terminated": {"exitCode": 1}},
    "lastState": {"terminated": {"exitCode": 1}}}), true)]
#[case::runs_for_the_third_time(json!({"restartCount": 2, "state": {"running": {}},
    "lastState": {"terminated": {"exitCode": 1}}}), true)]
#[case::ended_once(json!({"restartCount": 0, "state": {"terminated": {"exitCode": 1}}}), false)]
#[case::runs_again(json!({"restartCount": 1, "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}}),
    false)]
#[case::ran_long_before(json!({"restartCount": 9, "state": {"running": {}}, "lastState": {"terminated": {
    "exitCode": 1, "startedAt": "2026-11-23T10:00:00Z", "finishedAt": "2026-11-23T10:10:00Z"}}}), false)]
#[case::completed_at_last(json!({"restartCount": 3, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
    "lastState": {"terminated": {"exitCode": 1}}}), false)]
fn a_crash_loop_between_two_crashes(#[case] state: Value, #[case] expected: bool) {
    assert_eq!(reason(&container("Running", state)), expected.then_some(Reason::CrashLoop));
}

#[test]
fn while_ready_a_past_end_is_a_note_and_no_problem() {
    let of = |end: Value| {
        let container = json!({"name": "worker", "image": "dask:1", "restartCount": 1, "state": {"running": {}},
            "lastState": {"terminated": end}});
        let status = json!({"phase": "Running", "conditions": ready(), "containerStatuses": [container]});
        let life = life(json!({"nodeName": "n"}), status);
        assert_eq!((life.state, life.problem, life.restarts), (PodState::Ready, None, 1));
        life.last_termination.unwrap()
    };
    let killed = of(json!({"exitCode": 137, "reason": "OOMKilled"}));
    assert_eq!(killed.reason, Reason::OutOfMemory);
    let crashed = of(json!({"exitCode": 2, "message": "bad\n  option"}));
    assert_eq!(crashed.reason, Reason::PodFailed);
    assert_eq!(
        crashed.message,
        "container \"worker\" (image \"dask:1\") of pod \"w-1\" ended with exit code 2 and was restarted: bad option"
    );
    assert_eq!(of(json!({"exitCode": 0})).reason, Reason::WorkerExited);
}

#[test]
fn of_several_past_ends_lack_of_memory_is_noted() {
    let ended =
        |name: &str, end: Value| json!({"name": name, "restartCount": 1, "lastState": {"terminated": end}});
    let statuses = [
        ended("sidecar", json!({"exitCode": 1})),
        ended("worker", json!({"exitCode": 137, "reason": "OOMKilled"})),
    ];
    let life =
        life(json!({}), json!({"phase": "Running", "conditions": ready(), "containerStatuses": statuses}));
    assert_eq!(life.last_termination.map(|note| note.reason), Some(Reason::OutOfMemory));
    assert_eq!(life.restarts, 2);
}

#[rstest]
#[case::evicted(json!({"reason": "Evicted", "message": "The node was low on resource: memory."}))]
#[case::preempted(json!({"reason": "Preempting", "message": "Preempted in order to admit critical pod"}))]
#[case::node_lost(json!({"reason": "NodeLost"}))]
#[case::shutdown(json!({"reason": "Terminated", "message": "Pod was terminated in response to imminent node shutdown."}))]
#[case::disrupted(json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]}))]
#[case::killed_by_it(json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}],
    "containerStatuses": [{"name": "worker", "state": {"terminated": {"exitCode": 137, "reason": "Error"}}}]}))]
fn pods_that_were_taken_away(#[case] mut status: Value) {
    status["phase"] = json!("Failed");
    let life = life(json!({"nodeName": "n"}), status);
    assert_eq!((life.state, reason(&life)), (PodState::Failed, Some(Reason::PodLost)));
    assert!(message(&life).contains("pod \"w-1\" was taken from its node ("), "{}", message(&life));
}

#[rstest]
#[case::own_disk_limit(json!({"reason": "Evicted", "message": "Usage of EmptyDir volume \"s\" exceeds the limit \"1Gi\"."}),
    "pod \"w-1\" failed (Evicted): Usage of EmptyDir volume \"s\" exceeds the limit \"1Gi\"")]
#[case::refused_by_the_node(json!({"reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu"}),
    "pod \"w-1\" failed (OutOfcpu): Node didn't have enough resource: cpu")]
#[case::without_a_word(json!({}), "pod \"w-1\" failed")]
#[case::over_again(json!({"conditions": [{"type": "DisruptionTarget", "status": "False"}]}), "pod \"w-1\" failed")]
#[case::exit_code(json!({"containerStatuses": [
        {"name": "done", "state": {"terminated": {"exitCode": 0}}},
        {"name": "worker", "image": "dask:1", "state": {"terminated": {"exitCode": 3, "message": "no\nluck."}}}]}),
    "container \"worker\" (image \"dask:1\") of pod \"w-1\" ended with exit code 3: no luck; `kubectl logs -n ns w-1 -c worker` \
     tells why")]
fn pods_that_failed(#[case] mut status: Value, #[case] expected: &str) {
    status["phase"] = json!("Failed");
    let life = life(json!({"nodeName": "n"}), status);
    assert_eq!((life.state, reason(&life)), (PodState::Failed, Some(Reason::PodFailed)));
    assert_eq!(message(&life), expected);
}

#[test]
fn a_failed_pod_that_ran_out_of_memory() {
    let life =
        container("Failed", json!({"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}));
    assert_eq!((life.state, reason(&life)), (PodState::Failed, Some(Reason::OutOfMemory)));
}

#[test]
fn a_worker_that_ended_by_itself() {
    let life = container("Succeeded", json!({"state": {"terminated": {"exitCode": 0}}}));
    assert_eq!((life.state, reason(&life)), (PodState::Failed, Some(Reason::WorkerExited)));
    assert_eq!(
        message(&life),
        "pod \"w-1\" ended by itself with exit code 0; `kubectl logs -n ns w-1 -c worker` tells why"
    );
}

#[test]
fn long_words_are_cut_at_a_character() {
    let words = format!("{}ü", "x".repeat(397));
    let quoted = quoted(Some(&words));
    assert!(quoted.len() <= 400 + '…'.len_utf8());
    assert!(quoted.ends_with('…'));
}

/// A worker of a Dask container with these words and a helper, under a restart policy.
#[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
fn helped(policy: Value, words: Value, dask: Value) -> PodLife {
    let pod = json!({
        "metadata": {"name": "w-1", "namespace": "ns", "labels": {"dask.org/component": "worker"}},
        "spec": {"nodeName": "n", "restartPolicy": policy, "containers": [
            {"name": "helper", "image": "helper:1", "args": ["serve"]},
            {"name": "dask", "image": "dask:1", "args": words},
        ]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "helper", "image": "helper:1", "state": {"running": {}}},
            {"name": "dask", "image": "dask:1", "state": dask},
        ]},
    });
    PodLife::of(&serde_json::from_value(pod).unwrap())
}

fn ended_with(code: i32) -> Value {
    json!({"terminated": {"exitCode": code, "reason": "Error"}})
}

#[rstest]
#[case::never("Never", 1, Some(Reason::PodFailed))]
#[case::never_and_well("Never", 0, Some(Reason::WorkerExited))]
#[case::on_failure("OnFailure", 0, Some(Reason::WorkerExited))]
#[case::on_failure_again("OnFailure", 1, None)]
#[case::always("Always", 1, None)]
fn a_worker_that_ended_for_good_beside_a_helper_has_ended(
    #[case] policy: &str,
    #[case] code: i32,
    #[case] failed: Option<Reason>,
) {
    let life = helped(json!(policy), json!(["dask", "worker"]), ended_with(code));
    assert_eq!(life.state == PodState::Failed, failed.is_some());
    if failed.is_some() {
        assert_eq!(reason(&life), failed);
        let words = message(&life);
        assert!(words.contains(&format!("exit code {code}")) && words.contains("\"dask\""), "{words}");
    }
}

#[test]
fn a_helper_that_ended_is_not_the_worker() {
    let pod = json!({
        "metadata": {"name": "w-1", "namespace": "ns", "labels": {"dask.org/component": "worker"}},
        "spec": {"nodeName": "n", "restartPolicy": "Never", "containers": [
            {"name": "helper"}, {"name": "dask", "command": ["dask-worker"]},
        ]},
        "status": {"phase": "Running", "conditions": ready(), "containerStatuses": [
            {"name": "helper", "state": ended_with(1)}, {"name": "dask", "state": {"running": {}}},
        ]},
    });
    assert_eq!(PodLife::of(&serde_json::from_value(pod).unwrap()).state, PodState::Ready);
}

/// A pod of two containers with these words that are never restarted; the first has ended.
fn first_ended(first: &str, second: &str) -> PodLife {
    let words = |words: &str| words.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let pod = json!({
        "metadata": {"name": "w-1", "namespace": "ns", "labels": {"dask.org/component": "worker"}},
        "spec": {"nodeName": "n", "restartPolicy": "Never", "containers": [
            {"name": "one", "args": words(first)}, {"name": "two", "args": words(second)},
        ]},
        "status": {"phase": "Running", "containerStatuses": [
            {"name": "one", "state": {"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:00:00Z"}}},
            {"name": "two", "state": {"running": {}}},
        ]},
    });
    PodLife::of(&serde_json::from_value(pod).unwrap())
}

#[rstest]
#[case::a_copier("copy-data", "dask-cuda-worker tcp://s:8786", false)]
#[case::a_copier_and_a_script("copy-data", "/opt/start.sh", false)]
#[case::two_workers("dask worker", "dask-worker", true)]
#[case::two_kinds("dask worker", "bash -c dask-worker", true)]
#[case::a_script("bash -c dask-worker", "serve", true)]
#[case::the_images_entry_point("worker tcp://s:8786", "serve", true)]
#[case::a_script_of_no_known_name("/opt/start.sh", "serve", false)]
fn a_pod_in_which_a_worker_may_run_on_has_not_ended(
    #[case] first: &str,
    #[case] second: &str,
    #[case] asked: bool,
) {
    let life = first_ended(first, second);
    assert_eq!(life.state, PodState::Starting);
    assert_eq!(life.worker_ended.is_some(), asked, "the scheduler is to say whether it was the worker");
    let words = message(&life);
    assert!(words.contains("\"one\"") && words.contains("exit code 0"), "{words}");
}

#[test]
fn a_worker_whose_helper_runs_on_has_certainly_ended() {
    let life = first_ended("dask worker", "serve");
    assert_eq!((life.state, life.worker_ended), (PodState::Failed, None));
}

/// A scheduler or worker with this state of its Dask container.
#[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
fn lacking(component: &str, args: Value, status: Value) -> Option<Image> {
    let mut container = json!({"name": "dask", "image": "resolved@sha256:0"});
    container.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    let pod = json!({
        "metadata": {"name": "w-1", "namespace": "ns", "labels": {"dask.org/component": component}},
        "spec": {"nodeName": "n", "containers": [{"name": "dask", "image": "dask:1", "args": args}]},
        "status": {"phase": "Running", "containerStatuses": [container]},
    });
    PodLife::of(&serde_json::from_value(pod).unwrap()).startup.command_missing
}

#[rstest]
#[case::start_error(json!({"state": {"terminated": {"exitCode": 128, "reason": "StartError", "message": NOT_FOUND}}}))]
#[case::again(json!({"restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 128, "reason": "StartError", "message": NOT_FOUND}}}))]
#[case::waits(json!({"state": {"waiting": {"reason": "RunContainerError", "message": NOT_FOUND}}}))]
#[case::behind_init(json!({"state": {"terminated": {"exitCode": 127, "reason": "Error"}}}))]
#[case::behind_init_again(json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 127, "reason": "Error"}}}))]
fn an_image_that_lacks_the_command(#[case] status: Value) {
    let image = Some(Image::new("dask:1"));
    for words in
        [json!(["dask-worker", "--name", "x"]), json!(["tini", "-g", "--", "prepare.sh", "dask-worker"])]
    {
        assert_eq!(lacking("worker", words, status.clone()), image);
    }
    let others =
        [json!(["dask", "worker"]), json!(["sh", "-c", "dask-worker"]), json!(["dask-scheduler"]), json!([])];
    for words in others {
        assert_eq!(lacking("worker", words.clone(), status.clone()), None, "{words}");
    }
    assert_eq!(lacking("scheduler", json!(["dask-scheduler"]), status.clone()), image);
    assert_eq!(lacking("job-runner", json!(["dask-worker"]), status), None, "runners are their author's");
}

#[rstest]
#[case::error(json!({"state": {"terminated": {"exitCode": 1, "reason": "Error"}}}))]
#[case::runs_again(json!({"restartCount": 1, "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 127}}}))]
#[case::image(json!({"state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}))]
#[case::nothing(json!({}))]
fn other_ends_say_nothing_of_the_command(#[case] status: Value) {
    assert_eq!(lacking("worker", json!(["dask-worker"]), status), None);
}

/// Since when a pod in phase Pending waits, with these statuses of its containers.
#[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
fn waits(status: Value) -> Option<String> {
    let mut whole = json!({"phase": "Pending", "startTime": "2026-11-23T09:59:00Z", "conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": READY}]});
    whole.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    life(json!({"nodeName": "n"}), whole).startup.waiting_since.map(|time| time.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "callers write literals")]
fn in_state(state: Value) -> Value {
    json!([{"name": "worker", "state": state}])
}

#[rstest]
#[case::no_container(json!({}), true)]
#[case::creating(json!({"containerStatuses": in_state(json!({"waiting": {"reason": "ContainerCreating"}}))}), true)]
#[case::init_is_done(json!({
    "initContainerStatuses": in_state(json!({"terminated": {"exitCode": 0, "finishedAt": READY}})),
    "containerStatuses": in_state(json!({"waiting": {"reason": "PodInitializing"}}))}), true)]
#[case::init_runs(json!({
    "initContainerStatuses": in_state(json!({"running": {}})),
    "containerStatuses": in_state(json!({"waiting": {"reason": "PodInitializing"}}))}), false)]
#[case::cannot_pull(json!({"containerStatuses": in_state(json!({"waiting": {"reason": "ErrImagePull"}}))}), false)]
#[case::runs(json!({"phase": "Running", "containerStatuses": in_state(json!({"running": {}}))}), false)]
#[case::no_node(json!({"conditions": [{"type": "PodScheduled", "status": "True"}]}), true)]
fn only_pods_whose_status_says_nothing_are_asked_for(#[case] status: Value, #[case] expected: bool) {
    assert_eq!(waits(status.clone()).is_some(), expected, "{status}");
}

#[test]
fn a_pod_waits_since_it_was_given_to_its_node() {
    assert_eq!(waits(json!({})).as_deref(), Some(READY));
    assert_eq!(waits(json!({"conditions": []})).as_deref(), Some("2026-11-23T09:59:00Z"));
}

#[test]
fn a_pod_says_which_form_it_has() {
    let image = Image::new("dask:1");
    let pod = json!({
        "metadata": {"annotations": {labels::MODULE_COMMAND: image.to_annotation()}},
        "spec": {"volumes": [{"name": "data", "emptyDir": {}}, {"name": "dask-operator", "configMap": {"name": "c"}}]},
    });
    let startup = PodLife::of(&serde_json::from_value(pod).unwrap()).startup;
    assert_eq!(startup, Startup { modules: true, module_command: Some(image), ..Startup::default() });
    assert_eq!(PodLife::of(&WirePod::default()).startup, Startup::default());
}

/// Since when a pod runs without being ready, with this status of its container.
fn unready(container: &Value, ready: &Value) -> Option<String> {
    let mut status = json!({"name": "worker", "state": {"running": {"startedAt": "2026-11-23T09:00:00Z"}}});
    status.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let whole = json!({"phase": "Running", "containerStatuses": [status], "conditions": [ready]});
    life(json!({"nodeName": "n"}), whole).startup.unready_since.map(|time| time.to_string())
}

#[test]
fn a_container_is_unready_since_it_runs_or_since_it_was_ready() {
    let not_ready = |since: &str| json!({"type": "Ready", "status": "False", "lastTransitionTime": since});
    let since = |ready: &str| unready(&json!({"ready": false, "started": false}), &not_ready(ready));
    assert_eq!(since("2026-11-23T08:59:00Z").as_deref(), Some("2026-11-23T09:00:00Z"), "never ready");
    assert_eq!(since(READY).as_deref(), Some(READY), "it was ready");
    let early = not_ready("2026-11-23T08:59:00Z");
    for other in [
        json!({"ready": true}),
        json!({"state": {"waiting": {"reason": "ContainerCreating"}}}),
        json!({"state": {"terminated": {"exitCode": 1}}}),
    ] {
        assert_eq!(unready(&other, &early), None, "{other}");
    }
    let ended = json!({"terminated": {"exitCode": 1, "startedAt": READY, "finishedAt": READY}});
    let crashes = json!({"restartCount": 3, "lastState": ended});
    assert_eq!(unready(&crashes, &early), None, "that is a crash loop");
    let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": READY});
    assert_eq!(unready(&json!({"ready": false}), &ready), None);
}
