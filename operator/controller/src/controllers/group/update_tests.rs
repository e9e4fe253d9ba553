use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::controllers::group::testing::{self, at, failing, member, record, snapshot, without_workers};
use crate::scheduler_link::Members;
use dask_operator_api::DrainIntent;

const OLD: &str = "old";
const NEW: &str = "new";

fn pod(ordinal: i64, state: PodState, hash: Option<&str>, marked: bool) -> Arc<PodRecord> {
    Arc::new(PodRecord {
        template_hash: hash.map(Into::into),
        drain: marked.then(|| Box::new(DrainIntent { reason: Reason::TemplateChanged, since: at(0) })),
        ..record(ordinal, state)
    })
}

fn members(desired: i32, pods: Vec<Arc<PodRecord>>) -> GroupMembers {
    snapshot(desired, pods).members
}

/// The decision when the scheduler knows a worker of each pod.
fn update(members: &GroupMembers, hash: &str, policy: &UpdatePolicy) -> Update {
    let all = members.pods().filter_map(|pod| pod.ordinal);
    let known = testing::members(all.map(|ordinal| (ordinal, member(ordinal, Some(0)))));
    super::update(members, hash, policy, Known::Members(&known))
}

fn policy(max_unavailable: i32) -> UpdatePolicy {
    UpdatePolicy { max_unavailable: Some(max_unavailable), ..UpdatePolicy::default() }
}

fn on_delete() -> UpdatePolicy {
    serde_json::from_value(json!({"strategy": "OnDelete"})).unwrap()
}

fn marked(update: &Update) -> Vec<i64> {
    update.mark.iter().filter_map(|marking| marking.pod.ordinal).collect()
}

#[rstest]
#[case::one_at_a_time(1, &[])]
#[case::two(2, &[])]
#[case::one_drains(2, &[1])]
#[case::enough_drain(2, &[1, 2])]
fn running_workers_are_marked_few_at_a_time(#[case] max: i32, #[case] draining: &[i64]) {
    let pods = (1..=5).map(|i| pod(i, PodState::Ready, Some(OLD), draining.contains(&i))).collect::<Vec<_>>();
    let replaced = (0..).zip(draining).map(|(i, _)| pod(10 + i, PodState::Ready, Some(NEW), false));
    let update = update(&members(5, pods.into_iter().chain(replaced).collect()), NEW, &policy(max));
    let room = usize::try_from(max).unwrap() - draining.len();
    assert_eq!(update.mark.len(), room);
    assert!(update.mark.iter().all(|marking| marking.reason == Reason::TemplateChanged));
    assert!(marked(&update).iter().all(|ordinal| !draining.contains(ordinal)));
    assert_eq!(update.remove, []);
}

#[test]
fn replacements_have_to_be_ready_before_the_next_one_goes() {
    let of = |state| {
        vec![
            pod(1, PodState::Ready, Some(OLD), false),
            pod(2, PodState::Ready, Some(OLD), false),
            pod(3, state, Some(NEW), false),
        ]
    };
    assert_eq!(marked(&update(&members(3, of(PodState::Starting)), NEW, &policy(1))), [0; 0]);
    assert_eq!(marked(&update(&members(3, of(PodState::Ready)), NEW, &policy(1))), [1]);
}

#[test]
fn outdated_workers_that_never_ran_are_replaced_at_once() {
    let pods = vec![
        pod(1, PodState::Pending, Some(OLD), false),
        pod(2, PodState::Starting, Some(OLD), false),
        pod(3, PodState::Pending, Some(NEW), false),
        pod(4, PodState::Failed, Some(OLD), false),
        pod(5, PodState::Terminating, Some(OLD), false),
    ];
    let update = update(&members(5, pods), NEW, &policy(1));
    let names: Vec<_> = update.remove.iter().map(|removal| removal.name.as_str()).collect();
    assert_eq!(names, ["w-1", "w-2"]);
    assert!(update.remove.iter().all(|r| r.version.is_some() && r.cause == Cause::Outdated));
    assert_eq!(update.mark, []);
}

#[test]
fn a_worker_that_runs_but_is_not_ready_goes_first() {
    let mut crashing = PodRecord::clone(&pod(2, PodState::Starting, Some(OLD), false));
    crashing.running = true;
    let pods = vec![
        pod(1, PodState::Ready, Some(OLD), false),
        Arc::new(crashing),
        pod(3, PodState::Ready, Some(OLD), false),
    ];
    assert_eq!(marked(&update(&members(3, pods.clone()), NEW, &policy(1))), [2]);
    assert_eq!(marked(&update(&members(3, pods), NEW, &policy(2))), [2, 1]);
}

fn three() -> GroupMembers {
    members(3, (1..=3).map(|ordinal| pod(ordinal, PodState::Ready, Some(OLD), false)).collect())
}

/// How the scheduler sees the worker of a pod.
#[derive(Clone, Copy)]
enum Seen {
    Ranked,
    Protected,
    Unknown,
}
use Seen::{Protected, Ranked, Unknown};

fn known(workers: [Seen; 3]) -> Members {
    let mut known = Members::default();
    for (ordinal, seen) in (1..).zip(workers) {
        let uid = format!("uid-{ordinal}");
        match seen {
            Ranked => known.insert(&uid, vec![member(ordinal, Some(0))]),
            Protected => known.insert(&uid, vec![member(ordinal, None)]),
            Unknown => known.insert_unknown(&uid),
        }
    }
    known.unmatched.add("mine", "tcp://10.96.0.1:1");
    known
}

#[rstest]
#[case::protected([Protected, Ranked, Ranked], &[2, 3], None)]
#[case::not_known([Unknown, Ranked, Protected], &[2], None)]
#[case::all_protected([Protected; 3], &[], Some((Reason::WorkerProtected, "\"w-1\" is kept")))]
#[case::either([Unknown, Protected, Unknown], &[], Some((Reason::WorkerProtected, "\"w-2\" is kept")))]
#[case::none_known([Unknown; 3], &[], Some((Reason::DrainUnconfirmed, "10.96.0.1")))]
fn whom_the_scheduler_protects_or_who_is_not_known_stays(
    #[case] workers: [Seen; 3],
    #[case] expected: &[i64],
    #[case] kept: Option<(Reason, &str)>,
) {
    let known = known(workers);
    let update = super::update(&three(), NEW, &policy(3), Known::Members(&known));
    assert_eq!(marked(&update), expected);
    assert_eq!(update.kept.as_ref().map(|finding| finding.reason), kept.map(|(reason, _)| reason));
    assert_eq!(update.requeue_after.is_some(), expected.is_empty());
    let Some((_, words)) = kept else { return };
    let scaling = update.kept.unwrap();
    assert!(scaling.message.contains(words), "{}", scaling.message);
    let (updating, told) = finding(&three(), NEW, &policy(3), Some(&scaling));
    assert!(updating && told.message.starts_with("3 of 3 workers are of an older template; "));
    assert!(told.message.ends_with(&scaling.message), "{}", told.message);
}

#[test]
fn who_is_not_known_is_marked_if_its_time_is_to_run_out() {
    let policy =
        serde_json::from_value(json!({"drainTimeoutAction": "Delete", "maxUnavailable": 3})).unwrap();
    let mark = |known: Known<'_>| marked(&super::update(&three(), NEW, &policy, known));
    assert_eq!(
        mark(Known::Members(&known([Unknown, Protected, Unknown]))),
        [1, 3],
        "never one that is protected"
    );
    assert_eq!(mark(Known::Members(&known([Unknown, Ranked, Unknown]))), [2], "the others first");
    assert_eq!(mark(Known::Nothing(None)), [1, 2, 3]);
    assert_eq!(mark(Known::Members(&Members::default())), [0; 0], "the next list tells of them");
}

#[test]
fn without_the_schedulers_word_nobody_who_runs_goes() {
    let of = |known| super::update(&three(), NEW, &policy(3), known);
    let silent = of(Known::Nothing(None));
    assert_eq!((marked(&silent), silent.kept, silent.requeue_after), (vec![], None, Some(POLL)));
    let link = failing(Reason::SchedulerUnreachable);
    let failed = of(Known::Nothing(link.failure.as_ref()));
    assert_eq!(marked(&failed), [0; 0]);
    let kept = failed.kept.unwrap();
    assert_eq!(kept.reason, Reason::DrainUnconfirmed);
    assert!(
        kept.message.starts_with("no answer from") && kept.message.contains("3 workers"),
        "{}",
        kept.message
    );

    assert_eq!(marked(&of(Known::NoScheduler)), [1, 2, 3], "nobody could know of anything on them");
    assert_eq!(marked(&of(Known::Members(&without_workers(&[1, 2, 3])))), [1, 2, 3], "they hold nothing");
}

#[test]
fn workers_without_digest_are_adopted() {
    let pods = vec![pod(1, PodState::Ready, None, false), pod(2, PodState::Pending, None, false)];
    let members = members(2, pods);
    assert_eq!(update(&members, NEW, &policy(1)), Update::default());
    assert_eq!(finding(&members, NEW, &policy(1), None).1.reason, Reason::UpToDate);
}

#[test]
fn on_delete_touches_nothing_and_says_so() {
    let members = members(
        2,
        vec![pod(1, PodState::Ready, Some(OLD), false), pod(2, PodState::Pending, Some(NEW), false)],
    );
    assert_eq!(update(&members, NEW, &on_delete()), Update::default());
    let (updating, finding) = finding(&members, NEW, &on_delete(), None);
    assert_eq!((updating, finding.reason), (false, Reason::UpdatedOnDelete));
    assert_eq!(
        finding.message,
        "1 of 2 workers are of an older template, such as \"w-1\", and stay until they are deleted"
    );
}

#[rstest]
#[case(&[], "2 of 3 workers are of an older template; they are replaced when enough of the others are ready")]
#[case(&[1], "2 of 3 workers are of an older template; \"w-1\" is being replaced")]
#[case(&[1, 2], "2 of 3 workers are of an older template; \"w-1\" and 1 more are being replaced")]
fn the_condition_tells_how_far_it_is(#[case] draining: &[i64], #[case] words: &str) {
    let mut pods: Vec<_> =
        (1..=2).map(|i| pod(i, PodState::Ready, Some(OLD), draining.contains(&i))).collect();
    pods.push(pod(3, PodState::Ready, Some(NEW), false));
    let (updating, finding) = finding(&members(3, pods), NEW, &policy(1), None);
    assert!(updating);
    assert_eq!((finding.reason, finding.message.as_str()), (Reason::TemplateChanged, words));
}

proptest! {
    /// Whatever the group looks like: no current worker is touched, and never do more than `maxUnavailable` drain.
    #[test]
    fn capacity_is_kept(
        pods in proptest::collection::vec((0..5_usize, any::<Option<bool>>(), any::<bool>()), 0..20),
        desired in 0..20_i32, max in 1..5_i32,
    ) {
        use PodState::{Failed, Pending, Ready, Starting, Terminating};
        let states = [Pending, Starting, Ready, Failed, Terminating];
        let pods: Vec<_> = (1..).zip(&pods).map(|(i, (state, current, marked))| {
            pod(i, states[*state], current.map(|current| if current { NEW } else { OLD }), *marked)
        }).collect();
        let members = members(desired, pods.clone());
        let update = update(&members, NEW, &policy(max));
        let max = usize::try_from(max).unwrap();
        for marking in &update.mark {
            prop_assert_eq!(marking.pod.template_hash.as_deref(), Some(OLD));
            prop_assert!(marking.pod.running && marking.pod.drain.is_none() && marking.pod.is_live());
        }
        let draining = pods.iter().filter(|pod| pod.is_live() && pod.drain.is_some()).count();
        prop_assert!(update.mark.is_empty() || draining + update.mark.len() <= max);
        let ready = pods.iter().filter(|pod| pod.state == Ready && pod.drain.is_none()).count();
        let lost = update.mark.iter().filter(|marking| marking.pod.state == Ready).count();
        let before = members.desired().saturating_sub(ready);
        prop_assert!(lost == 0 || before + lost <= max);
        for removal in &update.remove {
            let pod = pods.iter().find(|pod| *pod.name == *removal.name).unwrap();
            prop_assert!(!pod.running && pod.template_hash.as_deref() == Some(OLD));
        }
    }
}
