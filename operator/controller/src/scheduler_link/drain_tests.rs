use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
}

fn pod() -> PodFacts {
    PodFacts { uid: "u".into(), name: "w".into(), running: true, ended: false, marked: true }
}

fn worker(port: u16, standing: Standing, executing: u64, heartbeat: f64) -> Seen {
    let processing = None;
    let (actors, keys) = (0, 0);
    Seen { address: address(port), standing, executing, processing, actors, keys, heartbeat: Some(heartbeat) }
}

fn address(port: u16) -> Box<str> {
    format!("tcp://10.0.0.7:{port}").into()
}

/// A drain and the time, in milliseconds.
struct Play {
    drain: Drain,
    pod: PodFacts,
    time: i64,
    others: usize,
    /// Workers that fit no pod are registered.
    unknown: bool,
}

impl Play {
    fn new() -> Self {
        Self { drain: Drain::default(), pod: pod(), time: 100_000, others: 1, unknown: false }
    }

    fn look(&mut self, workers: &[Seen]) -> Option<(How, usize)> {
        let of = OfPod { workers, unknown: self.unknown && workers.is_empty(), others: self.others };
        let round = Round { asked: at(self.time), of, scheduler_since: at(0) };
        self.time += 250;
        let retire = self.drain.look(&self.pod, round, at(self.time))?;
        assert!(!retire.addresses.is_empty(), "never without a selector");
        self.drain.asked(retire.how);
        Some((retire.how, retire.addresses.len()))
    }

    fn answer(&mut self, how: How, ports: &[u16], confirmed: &[u16]) {
        let asked: Vec<_> = ports.iter().map(|port| address(*port)).collect();
        let confirmed = confirmed.iter().map(|port| address(*port).into()).collect();
        self.drain.answered(how, &asked, &Answer::Confirmed(confirmed), at(self.time));
    }

    fn fail(&mut self, how: How) {
        self.drain.answered(how, &[address(1)], &Answer::Failed, at(self.time));
    }

    fn progress(&self) -> Option<DrainProgress> {
        self.drain.progress()
    }
}

fn refused(progress: Option<DrainProgress>) -> String {
    match progress {
        Some(DrainProgress::Refused { message, .. }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn fence_finish_close() {
    let mut play = Play::new();
    assert_eq!(play.progress(), None);
    assert_eq!(play.look(&[worker(1, Standing::Running, 2, 10.0)]), Some((How::Fence, 1)));
    assert_eq!(play.progress(), Some(DrainProgress::Fencing));
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 2, 10.0)]), None, "the call is under way");
    play.answer(How::Fence, &[1], &[1]);
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 2, 10.5)]), None);
    assert_eq!(play.progress(), Some(DrainProgress::Finishing { executing: 2 }));
    play.time += 5_000;
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 1, 15.0)]), None);
    assert_eq!(play.progress(), Some(DrainProgress::Finishing { executing: 1 }));
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 0, 15.5)]), Some((How::Close, 1)));
    assert_eq!(play.progress(), Some(DrainProgress::Closing));
    play.answer(How::Close, &[1], &[1]);
    assert_eq!(play.progress(), Some(DrainProgress::Drained));
}

#[test]
fn a_count_is_believed_only_after_a_heartbeat_and_a_moment() {
    let mut play = Play::new();
    play.look(&[worker(1, Standing::Running, 0, 10.0)]);
    play.answer(How::Fence, &[1], &[1]);
    for _ in 0..3 {
        assert_eq!(play.look(&[worker(1, Standing::Fenced, 0, 10.0)]), None);
    }
    play.time += 10_000;
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 0, 10.0)]), None, "an old heartbeat tells nothing");
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 0, 10.5)]), Some((How::Close, 1)));

    let mut hasty = Play::new();
    hasty.look(&[worker(1, Standing::Running, 0, 10.0)]);
    hasty.answer(How::Fence, &[1], &[1]);
    hasty.look(&[worker(1, Standing::Fenced, 0, 10.0)]);
    assert_eq!(
        hasty.look(&[worker(1, Standing::Fenced, 0, 10.1)]),
        None,
        "a heartbeat on its way before the fence"
    );
}

#[test]
fn a_worker_that_was_given_nothing_is_closed_at_once() {
    let mut play = Play::new();
    let seen = |standing, processing| Seen { processing, ..worker(1, standing, 0, 10.0) };
    play.look(&[seen(Standing::Running, Some(0))]);
    play.answer(How::Fence, &[1], &[1]);
    assert_eq!(play.look(&[seen(Standing::Fenced, Some(1))]), None, "a task came before the fence");
    assert_eq!(play.look(&[seen(Standing::Fenced, None)]), None);
    assert_eq!(play.look(&[seen(Standing::Fenced, Some(0))]), Some((How::Close, 1)));

    // What it was given and has not begun runs elsewhere.
    let mut waits = Play::new();
    waits.look(&[seen(Standing::Running, Some(2))]);
    waits.answer(How::Fence, &[1], &[1]);
    waits.look(&[seen(Standing::Fenced, Some(2))]);
    waits.time += 2_000;
    let idle = Seen { processing: Some(2), ..worker(1, Standing::Fenced, 0, 12.0) };
    assert_eq!(waits.look(&[idle]), Some((How::Close, 1)));
}

#[test]
fn a_refused_worker_is_asked_again_when_it_works_again() {
    let mut play = Play::new();
    play.look(&[worker(1, Standing::Running, 0, 1.0)]);
    play.answer(How::Fence, &[1], &[]);
    play.time += 5_000;
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 0, 6.0)]), None, "its fence is not taken back yet");
    assert!(matches!(play.progress(), Some(DrainProgress::Refused { .. })));
    assert_eq!(play.look(&[worker(1, Standing::Running, 0, 6.5)]), Some((How::Fence, 1)));

    let mut stuck = Play::new();
    stuck.look(&[worker(1, Standing::Running, 0, 1.0)]);
    stuck.answer(How::Fence, &[1], &[]);
    stuck.time += 90_000;
    stuck.look(&[worker(1, Standing::Fenced, 0, 91.0)]);
    stuck.time += 2_000;
    assert_eq!(stuck.look(&[worker(1, Standing::Fenced, 0, 93.0)]), Some((How::Close, 1)), "not for ever");
}

/// Its last result came between fence and close, when nobody else was running: Dask leaves it fenced.
#[test]
fn a_worker_that_may_not_be_closed_is_asked_again_though_it_stays_fenced() {
    let mut play = Play::new();
    let idle = |standing| Seen { processing: Some(0), ..worker(1, standing, 0, 1.0) };
    play.look(&[idle(Standing::Running)]);
    play.answer(How::Fence, &[1], &[1]);
    assert_eq!(play.look(&[idle(Standing::Fenced)]), Some((How::Close, 1)));
    play.answer(How::Close, &[1], &[]);
    assert!(play.drain.has_no_way_back(), "it is fenced");
    assert_eq!(play.look(&[idle(Standing::Fenced)]), None);
    assert!(matches!(play.progress(), Some(DrainProgress::Refused { fenced: true, .. })));
    play.time += 5_000;
    assert_eq!(play.look(&[idle(Standing::Fenced)]), Some((How::Close, 1)));
    play.answer(How::Close, &[1], &[1]);
    assert_eq!(play.progress(), Some(DrainProgress::Drained));
}

#[test]
fn all_workers_of_a_pod_go_together() {
    let mut play = Play::new();
    let both = |standing, a, b, beat| [worker(1, standing, a, beat), worker(2, standing, b, beat)];
    assert_eq!(play.look(&both(Standing::Running, 0, 1, 1.0)), Some((How::Fence, 2)));
    play.answer(How::Fence, &[1, 2], &[2, 1]);
    play.look(&both(Standing::Fenced, 0, 1, 2.0));
    play.time += 2_000;
    assert_eq!(play.look(&both(Standing::Fenced, 0, 1, 3.0)), None, "one of them still works");
    assert_eq!(play.look(&both(Standing::Fenced, 0, 0, 4.0)), Some((How::Close, 2)));
    play.answer(How::Close, &[1, 2], &[1]);
    assert!(refused(play.progress()).contains("10.0.0.7:2"), "one was not confirmed");
}

#[rstest]
#[case::actor(1, 1, "holds an actor")]
#[case::last(0, 0, "no other running worker")]
#[case::unknown(0, 1, "an actor, or no running worker")]
fn a_refusal_says_why_and_is_tried_again(#[case] actors: u64, #[case] others: usize, #[case] words: &str) {
    let mut play = Play::new();
    play.others = others;
    let seen = Seen { actors, ..worker(1, Standing::Running, 0, 1.0) };
    play.look(std::slice::from_ref(&seen));
    play.answer(How::Fence, &[1], &[]);
    assert!(refused(play.progress()).contains(words));
    assert!(!play.drain.has_no_way_back(), "it works on, so the mark can be taken back");
    assert_eq!(play.look(std::slice::from_ref(&seen)), None);
    play.time += 5_000;
    assert_eq!(play.look(std::slice::from_ref(&seen)), Some((How::Fence, 1)));
    assert!(refused(play.progress()).contains(words), "the words stand until it agrees");
    play.answer(How::Fence, &[1], &[1]);
    assert_eq!(play.progress(), Some(DrainProgress::Finishing { executing: 0 }));
}

#[test]
fn a_lost_answer_is_found_in_the_list() {
    let mut play = Play::new();
    play.look(&[worker(1, Standing::Running, 0, 1.0)]);
    play.fail(How::Fence);
    assert_eq!(play.progress(), Some(DrainProgress::Fencing));
    play.time += 1_000;
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 0, 2.0)]), None, "fenced after all");
    play.time += 2_000;
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 0, 4.0)]), Some((How::Close, 1)));
    assert!(play.drain.alone, "not together with others again");
    play.fail(How::Close);
    play.look(&[]);
    assert_eq!(play.progress(), Some(DrainProgress::Drained), "closed after all");
}

#[test]
fn a_fence_that_was_not_heard_is_asked_for_again() {
    let mut play = Play::new();
    play.look(&[worker(1, Standing::Running, 0, 1.0)]);
    play.fail(How::Fence);
    assert_eq!(play.look(&[worker(1, Standing::Running, 0, 2.0)]), None, "not at once");
    play.time += 1_000;
    assert_eq!(play.look(&[worker(1, Standing::Running, 0, 2.0)]), Some((How::Fence, 1)));
}

#[test]
fn an_operator_that_restarted_goes_on_where_it_was() {
    let mut play = Play::new();
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 1, 1.0)]), None);
    assert_eq!(play.progress(), Some(DrainProgress::Finishing { executing: 1 }));
    assert!(play.drain.has_no_way_back());
    play.time += 2_000;
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 0, 2.0)]), Some((How::Close, 1)));
}

#[rstest]
#[case::never_ran(false, 1_000)]
#[case::runs(true, 12_000)]
fn an_unknown_pod_is_drained_when_it_can_no_longer_be_about_to_register(
    #[case] running: bool,
    #[case] latest: i64,
) {
    let mut play = Play::new();
    play.pod.running = running;
    play.look(&[]);
    assert_eq!(play.progress(), None, "one round is not enough");
    let start = play.time;
    while play.progress().is_none() {
        assert!(play.time - start < latest);
        play.look(&[]);
    }
    assert!(!running || play.time - start >= 10_000);
    assert_eq!(
        play.look(&[worker(1, Standing::Running, 0, 1.0)]),
        Some((How::Fence, 1)),
        "it came up after all"
    );
    assert_eq!(play.progress(), Some(DrainProgress::Fencing));
}

#[test]
fn what_cannot_be_told_is_not_drained() {
    let mut play = Play { unknown: true, ..Play::new() };
    for _ in 0..10 {
        play.time += 10_000;
        assert_eq!((play.look(&[]), play.progress()), (None, None));
    }
    play.look(&[worker(1, Standing::Running, 0, 1.0)]);
    play.answer(How::Fence, &[1], &[1]);
    play.look(&[worker(1, Standing::Fenced, 0, 1.0)]);
    for _ in 0..10 {
        play.time += 10_000;
        play.look(&[]);
        assert!(!play.drain.is_over(), "its process may be starting again under another name");
    }
    play.look(&[worker(2, Standing::Fenced, 0, 1.0)]);
    play.time += 10_000;
    assert_eq!(play.look(&[worker(2, Standing::Fenced, 0, 2.0)]), Some((How::Close, 1)));
    play.fail(How::Close);
    play.look(&[]);
    assert_eq!(play.progress(), Some(DrainProgress::Drained), "its end was asked for");
    play.look(&[]);
    assert_eq!(play.progress(), Some(DrainProgress::Drained));
}

#[test]
fn a_pod_that_begins_to_run_after_it_was_found_empty_gets_its_time() {
    let mut play = Play::new();
    play.pod.running = false;
    play.look(&[]);
    play.look(&[]);
    assert_eq!(play.progress(), Some(DrainProgress::Drained));
    play.pod.running = true;
    play.look(&[]);
    assert_eq!(play.progress(), None);
    play.time += 10_000;
    play.look(&[]);
    assert_eq!(play.progress(), Some(DrainProgress::Drained));
}

/// What an earlier operator fenced stays fenced when the rest is refused.
#[test]
fn a_partly_fenced_pod_has_no_way_back() {
    let mut play = Play::new();
    let both = [worker(1, Standing::Fenced, 0, 1.0), worker(2, Standing::Running, 0, 1.0)];
    assert_eq!(play.look(&both), Some((How::Fence, 2)));
    play.answer(How::Fence, &[1, 2], &[]);
    assert!(play.drain.has_no_way_back());
    assert!(matches!(play.progress(), Some(DrainProgress::Refused { fenced: true, .. })));
}

#[test]
fn a_scheduler_that_has_just_started_does_not_know_its_workers_yet() {
    let mut drain = Drain::default();
    let look = |drain: &mut Drain, time| {
        let round = Round { asked: at(time), of: OfPod::default(), scheduler_since: at(50_000) };
        drain.look(&pod(), round, at(time));
        drain.progress()
    };
    for time in [0, 20_000, 40_000, 59_000] {
        assert_eq!(look(&mut drain, time), None, "{time}");
    }
    assert_eq!(look(&mut drain, 60_000), Some(DrainProgress::Drained));
}

#[test]
fn a_frozen_worker_is_told_of() {
    let mut play = Play::new();
    play.look(&[worker(1, Standing::Running, 1, 1.0)]);
    play.answer(How::Fence, &[1], &[1]);
    play.look(&[worker(1, Standing::Fenced, 1, 1.0)]);
    play.time += 31_000;
    assert_eq!(play.look(&[worker(1, Standing::Fenced, 1, 1.0)]), None);
    assert!(refused(play.progress()).contains("no heartbeats"));
    assert!(play.drain.has_no_way_back());
    play.look(&[worker(1, Standing::Fenced, 1, 40.0)]);
    assert_eq!(play.progress(), Some(DrainProgress::Finishing { executing: 1 }), "it lives");
}

#[test]
fn a_restarted_process_of_the_pod_is_fenced_too() {
    let mut play = Play::new();
    play.look(&[worker(1, Standing::Running, 0, 1.0)]);
    play.answer(How::Fence, &[1], &[1]);
    play.look(&[worker(1, Standing::Fenced, 0, 1.0)]);
    let both = [worker(1, Standing::Fenced, 0, 2.0), worker(2, Standing::Running, 0, 2.0)];
    assert_eq!(play.look(&both), Some((How::Fence, 2)));
}

#[test]
fn a_list_from_before_the_answer_does_not_count() {
    let mut play = Play::new();
    play.look(&[worker(1, Standing::Running, 0, 1.0)]);
    play.answer(How::Fence, &[1], &[1]);
    let workers = [worker(1, Standing::Running, 0, 1.0)];
    let of = OfPod { workers: &workers, unknown: false, others: 1 };
    let round = Round { asked: at(0), of, scheduler_since: at(0) };
    assert_eq!(play.drain.look(&pod(), round, at(play.time)), None);
    assert_eq!(play.progress(), Some(DrainProgress::Finishing { executing: 0 }));
}

#[test]
fn an_ended_pod_and_a_closing_worker_need_nothing() {
    let mut play = Play::new();
    assert_eq!(play.look(&[worker(1, Standing::Closing, 1, 1.0)]), None);
    assert_eq!(play.progress(), None);
    play.pod.ended = true;
    assert_eq!(play.look(&[worker(1, Standing::Running, 1, 1.0)]), None);
    assert_eq!(play.progress(), Some(DrainProgress::Drained));
}

#[test]
fn dask_without_a_status_is_drained_by_its_confirmations() {
    let mut play = Play::new();
    assert_eq!(play.look(&[worker(1, Standing::Untold, 0, 1.0)]), Some((How::Fence, 1)));
    play.answer(How::Fence, &[1], &[1]);
    assert_eq!(play.look(&[worker(1, Standing::Untold, 0, 1.0)]), None);
    play.time += 2_000;
    assert_eq!(play.look(&[worker(1, Standing::Untold, 0, 2.0)]), Some((How::Close, 1)));
}

proptest! {
    /// Whatever is seen and answered: a pod with workers is drained only by a confirmed close, and a close is asked
    /// for only when all of them are fenced and idle.
    #[test]
    fn nothing_is_closed_that_works(script in proptest::collection::vec((0_u8..6, 0_u64..2, any::<bool>(), 0_u16..4_000), 1..60)) {
        let mut play = Play::new();
        let mut beat = 1.0;
        for (kind, executing, confirm, pause) in script {
            beat += f64::from(pause) / 1_000.0;
            play.time += i64::from(pause);
            let standing = [Standing::Running, Standing::Paused, Standing::Fenced, Standing::Fenced, Standing::Fenced, Standing::Closing][usize::from(kind)];
            let seen = worker(1, standing, executing, beat);
            match play.look(std::slice::from_ref(&seen)) {
                Some((How::Close, _)) => {
                    prop_assert_eq!((standing, executing), (Standing::Fenced, 0));
                    let confirmed: &[u16] = if confirm { &[1] } else { &[] };
                    play.answer(How::Close, &[1], confirmed);
                    prop_assert_eq!(play.progress() == Some(DrainProgress::Drained), confirm);
                }
                Some((How::Fence, _)) => {
                    prop_assert!(standing != Standing::Fenced);
                    if confirm { play.answer(How::Fence, &[1], &[1]) } else { play.fail(How::Fence) }
                    prop_assert_ne!(play.progress(), Some(DrainProgress::Drained));
                }
                None => {}
            }
        }
    }
}

#[test]
fn refusals_become_rare_until_something_changes() {
    let mut play = Play::new();
    play.others = 0;
    let busy = [worker(1, Standing::Running, 0, 10.0)];
    let mut waits = Vec::new();
    for _ in 0..6 {
        let begun = play.time;
        while play.look(&busy).is_none() {}
        waits.push((play.time - begun) / 1000);
        play.answer(How::Fence, &[1], &[]);
    }
    assert_eq!(waits, [0, 5, 10, 20, 40, 80]);
    play.time += 5_000;
    assert_eq!(play.look(&busy), None, "the same as before");
    play.others = 1;
    assert_eq!(play.look(&busy), Some((How::Fence, 1)), "another worker could take the data now");
}

#[test]
fn calls_that_fail_become_rare() {
    let mut play = Play::new();
    let busy = [worker(1, Standing::Running, 0, 10.0)];
    let mut waits = Vec::new();
    for _ in 0..5 {
        let begun = play.time;
        while play.look(&busy).is_none() {}
        waits.push((play.time - begun) / 1000);
        play.fail(How::Fence);
    }
    assert_eq!(waits, [0, 1, 2, 4, 8]);
}
