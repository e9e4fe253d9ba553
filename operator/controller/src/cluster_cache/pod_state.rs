//! Where a pod is in its life and what is wrong with it, from its own status. Pure.

use dask_operator_api::{Reason, labels};
use jiff::{SignedDuration, Timestamp};

use super::records::{PodProblem, PodState, Startup};
use super::wire_pod::{ContainerStatus, PodCondition, PodStatus, Terminated, WireContainer, WirePod};
use crate::pods::form::Image;
use crate::pods::invocation::{Form, Role};
use crate::pods::telemetry;
use crate::words::{quoted, shortened};

/// Exit code of a shell that did not find the command.
const COMMAND_NOT_FOUND: i32 = 127;
/// A container that ran for so long is no crash loop; the kubelet starts its back-off afresh after the same time.
const LONG_RUN: SignedDuration = SignedDuration::from_mins(10);
/// Waiting reasons of images that cannot be pulled, as in `pkg/kubelet/images/types.go`.
const IMAGE_REASONS: [&str; 6] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
];
/// Waiting reasons of containers that cannot be made, as in `pkg/kubelet/kuberuntime` and
/// `pkg/kubelet/container/sync_result.go`.
const START_REASONS: [&str; 6] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
];
/// `status.reason` of failed pods that were taken away rather than failed.
const LOST_REASONS: [&str; 8] = [
    "Evicted",
    "NodeLost",
    "NodeShutdown",
    "NodeUnreachable",
    "Preempted",
    "Preempting",
    "Shutdown",
    "Terminated",
];

/// What the status of a pod says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodLife {
    pub(super) state: PodState,
    pub(super) problem: Option<PodProblem>,
    pub(super) last_termination: Option<PodProblem>,
    pub(super) ready_since: Option<Timestamp>,
    pub(super) restarts: i32,
    pub(super) startup: Startup,
    pub(super) worker_ended: Option<Timestamp>,
}

impl PodLife {
    pub(super) fn of(pod: &WirePod) -> Self {
        let status = &pod.status;
        let role = match pod.metadata.component.as_deref() {
            Some(labels::SCHEDULER) => Some(Role::Scheduler),
            Some(labels::WORKER) => Some(Role::Worker),
            _ => None,
        };
        let main = role.and_then(|role| pod.spec.main_container(role));
        let dask_end = role.and_then(|role| DaskEnd::of(pod, role));
        let phase = status.phase.as_deref().unwrap_or_default();
        let ready = status.condition("Ready").filter(|ready| phase == "Running" && ready.status == "True");
        let on_node = pod.spec.node_name.is_some() || phase == "Running" || status.is("PodScheduled");
        let (state, problem) = match phase {
            _ if pod.metadata.terminating => (PodState::Terminating, None),
            "Failed" => (PodState::Failed, Some(failure(pod))),
            "Succeeded" => (PodState::Failed, Some(exited(pod))),
            _ if let Some(end) = dask_end.as_ref().filter(|end| end.is_certain) => {
                (PodState::Failed, Some(end.problem(pod)))
            }
            _ if ready.is_some() => (PodState::Ready, None),
            _ if on_node => {
                let end = || dask_end.as_ref().map(|end| end.problem(pod)).or_else(|| helper_ended(pod));
                (PodState::Starting, obstacle(pod).or_else(end))
            }
            _ => (PodState::Pending, unschedulable(pod)),
        };
        Self {
            state,
            last_termination: last_termination(pod),
            ready_since: ready.filter(|_| state == PodState::Ready).and_then(PodCondition::since),
            worker_ended: dask_end
                .filter(|end| !end.is_certain && state <= PodState::Ready)
                .and_then(|end| end.container.finished()),
            restarts: status.containers().map(|container| container.restart_count).sum(),
            startup: Startup {
                modules: pod.spec.volumes.iter().any(|volume| volume.name == telemetry::VOLUME),
                module_command: pod.metadata.module_command.as_deref().and_then(Image::from_annotation),
                command_missing: role.zip(main).and_then(|(role, main)| lacking_image(pod, main, role)),
                unready_since: unready_since(pod, state).filter(|_| problem.is_none()),
                waiting_since: waits_without_a_word(pod, state).then(|| on_node_since(pod)).flatten(),
            },
            problem,
        }
    }
}

/// How a Dask container ended that will not run again, while others keep the pod from ending. A pod all of whose
/// containers have ended has a phase of its own.
struct DaskEnd<'a> {
    container: &'a ContainerStatus,
    end: &'a Terminated,
    /// Nothing of Dask is left in the pod: a container with a Dask command ended, and so did all that mention Dask.
    /// Otherwise another one may be a worker that works on; only the scheduler can say.
    is_certain: bool,
}

impl<'a> DaskEnd<'a> {
    fn of(pod: &'a WirePod, role: Role) -> Option<Self> {
        let runs_dask = |container: &&WireContainer| container.invocation(role).is_some();
        let may_be_dask = || {
            let containers = pod.spec.containers.iter();
            containers.filter(|container| runs_dask(container) || container.mentions_dask())
        };
        let (container, end) = may_be_dask().find_map(|container| ended_for_good(pod, container))?;
        let is_certain = pod.spec.containers.iter().any(|container| runs_dask(&container))
            && may_be_dask().all(|container| ended_for_good(pod, container).is_some());
        Some(Self { container, end, is_certain })
    }

    fn problem(&self, pod: &WirePod) -> PodProblem {
        let place = place(pod, self.container);
        if out_of_memory(self.end) {
            return killed_for_memory(&place);
        }
        let reason = if self.end.exit_code == 0 { Reason::WorkerExited } else { Reason::PodFailed };
        let cure = if self.is_certain {
            cure(pod, self.container, self.end, "")
        } else {
            "the pod is replaced if the scheduler knows no worker in it".to_owned()
        };
        problem(reason, ended_beside_others(&place, self.end, &cure))
    }
}

/// A container that is no worker, and whose end keeps the pod from being ready.
fn helper_ended(pod: &WirePod) -> Option<PodProblem> {
    let (container, end) = pod.spec.containers.iter().find_map(|helper| ended_for_good(pod, helper))?;
    let cure = "so the pod is not ready, though a worker in it may work; let the container run on, or make it an init \
                container";
    Some(problem(Reason::PodFailed, ended_beside_others(&place(pod, container), end, cure)))
}

fn ended_beside_others(place: &str, end: &Terminated, cure: &str) -> String {
    format!(
        "{place} ended with exit code {}{} and is not restarted, while other containers of the pod run on; {cure}",
        end.exit_code,
        quoted(end.message.as_deref()),
    )
}

/// How a container ended, if it will not run again.
fn ended_for_good<'a>(
    pod: &'a WirePod,
    spec: &WireContainer,
) -> Option<(&'a ContainerStatus, &'a Terminated)> {
    if spec.restart_policy_rules.is_some() {
        return None;
    }
    let container = pod.status.container_statuses.iter().find(|container| container.name == spec.name)?;
    let end = container.state.terminated.as_ref()?;
    let policy = spec.restart_policy.as_deref().or(pod.spec.restart_policy.as_deref());
    let for_good = match policy {
        Some("Never") => true,
        Some("OnFailure") => end.exit_code == 0,
        _ => false,
    };
    for_good.then_some((container, end))
}

/// The image of the Dask container, if it cannot run because the image has no command `dask-scheduler` or `dask-worker`.
fn lacking_image(pod: &WirePod, main: &WireContainer, role: Role) -> Option<Image> {
    if main.invocation(role)?.form != Form::Script {
        return None;
    }
    let container = pod.status.container_statuses.iter().find(|container| container.name == main.name)?;
    if container.is_running() {
        return None;
    }
    let waiting = container.state.waiting.as_ref();
    let cannot_start = waiting.filter(|waiting| waiting.reason.as_deref() != Some("CrashLoopBackOff"));
    let words = cannot_start.and_then(|waiting| waiting.message.as_deref());
    let end = container.state.terminated.as_ref().or(container.last_state.terminated.as_ref());
    let missing = missing_command(words, None).is_some()
        || end.is_some_and(|end| missing_command(end.message.as_deref(), Some(end.exit_code)).is_some());
    missing.then(|| Image::new(&main.image))
}

/// Whether the pod is on a node, no container of it ever ran, and its status does not say why: it pulls an image, or it
/// waits for a volume or its network, of which only Events tell.
fn waits_without_a_word(pod: &WirePod, state: PodState) -> bool {
    let ordinary = |container: &ContainerStatus| {
        let word = container.state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
        let created = container.state.running.is_some() || container.state.terminated.is_some();
        let waits = matches!(word, None | Some("ContainerCreating" | "PodInitializing"));
        container.restart_count == 0 && !created && waits
    };
    state == PodState::Starting
        && pod.status.phase.as_deref() == Some("Pending")
        && pod.status.container_statuses.iter().all(ordinary)
        && pod
            .status
            .init_container_statuses
            .iter()
            .all(|c| !c.is_running() && (c.finished().is_some() || ordinary(c)))
}

/// Since when a container runs that is not ready, or is not any more.
fn unready_since(pod: &WirePod, state: PodState) -> Option<Timestamp> {
    if state != PodState::Starting || pod.status.phase.as_deref() != Some("Running") {
        return None;
    }
    let container = pod.status.container_statuses.iter().find(|c| c.is_running() && !c.ready)?;
    let ready = pod.status.condition("Ready").filter(|condition| condition.status == "False");
    container.running_since().max(ready.and_then(PodCondition::since))
}

fn on_node_since(pod: &WirePod) -> Option<Timestamp> {
    let scheduled = pod.status.condition("PodScheduled").filter(|condition| condition.status == "True");
    scheduled.and_then(PodCondition::since).or_else(|| pod.status.accepted()).or(pod.metadata.created)
}

fn problem(reason: Reason, message: String) -> PodProblem {
    PodProblem { reason, message }
}

/// Why no node takes the pod, in the scheduler's words.
fn unschedulable(pod: &WirePod) -> Option<PodProblem> {
    let scheduled = pod.status.condition("PodScheduled")?;
    if scheduled.status != "False" || scheduled.reason.as_deref() != Some("Unschedulable") {
        return None;
    }
    let message = format!(
        "pod \"{}\" cannot be scheduled{}; add nodes that fit or lower its requests and constraints",
        pod.metadata.name(),
        quoted(scheduled.message.as_deref()),
    );
    Some(problem(Reason::Unschedulable, message))
}

/// Why a pod that is on a node does not become ready, as far as its containers tell.
fn obstacle(pod: &WirePod) -> Option<PodProblem> {
    let waiting = pod.status.containers().find_map(|container| waiting(pod, container));
    waiting.or_else(|| pod.status.containers().find(|c| keeps_ending(c)).map(|c| crash_loop(pod, c)))
}

/// Whether a container that runs, or is about to, did so several times in vain: between two crashes it is as
/// hopeless as while it waits.
fn keeps_ending(container: &ContainerStatus) -> bool {
    let completed = container.state.terminated.as_ref().is_some_and(|end| end.exit_code == 0);
    let again =
        container.restart_count > 1 || (container.restart_count > 0 && container.state.terminated.is_some());
    !completed && ended(container).is_some_and(|end| out_of_memory(end) || (again && !end.lasted(LONG_RUN)))
}

/// What a container waits for, if somebody must help.
fn waiting(pod: &WirePod, container: &ContainerStatus) -> Option<PodProblem> {
    let waiting = container.state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    let place = place(pod, container);
    if reason == "CrashLoopBackOff" {
        return Some(crash_loop(pod, container));
    }
    if IMAGE_REASONS.contains(&reason) {
        let words = waiting.message.as_deref().map(without_back_off);
        let message = format!(
            "image \"{}\" of container \"{}\" in pod \"{}\" cannot be pulled{}; correct the image, or give the pod \
             an imagePullSecret that may read it",
            shortened(&container.image),
            shortened(&container.name),
            pod.metadata.name(),
            quoted(words),
        );
        return Some(problem(Reason::ImagePullFailed, message));
    }
    if START_REASONS.contains(&reason) {
        let words = waiting.message.as_deref();
        let cure = missing_command(words, None).unwrap_or("create what is missing or correct the pod spec");
        let message = format!("{place} cannot start ({reason}){}; {cure}", quoted(words));
        return Some(problem(Reason::ContainerCannotStart, message));
    }
    None
}

/// A container that ended and is started again and again.
fn crash_loop(pod: &WirePod, container: &ContainerStatus) -> PodProblem {
    let place = place(pod, container);
    match ended(container) {
        Some(end) if out_of_memory(end) => killed_for_memory(&place),
        Some(end) => {
            let words = end.message.as_deref();
            let cure = cure(pod, container, end, " --previous");
            let message =
                format!("{place} keeps crashing with exit code {}{}; {cure}", end.exit_code, quoted(words));
            problem(Reason::CrashLoop, message)
        }
        None => {
            let log = read_log(pod, container, " --previous");
            problem(Reason::CrashLoop, format!("{place} keeps crashing; {log}"))
        }
    }
}

/// Why a pod is in phase `Failed`.
fn failure(pod: &WirePod) -> PodProblem {
    if let Some(lost) = lost(pod) {
        return lost;
    }
    let mut ends = pod.status.containers().filter_map(|c| Some((c, c.state.terminated.as_ref()?)));
    let Some((container, end)) = ends.find(|(_, end)| end.exit_code != 0) else {
        let why = pod
            .status
            .reason
            .as_deref()
            .map(|reason| format!(" ({})", shortened(reason)))
            .unwrap_or_default();
        let words = quoted(pod.status.message.as_deref());
        return problem(Reason::PodFailed, format!("pod \"{}\" failed{why}{words}", pod.metadata.name()));
    };
    let place = place(pod, container);
    if out_of_memory(end) {
        return killed_for_memory(&place);
    }
    let words = quoted(end.message.as_deref().or(pod.status.message.as_deref()));
    let cure = cure(pod, container, end, "");
    problem(Reason::PodFailed, format!("{place} ended with exit code {}{words}; {cure}", end.exit_code))
}

/// Who took a failed pod away, if somebody did.
fn lost(pod: &WirePod) -> Option<PodProblem> {
    let PodStatus { reason, message, .. } = &pod.status;
    let disrupted = pod.status.condition("DisruptionTarget").filter(|condition| condition.status == "True");
    let taken = reason.as_deref().filter(|reason| LOST_REASONS.contains(reason));
    // A pod that used more disk than its own limit is evicted too, but would be again on any node.
    let own_limit = taken == Some("Evicted") && message.as_ref().is_some_and(|words| words.contains("limit"));
    if own_limit {
        return None;
    }
    let by = taken.or(disrupted.map(|condition| condition.reason.as_deref().unwrap_or("disruption")))?;
    let words = message.as_deref().or(disrupted.and_then(|condition| condition.message.as_deref()));
    let name = pod.metadata.name();
    let (by, words) = (shortened(by), quoted(words));
    let message = format!("pod \"{name}\" was taken from its node ({by}){words}; it is replaced");
    Some(problem(Reason::PodLost, message))
}

/// A pod all of whose containers ended by themselves, without an error.
fn exited(pod: &WirePod) -> PodProblem {
    let name = pod.metadata.name();
    let log = match pod.status.container_statuses.first() {
        Some(container) => read_log(pod, container, ""),
        None => format!("`kubectl logs -n {} {name}` tells why", pod.metadata.namespace()),
    };
    problem(Reason::WorkerExited, format!("pod \"{name}\" ended by itself with exit code 0; {log}"))
}

/// How the container that was restarted last had ended; an exit for lack of memory before all others.
fn last_termination(pod: &WirePod) -> Option<PodProblem> {
    let restarted = || pod.status.containers().filter_map(|c| Some((c, c.last_state.terminated.as_ref()?)));
    let killed = restarted().find(|(_, end)| out_of_memory(end));
    let (container, end) = killed.or_else(|| restarted().next())?;
    let place = place(pod, container);
    if out_of_memory(end) {
        return Some(killed_for_memory(&place));
    }
    let reason = if end.exit_code == 0 { Reason::WorkerExited } else { Reason::PodFailed };
    let words = quoted(end.message.as_deref());
    Some(problem(reason, format!("{place} ended with exit code {} and was restarted{words}", end.exit_code)))
}

fn killed_for_memory(place: &str) -> PodProblem {
    let message = format!(
        "{place} was killed because it used more memory than its limit; raise resources.limits.memory, or let \
         each worker run fewer threads"
    );
    problem(Reason::OutOfMemory, message)
}

/// How a container ended last, be it stopped now or running again.
fn ended(container: &ContainerStatus) -> Option<&Terminated> {
    let now = container.state.terminated.as_ref().filter(|end| end.exit_code != 0);
    now.or(container.last_state.terminated.as_ref())
}

fn out_of_memory(end: &Terminated) -> bool {
    end.reason.as_deref() == Some("OOMKilled")
}

/// The cure for a command that the image does not have.
fn missing_command(words: Option<&str>, exit_code: Option<i32>) -> Option<&'static str> {
    let absent = words.is_some_and(|words| {
        // In these letters it is Go's; programs, whose last words these may be as well, say "No such file".
        let no_file = words.contains("no such file or directory") && !words.contains("mount");
        (no_file && words.contains("exec")) || no_executable(words)
    });
    (absent || exit_code == Some(COMMAND_NOT_FOUND)).then_some(
        "the image lacks the command: distributed 2026.6 dropped `dask-scheduler` and `dask-worker`, so start \
         `dask scheduler` or `dask worker`, or use an image that has the command",
    )
}

/// Whether the runtime does not find a command: runc says "executable file not found in $PATH", crun "executable file
/// `dask-worker` not found in $PATH: No such file or directory".
fn no_executable(words: &str) -> bool {
    words.lines().any(|line| {
        let line = line.to_lowercase();
        line.split_once("executable file").is_some_and(|(_, rest)| rest.contains("not found"))
    })
}

/// The container, its pod and image, as a message begins.
fn place(pod: &WirePod, container: &ContainerStatus) -> String {
    let (name, image) = (shortened(&container.name), shortened(&container.image));
    format!("container \"{name}\" (image \"{image}\") of pod \"{}\"", pod.metadata.name())
}

/// What to do about a container that ended with an error. `which` is the option of `kubectl logs` for the run
/// that ended.
fn cure(pod: &WirePod, container: &ContainerStatus, end: &Terminated, which: &str) -> String {
    let missing = missing_command(end.message.as_deref(), Some(end.exit_code));
    missing.map_or_else(|| read_log(pod, container, which), str::to_owned)
}

fn read_log(pod: &WirePod, container: &ContainerStatus, which: &str) -> String {
    let (namespace, name) = (pod.metadata.namespace(), pod.metadata.name());
    format!("`kubectl logs -n {namespace} {name} -c {}{which}` tells why", shortened(&container.name))
}

/// The words of newer kubelets without "Back-off pulling image", which come and go while the cause stays.
fn without_back_off(words: &str) -> &str {
    let Some(rest) = words.strip_prefix("Back-off pulling image ") else { return words };
    rest.split_once("\": ErrImagePull: ").map_or("", |(_, cause)| cause)
}

#[cfg(test)]
#[path = "pod_state_tests.rs"]
mod tests;
