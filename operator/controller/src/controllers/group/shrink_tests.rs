use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::cluster_cache::records::PodState;
use crate::cluster_cache::snapshot::GroupSnapshot;
use crate::controllers::group::removal::Object;
use crate::controllers::group::testing::{
    at, failing, heard, legacy, marked, member, members, ranked, record, running, sample, snapshot,
};
use crate::scheduler_link::{Members, Sample};

/// The second at which everything is decided.
const NOW: i64 = 100;

fn group(replicas: i32, pods: Vec<PodRecord>) -> GroupSnapshot {
    snapshot(replicas, pods.into_iter().map(Arc::new).collect())
}

fn decide(snapshot: &GroupSnapshot, link: &LinkView) -> Shrink {
    decide_with(snapshot, link, &UpdatePolicy::default())
}

fn decide_with(snapshot: &GroupSnapshot, link: &LinkView, policy: &UpdatePolicy) -> Shrink {
    shrink(&Situation {
        members: &snapshot.members,
        scheduler_pods: &snapshot.scheduler_pods,
        link,
        policy,
        settling: None,
        now: at(NOW),
    })
}

fn marks(shrink: &Shrink) -> Vec<i64> {
    shrink.mark.iter().filter_map(|marking| marking.pod.ordinal).collect()
}

fn removed(shrink: &Shrink) -> Vec<(&str, &Cause)> {
    shrink.remove.iter().map(|removal| (removal.name.as_str(), &removal.cause)).collect()
}

fn reason(shrink: &Shrink) -> Option<Reason> {
    shrink.finding.as_ref().map(|finding| finding.reason)
}

fn message(shrink: &Shrink) -> &str {
    shrink.finding.as_ref().map_or("", |finding| &finding.message)
}

fn with_drains(drains: &[(i64, DrainProgress)]) -> LinkView {
    let drains = drains.iter().map(|(ordinal, progress)| (format!("uid-{ordinal}").into(), progress.clone()));
    heard(Sample { drains: drains.collect(), ..sample(NOW) })
}

fn delete_after_a_minute() -> UpdatePolicy {
    serde_json::from_value(serde_json::json!({"drainTimeout": "60s", "drainTimeoutAction": "Delete"}))
        .unwrap()
}

#[test]
fn a_group_of_the_wanted_size_is_left_alone() {
    let group = group(2, vec![running(1), running(2)]);
    assert_eq!(decide(&group, &LinkView::default()), Shrink { staying: 2, ..Shrink::default() });
}

#[test]
fn idle_workers_go_before_running_ones_and_only_as_they_were_seen() {
    let unscheduled = record(3, PodState::Pending);
    let starting = record(4, PodState::Starting);
    let group = group(1, vec![running(1), running(2), unscheduled, starting]);
    let shrink = decide(&group, &ranked(NOW, &[(1, Some(1)), (2, Some(0))]));
    assert_eq!(removed(&shrink), [("w-3", &Cause::Idle), ("w-4", &Cause::Idle)]);
    assert!(shrink.remove.iter().all(|removal| removal.version == Some(1)));
    assert_eq!(marks(&shrink), [2]);
    assert_eq!(reason(&shrink), Some(Reason::Draining));
    assert!(message(&shrink).contains("\"w-2\""), "{}", message(&shrink));
}

#[test]
fn the_cheapest_are_marked_by_the_schedulers_ranking() {
    let group = group(2, vec![running(1), running(2), running(3), running(4)]);
    let ranks = [(1, Some(3)), (2, Some(0)), (3, Some(1)), (4, Some(2)), (9, Some(4))];
    let shrink = decide(&group, &ranked(NOW, &ranks));
    assert_eq!((marks(&shrink), shrink.remove.len()), (vec![2, 3], 0));
    let mut absent = members(ranks[..3].iter().map(|&(ordinal, rank)| (ordinal, member(ordinal, rank))));
    let newer = decide(&group, &listed(absent.clone()));
    assert_eq!(
        (marks(&newer), reason(&newer)),
        (vec![], Some(Reason::Draining)),
        "the next list tells of it"
    );
    absent.insert("uid-4", vec![]);
    let nobody = decide(&group, &listed(absent));
    assert_eq!(marks(&nobody), [4, 2], "one that the scheduler does not know holds nothing");
}

fn listed(members: Members) -> LinkView {
    heard(Sample { members: Some(Arc::new(members)), ..sample(NOW) })
}

/// Pods 1 and 2 have workers, 3 and 4 may have those that fit no pod.
fn strange() -> Members {
    let mut strange = members([(1, member(1, Some(1))), (2, member(2, Some(0)))]);
    for ordinal in [3, 4] {
        strange.insert_unknown(&format!("uid-{ordinal}"));
    }
    strange.unmatched.add("mine", "tcp://10.96.0.1:4040");
    strange
}

#[test]
fn who_cannot_be_told_goes_last() {
    let group = |desired| group(desired, (1..=4).map(running).collect());
    assert_eq!(marks(&decide(&group(2), &listed(strange()))), [2, 1]);
    assert_eq!(marks(&decide(&group(1), &listed(strange()))), [2, 1, 4]);
    let protected = members([(1, member(1, None)), (2, member(2, Some(0)))]);
    let mut some = strange();
    some.insert(
        "uid-1",
        match protected.of_pod("uid-1") {
            crate::scheduler_link::PodWorkers::Known(workers) => workers.to_vec(),
            other => panic!("{other:?}"),
        },
    );
    assert_eq!(marks(&decide(&group(0), &listed(some))), [2, 4, 3], "and before who is protected");
}

#[test]
fn who_cannot_be_told_is_kept_until_its_time_is_over_and_named() {
    let group = group(2, vec![running(1), running(2), marked(3, NOW - 59), record(4, PodState::Starting)]);
    let waits = decide(&group, &listed(strange()));
    assert_eq!(removed(&waits), [("w-4", &Cause::Idle)], "nothing of it runs");
    let group = self::group(2, vec![running(1), running(2), marked(3, NOW - 60)]);
    let waits = decide(&group, &listed(strange()));
    assert_eq!((waits.remove.len(), reason(&waits)), (0, Some(Reason::DrainUnconfirmed)));
    let words = message(&waits);
    assert!(words.contains("\"w-3\"") && words.contains("\"mine\" at tcp://10.96.0.1:4040"), "{words}");
    assert!(words.contains("--name $(DASK_WORKER_NAME)"), "{words}");

    let policy = delete_after_a_minute();
    let forced = decide_with(&group, &listed(strange()), &policy);
    let [Removal { cause: Cause::Forced(loss), .. }] = &*forced.remove else { panic!("{forced:?}") };
    assert!(loss.contains("not known") && loss.contains("mine"), "{loss}");
    let keep = UpdatePolicy { drain_timeout_action: None, ..policy };
    let late = decide_with(&group, &listed(strange()), &keep);
    assert_eq!((late.remove.len(), reason(&late)), (0, Some(Reason::DrainTimedOut)));
    assert!(message(&late).contains("mine"), "{}", message(&late));
}

#[test]
fn the_worst_of_a_pods_workers_counts() {
    let group = group(1, vec![running(1), running(2)]);
    let two = [(1, member(1, Some(0))), (1, member(1, Some(2))), (2, member(2, Some(1)))];
    let link = heard(Sample { members: Some(Arc::new(members(two))), ..sample(NOW) });
    assert_eq!(marks(&decide(&group, &link)), [2]);
}

#[test]
fn protected_workers_are_spared_and_named_if_nobody_else_is_left() {
    let workers = group(1, vec![running(1), running(2), running(3)]);
    let one = decide(&workers, &ranked(NOW, &[(1, Some(0)), (2, None), (3, Some(1))]));
    assert_eq!(marks(&one), [1, 3]);
    assert_eq!(reason(&one), Some(Reason::Draining));
    let all = decide(&workers, &ranked(NOW, &[(1, None), (2, None), (3, Some(1))]));
    assert_eq!(marks(&all), [3]);
    assert_eq!(reason(&all), Some(Reason::WorkerProtected));
    assert!(message(&all).contains("\"w-1\""), "{}", message(&all));
    assert_eq!(all.requeue_after, Some(POLL));
}

#[rstest]
#[case::never_asked(LinkView::default(), Reason::Draining)]
#[case::no_ranking_yet(heard(sample(NOW)), Reason::Draining)]
#[case::an_old_ranking(ranked(NOW - 31, &[(1, Some(0)), (2, Some(1))]), Reason::Draining)]
#[case::unreachable(failing(Reason::SchedulerUnreachable), Reason::DrainUnconfirmed)]
#[case::garbled(failing(Reason::SchedulerGarbled), Reason::DrainUnconfirmed)]
#[case::not_running_but_its_pod_is(failing(Reason::SchedulerNotRunning), Reason::DrainUnconfirmed)]
fn without_the_schedulers_word_nobody_who_runs_is_touched(#[case] link: LinkView, #[case] expected: Reason) {
    let group = group(1, vec![running(1), running(2), record(3, PodState::Pending)]);
    let shrink = decide(&group, &link);
    assert_eq!((marks(&shrink), removed(&shrink)), (vec![], vec![("w-3", &Cause::Idle)]));
    assert_eq!(reason(&shrink), Some(expected), "{}", message(&shrink));
    if expected == Reason::DrainUnconfirmed {
        assert!(message(&shrink).starts_with("no answer from"), "{}", message(&shrink));
    }
}

#[test]
fn without_any_scheduler_nothing_can_be_lost() {
    let mut group = group(1, vec![running(1), marked(2, 50), running(3)]);
    group.scheduler_pods = vec![Arc::new(record(0, PodState::Pending))];
    let shrink = decide(&group, &failing(Reason::SchedulerNotRunning));
    assert_eq!(removed(&shrink), [("w-2", &Cause::SchedulerGone), ("w-3", &Cause::SchedulerGone)]);
    assert_eq!(marks(&shrink), [0; 0]);
}

#[test]
fn only_what_is_drained_is_deleted() {
    let group = group(1, vec![running(1), marked(2, 50), marked(3, 50), marked(4, 50), marked(5, 50)]);
    let drains = [
        (2, DrainProgress::Drained),
        (3, DrainProgress::Closing),
        (4, DrainProgress::Finishing { executing: 2 }),
    ];
    let shrink = decide(&group, &with_drains(&drains));
    assert_eq!(removed(&shrink), [("w-2", &Cause::Drained)]);
    assert_eq!((shrink.staying, marks(&shrink), reason(&shrink)), (1, vec![], Some(Reason::Draining)));
    let old = heard(Sample { drains: [("uid-2".into(), DrainProgress::Drained)].into(), ..sample(NOW - 31) });
    assert!(decide(&group, &old).remove.is_empty(), "it may have started again since");
}

#[rstest]
#[case(None, "is to hand over")]
#[case(Some(DrainProgress::Fencing), "hands over its results")]
#[case(Some(DrainProgress::Finishing { executing: 1 }), "finishes 1 task")]
#[case(Some(DrainProgress::Finishing { executing: 7 }), "finishes 7 tasks")]
#[case(Some(DrainProgress::Closing), "last results")]
fn progress_is_told(#[case] progress: Option<DrainProgress>, #[case] words: &str) {
    let group = group(1, vec![running(1), marked(2, 50)]);
    let drains: Vec<_> = progress.into_iter().map(|progress| (2, progress)).collect();
    let shrink = decide(&group, &with_drains(&drains));
    assert!(message(&shrink).contains(words) && message(&shrink).contains("\"w-2\""), "{}", message(&shrink));
}

#[test]
fn a_marked_worker_stays_chosen_and_one_that_stopped_goes() {
    let stopped = PodRecord { running: false, state: PodState::Starting, ..marked(3, 50) };
    let group = group(3, vec![running(1), marked(2, 50), stopped]);
    let shrink = decide(&group, &with_drains(&[]));
    assert_eq!((marks(&shrink), shrink.unmark.len(), shrink.staying), (vec![], 0, 1));
    assert_eq!(removed(&shrink), [("w-3", &Cause::Idle)]);
    assert_eq!(shrink.remove[0].version, Some(1), "it may start again in this moment");
}

#[test]
fn others_go_in_place_of_a_refused_worker_which_then_is_a_member_again() {
    let refused = DrainProgress::Refused { message: "it holds an actor".to_owned(), fenced: false };
    let link = |drains: &[(i64, DrainProgress)]| {
        let mut view = ranked(NOW, &[(1, Some(1)), (3, Some(2))]);
        let sample = Arc::make_mut(view.sample.as_mut().unwrap());
        sample.drains = drains.iter().map(|(o, p)| (format!("uid-{o}").into(), p.clone())).collect();
        view
    };
    let two = group(2, vec![running(1), marked(2, 50), running(3)]);
    let first = decide(&two, &link(&[(2, refused.clone())]));
    assert_eq!((marks(&first), reason(&first), first.staying), (vec![1], Some(Reason::DrainRefused), 3));
    assert!(message(&first).contains("it holds an actor"), "{}", message(&first));

    let gone = group(2, vec![marked(2, 50), running(3)]);
    let second = decide(&gone, &link(&[(2, refused.clone())]));
    assert_eq!(second.unmark.iter().map(|pod| &*pod.name).collect::<Vec<_>>(), ["w-2"]);
    assert_eq!((marks(&second), second.staying, second.finding), (vec![], 2, None));

    let none = group(0, vec![marked(2, 50)]);
    let last = decide(&none, &link(&[(2, refused)]));
    assert_eq!((last.unmark.len(), reason(&last)), (0, Some(Reason::DrainRefused)));
}

/// Its mark must stay: it would be taken for a worker and never get a task again.
#[test]
fn a_worker_that_was_refused_after_its_fence_is_replaced_not_kept() {
    let refused = DrainProgress::Refused { message: "nobody can take its data".to_owned(), fenced: true };
    let mut link = ranked(NOW, &[(1, Some(1))]);
    Arc::make_mut(link.sample.as_mut().unwrap()).drains = [("uid-2".into(), refused)].into();
    let wanted = decide(&group(2, vec![running(1), marked(2, 50)]), &link);
    assert_eq!((wanted.unmark.len(), wanted.staying), (0, 1), "another one is made");
    assert_eq!(reason(&wanted), Some(Reason::DrainRefused));
    let too_many = decide(&group(1, vec![running(1), marked(2, 50)]), &link);
    assert_eq!((marks(&too_many), too_many.staying), (vec![], 1), "nobody goes in its place");
}

#[test]
fn a_late_worker_is_kept_unless_the_policy_says_otherwise() {
    let group = group(1, vec![running(1), marked(2, NOW - 60)]);
    let mut link = ranked(NOW, &[(1, Some(0))]);
    let sample = Arc::make_mut(link.sample.as_mut().unwrap());
    sample.drains = [("uid-2".into(), DrainProgress::Finishing { executing: 1 })].into();
    let mut held = member(2, Some(1));
    (held.executing, held.bytes) = (1, 5 << 20);
    sample.members = Some(Arc::new(members([(2, held)])));

    let policy = delete_after_a_minute();
    let forced = decide_with(&group, &link, &policy);
    let [Removal { cause: Cause::Forced(loss), .. }] = &*forced.remove else { panic!("{forced:?}") };
    assert!(loss.contains("1 running tasks") && loss.contains("5 MiB"), "{loss}");

    let keep = UpdatePolicy { drain_timeout_action: None, ..policy.clone() };
    let kept = decide_with(&group, &link, &keep);
    assert_eq!((kept.remove.len(), reason(&kept)), (0, Some(Reason::DrainTimedOut)));
    assert!(message(&kept).contains("finishes 1 task"), "{}", message(&kept));

    let unreachable = decide_with(&group, &failing(Reason::SchedulerUnreachable), &policy);
    assert!(matches!(unreachable.remove[0].cause, Cause::Forced(_)), "the deadline is the user's word");
    let early = group_marked_at(NOW - 59);
    assert!(decide_with(&early, &link, &policy).remove.is_empty());
}

fn group_marked_at(second: i64) -> GroupSnapshot {
    group(1, vec![running(1), marked(2, second)])
}

#[test]
fn nobody_is_taken_away_for_a_number_that_has_not_stood() {
    let group = group(0, vec![running(1), record(2, PodState::Pending), marked(3, 50)]);
    let link = ranked(NOW, &[(1, Some(0))]);
    let shrink = shrink(&Situation {
        members: &group.members,
        scheduler_pods: &group.scheduler_pods,
        link: &link,
        policy: &UpdatePolicy::default(),
        settling: Some(Duration::from_millis(300)),
        now: at(NOW),
    });
    assert_eq!((marks(&shrink), removed(&shrink)), (vec![], vec![]));
    assert_eq!(shrink.requeue_after, Some(Duration::from_millis(300)));
}

#[test]
fn a_worker_of_the_python_operator_is_drained_and_its_deployment_deleted() {
    let mut workers = group(1, vec![running(1)]);
    workers.members.legacy = vec![legacy(&[PodState::Ready])];
    let pod = workers.members.legacy[0].pods[0].clone();
    let link = ranked(NOW, &[(1, Some(1)), (100, Some(0))]);
    let first = decide(&workers, &link);
    assert_eq!(first.mark, [Marking { pod: pod.clone(), reason: Reason::ScaledDown }]);

    let intent = marked(1, 50).drain;
    workers.members.legacy[0].pods = vec![Arc::new(PodRecord { drain: intent, ..PodRecord::clone(&pod) })];
    let waiting = decide(&workers, &link);
    assert_eq!((waiting.mark.len(), waiting.remove.len(), waiting.staying), (0, 0, 1));
    let drained = [(pod.uid.clone(), DrainProgress::Drained)];
    let link = heard(Sample { drains: BTreeMap::from(drained), ..sample(NOW) });
    let last = decide(&workers, &link);
    assert_eq!(removed(&last), [("old-1", &Cause::Drained)]);
    assert_eq!((last.remove[0].object, last.remove[0].version), (Object::Deployment, None));
}

#[test]
fn a_deployment_without_a_running_pod_goes_at_once_unless_its_pods_are_unknown() {
    let mut workers = group(1, vec![running(1)]);
    workers.members.legacy = vec![legacy(&[PodState::Pending])];
    let link = ranked(NOW, &[(1, Some(1))]);
    let idle = decide(&workers, &link);
    assert_eq!(removed(&idle), [("old-1", &Cause::Idle)]);

    workers.members.legacy[0].pods.clear();
    let mut none = workers.clone();
    Arc::make_mut(&mut none.members.group).spec.worker.replicas = 0;
    let opaque = decide(&none, &link);
    assert_eq!((marks(&opaque), removed(&opaque)), (vec![1], vec![]));
    assert_eq!(reason(&opaque), Some(Reason::DrainUnconfirmed));
    assert!(message(&opaque).contains("old-1"), "{}", message(&opaque));
}

/// A worker: 0 without a node, 1 starting, 2 running, 3 marked; its rank or protection; how its drain comes on.
type Worker = (u8, Option<u32>, u8);

fn drain(number: u8) -> Option<DrainProgress> {
    match number {
        0 => Some(DrainProgress::Drained),
        1 => Some(DrainProgress::Finishing { executing: 1 }),
        2 => Some(DrainProgress::Refused { message: "no".to_owned(), fenced: false }),
        _ => None,
    }
}

fn build(desired: i32, workers: &[Worker], link_state: u8) -> (GroupSnapshot, LinkView) {
    let pods = (1..).zip(workers).map(|(ordinal, (kind, ..))| match kind {
        0 => record(ordinal, PodState::Pending),
        1 => record(ordinal, PodState::Starting),
        2 => running(ordinal),
        _ => marked(ordinal, NOW - 10),
    });
    let group = group(desired, pods.collect());
    let ranks: Vec<_> = (1..).zip(workers).map(|(ordinal, (_, rank, _))| (ordinal, *rank)).collect();
    let mut link = match link_state {
        0 => failing(Reason::SchedulerUnreachable),
        1 => heard(sample(NOW)),
        2 => ranked(NOW - 60, &ranks),
        _ => ranked(NOW, &ranks),
    };
    if let Some(sample) = &mut link.sample {
        let drains = (1..).zip(workers).filter(|(_, (kind, ..))| *kind > 2);
        let drains = drains.filter_map(|(o, (.., d))| Some((format!("uid-{o}").into(), drain(*d)?)));
        Arc::make_mut(sample).drains = drains.collect();
    }
    (group, link)
}

proptest! {
    #[test]
    fn never_too_many_never_a_protected_one_never_without_the_schedulers_word(
        desired in 0..12_i32,
        workers in proptest::collection::vec((0..4_u8, proptest::option::weighted(0.8, 0..20_u32), 0..4_u8), 0..16),
        link_state in 0..5_u8,
    ) {
        let (group, link) = build(desired, &workers, link_state);
        let result = decide(&group, &link);
        let wanted = usize::try_from(desired).unwrap();
        let pod = |name: &str| group.members.workers.iter().find(|pod| *pod.name == *name).unwrap().clone();
        let worker = |pod: &PodRecord| workers[usize::try_from(pod.ordinal.unwrap()).unwrap() - 1];

        // Of the workers that are not marked, as many stay as are wanted.
        let unmarked = group.members.unmarked();
        let taken: BTreeSet<_> = result.mark.iter().map(|marking| marking.pod.name.clone())
            .chain(result.remove.iter().map(|removal| pod(&removal.name)).filter(|pod| pod.drain.is_none()).map(|pod| pod.name.clone()))
            .collect();
        prop_assert!(taken.len() <= result.staying.saturating_sub(wanted), "{result:?}");
        prop_assert!(result.staying - taken.len() >= wanted.min(unmarked));
        prop_assert_eq!(taken.len(), result.mark.len() + result.remove.iter().filter(|r| pod(&r.name).drain.is_none()).count());

        // Nobody who runs is deleted without the scheduler's confirmation, of now.
        for removal in &result.remove {
            let pod = pod(&removal.name);
            if pod.running {
                prop_assert!(removal.cause == Cause::Drained && worker(&pod).2 == 0 && ![0, 2].contains(&link_state));
            } else {
                prop_assert_eq!(removal.version, Some(1));
            }
        }
        // Nobody is marked without a ranking, nor against it, nor while somebody idle could go.
        for marking in &result.mark {
            prop_assert!(link_state > 2 && worker(&marking.pod).1.is_some() && marking.pod.running);
        }
        let spared_idle = group.members.workers.iter().any(|p| !p.running && result.remove.iter().all(|r| *r.name != *p.name));
        prop_assert!(result.mark.is_empty() || !spared_idle);
        let rank = |pod: &PodRecord| worker(pod).1;
        let spared = group.members.workers.iter()
            .filter(|p| p.running && p.drain.is_none() && result.mark.iter().all(|m| m.pod.uid != p.uid))
            .filter_map(|pod| rank(pod)).min();
        let dearest = result.mark.iter().filter_map(|marking| rank(&marking.pod)).max();
        prop_assert!(dearest.is_none() || spared.is_none() || dearest <= spared);
        // Whoever has to go and is still there is explained, and looked after again.
        if result.staying > wanted + taken.len() {
            prop_assert!(result.finding.is_some() && result.requeue_after.is_some());
        }
    }
}
