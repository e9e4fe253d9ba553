use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::cluster_cache::records::Startup;
use crate::controllers::group::removal::{Cause, Object};
use crate::controllers::group::testing::{self, at, cluster, failed, marked, record, running, worker};
use crate::pods::form::Image;
use crate::scheduler_link::LinkFailure;

const UNLIMITED: WorkerAllocation = WorkerAllocation { batch_size: None, delay: Duration::ZERO };

fn plan(snapshot: &GroupSnapshot) -> GroupPlan {
    plan_at(snapshot, &DaskWorkerGroupStatus::default(), at(100))
}

fn plan_at(snapshot: &GroupSnapshot, status: &DaskWorkerGroupStatus, now: Timestamp) -> GroupPlan {
    decide(snapshot, &inputs(status, &gone()), now)
}

/// No scheduler runs, so workers go without asking.
fn gone() -> LinkView {
    let failure = LinkFailure {
        reason: Reason::SchedulerNotRunning,
        message: "no scheduler runs".to_owned(),
        since: at(0),
    };
    LinkView { asked: true, sample: None, failure: Some(failure) }
}

fn inputs<'a>(status: &'a DaskWorkerGroupStatus, link: &'a LinkView) -> Inputs<'a> {
    // What is made now runs the module.
    let form = PodForm { lacking: Some(Image::new("dask")), ..PodForm::default() };
    Inputs {
        template_hash: "",
        status,
        link,
        standing: None,
        allocation: UNLIMITED,
        form,
        settling: None,
        inherited: None,
    }
}

fn snapshot(replicas: i32, workers: Vec<Arc<PodRecord>>) -> GroupSnapshot {
    let starting = Arc::new(PodRecord { ordinal: None, ..record(0, PodState::Starting) });
    GroupSnapshot { scheduler_pods: vec![starting], ..testing::snapshot(replicas, workers) }
}

fn names(plan: &GroupPlan) -> Vec<&str> {
    plan.remove.iter().map(|removal| removal.name.as_str()).collect()
}

#[test]
fn an_empty_group_is_filled() {
    let plan = plan(&snapshot(3, vec![]));
    assert_eq!(plan, GroupPlan { create: vec![1, 2, 3], missing: 3, ..GroupPlan::default() });
}

#[rstest]
#[case::there_is_none(None)]
#[case::it_was_evicted(Some(PodState::Failed))]
#[case::it_goes(Some(PodState::Terminating))]
fn workers_wait_for_the_pod_of_their_scheduler(#[case] scheduler: Option<PodState>) {
    let mut snapshot = snapshot(3, vec![worker(1, PodState::Ready), failed(2, Reason::PodLost, at(0))]);
    snapshot.scheduler_pods = scheduler.map(|state| worker(0, state)).into_iter().collect();
    let plan = plan(&snapshot);
    assert_eq!((plan.create, plan.silence), (vec![], None));
    snapshot.scheduler_pods.push(worker(0, PodState::Pending));
    assert_eq!(self::plan(&snapshot).create, [3, 4]);
}

#[rstest]
#[case::there_is_none(None, false)]
#[case::it_is_of_an_earlier_job(Some("earlier-uid"), false)]
#[case::it_is_there(Some("job-uid"), true)]
fn workers_of_a_job_wait_for_its_runner(#[case] owner: Option<&str>, #[case] created: bool) {
    let plan = plan(&testing::of_job(2, vec![worker(1, PodState::Ready)], owner));
    assert_eq!(!plan.create.is_empty(), created, "{plan:?}");
}

#[test]
fn a_new_group_expects_its_scheduler_for_a_moment() {
    let mut snapshot = GroupSnapshot { scheduler_pods: vec![], ..snapshot(3, vec![]) };
    let expects = |snapshot: &GroupSnapshot, status: &DaskWorkerGroupStatus, second| {
        plan_at(snapshot, status, at(second)).silence
    };
    let unwritten = DaskWorkerGroupStatus::default();
    assert_eq!(expects(&snapshot, &unwritten, 10), None, "nobody knows how new it is");
    let group = Arc::make_mut(&mut snapshot.members.group);
    group.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(10)));
    // The clock of the API server may be ahead.
    for (second, left) in [(0, Some(2)), (10, Some(2)), (11, Some(1)), (12, None), (60, None)] {
        assert_eq!(expects(&snapshot, &unwritten, second), left.map(Duration::from_secs), "{second}");
    }
    let written = DaskWorkerGroupStatus { observed_generation: Some(1), ..unwritten.clone() };
    assert_eq!(expects(&snapshot, &written, 11), None, "it has been said");
    snapshot.members.workers.push(worker(1, PodState::Ready));
    assert_eq!(expects(&snapshot, &unwritten, 11), None, "there is something to say");
}

#[test]
fn a_full_group_is_left_alone() {
    let workers =
        vec![worker(1, PodState::Ready), worker(2, PodState::Pending), worker(3, PodState::Starting)];
    let unknown =
        GroupPlan { joining: Joining::Unknown(Some(Duration::from_secs(200))), ..GroupPlan::default() };
    assert_eq!(plan(&snapshot(3, workers)), unknown, "the scheduler does not answer");
}

#[test]
fn ordinals_are_never_used_twice() {
    let mut snapshot = snapshot(3, vec![worker(4, PodState::Ready), worker(6, PodState::Terminating)]);
    assert_eq!(plan(&snapshot).create, [7, 8]);
    let status = DaskWorkerGroupStatus { highest_ordinal: 9, ..DaskWorkerGroupStatus::default() };
    assert_eq!(plan_at(&snapshot, &status, at(0)).create, [10, 11]);
    snapshot.unanswered = [5].into();
    assert_eq!(plan(&snapshot).create, [5, 7], "a creation that was not answered is repeated under its name");
}

#[test]
fn too_many_workers_shrink_to_the_number() {
    let workers = vec![
        worker(1, PodState::Ready),
        worker(2, PodState::Ready),
        worker(3, PodState::Pending),
        worker(4, PodState::Terminating),
    ];
    let plan = plan(&snapshot(1, workers));
    assert_eq!(names(&plan), ["w-3", "w-2"]);
    assert_eq!(plan.create, [0; 0]);
}

#[rstest]
#[case(-1)]
#[case(i32::MIN)]
#[case(100_001)]
#[case(2_000_000_000)]
fn a_number_that_cannot_be_meant_changes_nothing(#[case] replicas: i32) {
    let workers = vec![worker(1, PodState::Ready), failed(2, Reason::PodFailed, at(99))];
    let plan = plan(&snapshot(replicas, workers));
    assert_eq!((plan.create.len(), plan.remove.len(), plan.mark.len(), plan.missing), (0, 0, 0, 0));
    let obstacle = plan.obstacle.unwrap();
    assert_eq!(obstacle.reason, Reason::InvalidReplicas);
    for words in ["spec.worker.replicas", &replicas.to_string(), "from 0 to 100000", "kubectl scale"] {
        assert!(obstacle.message.contains(words), "{words}: {}", obstacle.message);
    }
}

#[test]
fn many_workers_are_planned_a_few_at_a_time() {
    let plan = plan(&snapshot(100_000, vec![]));
    assert_eq!((plan.create.len(), plan.missing), (MOST_PLANNED, 100_000));
    assert_eq!((plan.obstacle, plan.requeue_after), (None, None));
}

#[rstest]
#[case::in_the_status(i64::MAX, None)]
#[case::on_a_pod(0, Some(i64::MAX))]
#[case::below_zero(i64::MIN, Some(-5))]
fn an_ordinal_that_somebody_else_wrote_is_not_believed(#[case] status: i64, #[case] pod: Option<i64>) {
    let strange = PodRecord { ordinal: pod, ..record(1, PodState::Ready) };
    let snapshot = snapshot(3, vec![std::sync::Arc::new(strange)]);
    let status = DaskWorkerGroupStatus { highest_ordinal: status, ..DaskWorkerGroupStatus::default() };
    assert_eq!(plan_at(&snapshot, &status, at(100)).create, [1, 2]);
}

#[test]
fn a_creation_is_called_off_when_it_is_not_wanted_any_more() {
    let snapshot = snapshot(10, vec![worker(1, PodState::Ready), worker(2, PodState::Ready)]);
    let (wish, cluster) = (Wish::of(&snapshot, &plan(&snapshot)), cluster());
    let stands = |change: fn(&mut DaskWorkerGroup), earlier| {
        let mut group = testing::group(10);
        change(&mut group);
        wish.stands(&group, Some(&cluster), earlier)
    };
    assert!(stands(|_| {}, 0) && stands(|_| {}, 7));
    assert!(!stands(|_| {}, 8), "two are there");
    assert!(stands(|group| group.spec.worker.replicas = 5, 2));
    assert!(!stands(|group| group.spec.worker.replicas = 5, 3));
    assert!(!stands(|group| group.spec.worker.replicas = 0, 0));
    assert!(!stands(|group| group.spec.worker.replicas = 2_000_000_000, 0));
    let time = || Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    let group = testing::group(10);
    let (mut going, mut other) = (group.clone(), group.clone());
    going.metadata.deletion_timestamp = time();
    other.metadata.uid = Some("another".to_owned());
    assert!(!wish.stands(&going, Some(&cluster), 0) && !wish.stands(&other, Some(&cluster), 0));
    let (mut going, mut other) = (cluster.clone(), cluster.clone());
    going.metadata.deletion_timestamp = time();
    other.metadata.uid = Some("another".to_owned());
    assert!(!wish.stands(&group, Some(&going), 0) && !wish.stands(&group, Some(&other), 0));
    assert!(!wish.stands(&group, None, 0), "it is gone");
}

#[test]
fn a_clock_that_goes_back_holds_nothing_up() {
    let allocation = WorkerAllocation { batch_size: Some(2), delay: Duration::from_secs(5) };
    let (status, link) = (DaskWorkerGroupStatus::default(), gone());
    let workers = vec![worker(1, PodState::Pending)];
    let inputs = Inputs { allocation, ..inputs(&status, &link) };
    assert_eq!(
        decide(&snapshot(5, workers.clone()), &inputs, at(-30)).create.len(),
        0,
        "clocks differ a little"
    );
    assert_eq!(decide(&snapshot(5, workers), &inputs, at(-3_600)).create, [2, 3]);
    let mut new = GroupSnapshot { scheduler_pods: vec![], ..snapshot(3, vec![]) };
    let created = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(3_600));
    std::sync::Arc::make_mut(&mut new.members.group).metadata.creation_timestamp = Some(created);
    assert_eq!(plan_at(&new, &status, at(0)).silence, None);
}

#[test]
fn an_owner_of_another_api_is_no_cluster_of_ours() {
    let mut snapshot = snapshot(1, vec![]);
    let owner = serde_json::json!([{
        "apiVersion": "other.example.org/v1", "kind": "DaskCluster", "name": "simple", "uid": "other",
    }]);
    let group = std::sync::Arc::make_mut(&mut snapshot.members.group);
    group.metadata.owner_references = serde_json::from_value(owner).unwrap();
    let plan = plan(&snapshot);
    assert_eq!((plan.obstacle, plan.create), (None, vec![1]));
    assert!(plan.adoption.is_some());
}

fn removal(name: &str, uid: &str, cause: Cause) -> Removal {
    Removal { object: Object::Pod, name: name.into(), uid: uid.into(), version: None, cause }
}

#[test]
fn marked_workers_are_replaced_if_they_are_wanted_again() {
    let workers = vec![worker(1, PodState::Ready), Arc::new(marked(2, 50))];
    let (status, link) = (DaskWorkerGroupStatus::default(), LinkView::default());
    let snapshot = testing::snapshot(2, workers);
    let plan = decide(&snapshot, &inputs(&status, &link), at(100));
    assert_eq!((plan.create.clone(), names(&plan)), (vec![3], vec![]));
}

#[test]
fn a_marked_worker_that_ends_has_not_failed() {
    let ended = PodRecord { state: PodState::Failed, running: false, ..marked(2, 50) };
    let plan = plan(&snapshot(1, vec![worker(1, PodState::Ready), Arc::new(ended)]));
    assert_eq!(plan.remove, [removal("w-2", "uid-2", Cause::Drained)]);
    assert_eq!((plan.failures, plan.create.len()), (None, 0));
}

#[test]
fn workers_of_the_python_operator_count() {
    let mut snapshot = testing::snapshot(3, vec![Arc::new(running(1))]);
    snapshot.members.legacy = vec![testing::legacy(&[PodState::Ready])];
    let (status, link) = (DaskWorkerGroupStatus::default(), LinkView::default());
    let plan = decide(&snapshot, &inputs(&status, &link), at(100));
    assert_eq!((plan.create.clone(), names(&plan)), (vec![2], vec![]));
}

#[test]
fn the_first_failure_is_replaced_at_once_after_its_record() {
    let plan = plan(&snapshot(2, vec![worker(1, PodState::Ready), failed(2, Reason::PodFailed, at(90))]));
    assert_eq!(plan.create, [3]);
    assert_eq!(plan.remove, [removal("w-2", "uid-2", Cause::Failed)]);
    assert_eq!(plan.failures.unwrap().pods, ["w-2"]);
}

#[test]
fn the_second_failure_waits_but_new_workers_do_not() {
    let snapshot = snapshot(3, vec![failed(2, Reason::PodFailed, at(99))]);
    let earlier = WorkerFailures {
        consecutive: 1,
        pods: vec!["w-1".into()],
        last_reason: "PodFailed".into(),
        last_message: "words".into(),
        last_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(98)),
        retry_after: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(98)),
    };
    let status = DaskWorkerGroupStatus { failures: Some(earlier), ..DaskWorkerGroupStatus::default() };
    let plan = plan_at(&snapshot, &status, at(100));
    assert_eq!(plan.create, [3, 4], "two of the three wanted are not replacements");
    assert_eq!(names(&plan), [""; 0], "the failed pod stays for its logs");
    assert_eq!(plan.requeue_after, Some(Duration::from_secs(10)));
    let status = DaskWorkerGroupStatus { failures: plan.failures, ..status };
    let later = plan_at(&snapshot, &status, at(110));
    assert_eq!((names(&later), later.create.len()), (vec!["w-2"], 3));
}

#[test]
fn failed_workers_that_are_not_wanted_any_more_go() {
    let plan = plan(&snapshot(1, vec![worker(1, PodState::Ready), failed(2, Reason::PodFailed, at(99))]));
    assert_eq!((names(&plan), plan.create.len()), (vec!["w-2"], 0));
}

#[test]
fn batches_are_honoured() {
    let allocation = WorkerAllocation { batch_size: Some(2), delay: Duration::from_secs(5) };
    let decide_at = |workers, seconds| {
        let (status, link) = (DaskWorkerGroupStatus::default(), gone());
        decide(&snapshot(5, workers), &Inputs { allocation, ..inputs(&status, &link) }, at(seconds))
    };
    let first = decide_at(vec![], 0);
    assert_eq!((first.create, first.requeue_after), (vec![1, 2], Some(Duration::from_secs(5))));
    let two = vec![worker(1, PodState::Pending), worker(2, PodState::Pending)];
    let waiting = decide_at(two.clone(), 2);
    assert_eq!((waiting.create.len(), waiting.requeue_after), (0, Some(Duration::from_secs(3))));
    assert_eq!(decide_at(two, 5).create, [3, 4]);
}

#[test]
fn a_standing_refusal_stops_creation_but_not_removal() {
    let standing = StandingRefusal {
        obstacle: Obstacle::new(Reason::QuotaExceeded, "no room"),
        wait: Duration::from_secs(4),
    };
    let (status, link) = (DaskWorkerGroupStatus::default(), gone());
    let refused = Inputs { standing: Some(&standing), ..inputs(&status, &link) };
    let short = decide(&snapshot(3, vec![]), &refused, at(0));
    assert_eq!(short.create, [0; 0]);
    assert_eq!((short.obstacle, short.requeue_after), (Some(standing.obstacle.clone()), Some(standing.wait)));
    let long = snapshot(0, vec![worker(1, PodState::Ready)]);
    let plan = decide(&long, &refused, at(0));
    assert_eq!((names(&plan), plan.obstacle.clone()), (vec!["w-1"], None));
}

#[rstest]
#[case::absent(
    |s: &mut GroupSnapshot| {
        s.cluster = None;
        std::sync::Arc::make_mut(&mut s.members.group).metadata.owner_references = None;
    },
    Reason::ClusterNotFound, "\"simple\"")]
#[case::gone_before_its_group(
    |s: &mut GroupSnapshot| s.cluster = None, Reason::WaitingForDeletion, "is being deleted")]
#[case::group_name(
    |s: &mut GroupSnapshot| std::sync::Arc::make_mut(&mut s.members.group).metadata.name = Some("g".repeat(64)),
    Reason::InvalidName, "64 characters")]
#[case::cluster_name(
    |s: &mut GroupSnapshot| std::sync::Arc::make_mut(&mut s.members.group).spec.cluster = "a.b".into(),
    Reason::InvalidName, "spec.cluster")]
#[case::cluster_going(
    |s: &mut GroupSnapshot| {
        let mut cluster = cluster();
        cluster.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
        s.cluster = Some(std::sync::Arc::new(cluster));
    },
    Reason::WaitingForDeletion, "is being deleted")]
#[case::cluster_made_again(
    |s: &mut GroupSnapshot| {
        let mut cluster = cluster();
        cluster.metadata.uid = Some("another".into());
        s.cluster = Some(std::sync::Arc::new(cluster));
    },
    Reason::WaitingForDeletion, "is being deleted")]
fn without_a_usable_cluster_nothing_is_written(
    #[case] change: fn(&mut GroupSnapshot),
    #[case] reason: Reason,
    #[case] words: &str,
) {
    let mut snapshot = snapshot(3, vec![worker(1, PodState::Ready)]);
    change(&mut snapshot);
    let plan = plan(&snapshot);
    let obstacle = plan.obstacle.clone().unwrap();
    assert_eq!(obstacle.reason, reason);
    assert!(obstacle.message.contains(words), "{}", obstacle.message);
    assert_eq!((plan.create.len(), plan.remove.len(), plan.adoption), (0, 0, None));
}

#[test]
fn a_group_that_goes_is_left_to_the_garbage_collector() {
    let mut snapshot = snapshot(3, vec![]);
    std::sync::Arc::make_mut(&mut snapshot.members.group).metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    assert_eq!(plan(&snapshot), GroupPlan::default());
}

#[test]
fn a_users_group_is_adopted() {
    let mut snapshot = snapshot(0, vec![]);
    let group = std::sync::Arc::make_mut(&mut snapshot.members.group);
    group.metadata.owner_references = None;
    group.metadata.resource_version = Some("42".into());
    let adoption = plan(&snapshot).adoption.unwrap();
    assert_eq!(adoption["metadata"]["resourceVersion"], "42");
    assert_eq!(adoption["metadata"]["ownerReferences"][0]["uid"], "cluster-uid");
    assert!(adoption["metadata"].get("labels").is_none(), "clients list the default group by that label");
}

proptest! {
    /// Carrying plans out, whatever fails in between, ends at the wanted number without ever exceeding it.
    #[test]
    fn plans_converge(desired in 0..20_i32, states in proptest::collection::vec(0..5_usize, 0..25)) {
        use PodState::{Failed, Pending, Ready, Starting, Terminating};
        let all = [Pending, Starting, Ready, Failed, Terminating];
        let mut workers: Vec<_> = (1..).zip(&states).map(|(i, &s)| worker(i, all[s])).collect();
        let before = workers.iter().filter(|w| w.state <= Ready).count();
        let mut status = DaskWorkerGroupStatus::default();
        for round in 0..20 {
            let now = at(1000 * round);
            let plan = plan_at(&snapshot(desired, workers.clone()), &status, now);
            status.failures = plan.failures;
            workers.retain(|w| plan.remove.iter().all(|r| *r.name != *w.name) && w.state != Terminating);
            workers.extend(plan.create.iter().map(|&o| std::sync::Arc::new(record(o, Pending))));
            let live = workers.iter().filter(|w| w.state <= Ready).count();
            prop_assert!(live <= before.max(usize::try_from(desired).unwrap()));
        }
        prop_assert_eq!(workers.len(), usize::try_from(desired).unwrap());
        prop_assert!(workers.iter().all(|w| w.state <= Ready));
        let ordinals: std::collections::BTreeSet<_> = workers.iter().map(|w| w.ordinal).collect();
        prop_assert_eq!(ordinals.len(), workers.len());
    }
}

/// A worker that ended because its image lacks the command.
fn lacking(ordinal: i64, state: PodState) -> Arc<PodRecord> {
    let startup = Startup { command_missing: Some(Image::new("dask")), ..Startup::default() };
    Arc::new(PodRecord { startup, ..record(ordinal, state) })
}

#[test]
fn workers_that_lack_their_command_are_replaced_at_once_and_say_nothing_of_the_template() {
    for state in [PodState::Starting, PodState::Failed] {
        let snapshot = snapshot(3, vec![lacking(1, state), lacking(2, state), worker(3, PodState::Ready)]);
        let plan = plan(&snapshot);
        assert_eq!(names(&plan), ["w-1", "w-2"]);
        assert_eq!(plan.create, [4, 5]);
        assert_eq!(plan.failures, None);
    }
}

#[test]
fn a_worker_that_lacks_its_command_and_is_one_too_many_goes_once() {
    let plan = plan(&snapshot(1, vec![lacking(1, PodState::Starting), worker(2, PodState::Ready)]));
    assert_eq!(plan.remove.len(), 1);
    assert!(plan.create.is_empty() && plan.mark.is_empty());
}
