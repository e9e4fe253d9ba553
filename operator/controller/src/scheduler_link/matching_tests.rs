use dask_protocol::WorkerStatus;
use rstest::rstest;

use super::*;
use crate::controllers::cluster::testing::made;
use crate::controllers::group::testing::{legacy, record};
use crate::scheduler_link::testing;

fn pod(name: &str, addresses: &[&str]) -> PodRecord {
    let mut addresses = addresses.iter().map(|address| Box::from(*address));
    PodRecord {
        name: name.into(),
        uid: format!("{name}-uid").into(),
        ip: addresses.next(),
        other_ips: addresses.collect(),
        ..record(1, PodState::Ready)
    }
}

fn candidates(pods: Vec<PodRecord>) -> Candidates {
    let pods = pods.into_iter().map(|pod| Candidate { pod: Arc::new(pod), deployment: None }).collect();
    Candidates { pods, prefixes: HashSet::from(["g-worker".to_owned()]) }
}

fn worker(name: &str, address: &str) -> WorkerState {
    testing::worker(name, address, WorkerStatus::Running)
}

/// Two pods `w` and `x`, and this worker.
fn place(pods: Vec<PodRecord>, name: &str, address: &str) -> Place {
    matching(&candidates(pods), &[worker(name, address)]).places[0]
}

#[rstest]
#[case::the_name("w", "tcp://10.96.0.9:1", Place::Pod(0))]
#[case::one_of_several_of_a_command("w-3", "tcp://10.96.0.9:1", Place::Pod(0))]
#[case::the_name_before_the_address("w", "tcp://10.0.0.2:1", Place::Pod(0))]
#[case::the_address("mine", "tcp://10.0.0.2:1", Place::Pod(1))]
#[case::tls("mine", "tls://10.0.0.2:1", Place::Pod(1))]
#[case::the_second_address("mine", "tcp://[fd00::2]:1", Place::Pod(1))]
#[case::written_another_way("mine", "tcp://[fd00:0:0::0002]:1", Place::Pod(1))]
#[case::ipv4_in_ipv6("mine", "tcp://[::ffff:10.0.0.2]:1", Place::Pod(1))]
#[case::a_zone("mine", "tcp://[fd00::2%eth0]:1", Place::Pod(1))]
#[case::without_a_name("tcp://10.0.0.2:33", "tcp://10.96.0.9:1", Place::Pod(1))]
#[case::no_number("w-a", "tcp://10.96.0.9:1", Place::Nowhere)]
#[case::a_strange_name_and_address("mine", "tcp://10.96.0.9:1", Place::Nowhere)]
#[case::not_an_address("mine", "inproc://10.0.0.2/1/2", Place::Nowhere)]
#[case::nothing("", "", Place::Nowhere)]
#[case::an_address_that_is_none("w", "", Place::Nowhere)]
#[case::gone("g-worker-0a1b2c3d4e", "tcp://10.96.0.9:1", Place::Elsewhere)]
#[case::one_of_several_that_are_gone("g-worker-0a1b2c3d4e-0", "tcp://10.96.0.9:1", Place::Elsewhere)]
#[case::gone_and_its_address_was_given_to_another(
    "g-worker-0a1b2c3d4e",
    "tcp://10.0.0.2:1",
    Place::Elsewhere
)]
#[case::of_a_group_that_is_not_here("h-worker-0a1b2c3d4e", "tcp://10.96.0.9:1", Place::Nowhere)]
fn by_name_then_by_address(#[case] name: &str, #[case] address: &str, #[case] expected: Place) {
    let pods = vec![pod("w", &["10.0.0.1"]), pod("x", &["10.0.0.2", "fd00::2"])];
    assert_eq!(place(pods, name, address), expected);
}

#[test]
fn the_whole_name_wins_over_a_number_at_its_end() {
    assert_eq!(place(vec![pod("w", &[]), pod("w-1", &[])], "w-1", "tcp://10.96.0.9:1"), Place::Pod(1));
}

/// The first family is IPv6, and Dask takes the IPv4 address of the host's name.
#[test]
fn an_ipv6_first_pod_is_found_by_any_of_its_addresses_and_else_by_name() {
    let dual = || vec![pod("w", &["fd00::7", "10.0.0.7"])];
    assert_eq!(place(dual(), "mine", "tcp://10.0.0.7:1"), Place::Pod(0));
    let only_ipv6 = || vec![pod("w", &["fd00::7"])];
    assert_eq!(place(only_ipv6(), "w", "tcp://127.0.0.9:1"), Place::Pod(0));
    assert_eq!(place(only_ipv6(), "mine", "tcp://127.0.0.9:1"), Place::Nowhere);
}

#[test]
fn pods_of_one_address_are_told_by_name_or_not_at_all() {
    let pods = candidates(["a", "b", "c"].map(|name| pod(name, &["10.0.0.1"])).into());
    let named = ["b", "a", "c"].map(|name| worker(name, "tcp://10.0.0.1:1"));
    let Matching { places, unclear } = matching(&pods, &named);
    assert_eq!(places, [Place::Pod(1), Place::Pod(0), Place::Pod(2)]);
    assert_eq!(unclear, [false; 3]);
    let nameless = ["x", "y", "c"].map(|name| worker(name, "tcp://10.0.0.1:1"));
    let Matching { places, unclear } = matching(&pods, &nameless);
    assert_eq!(places, [Place::Nowhere, Place::Nowhere, Place::Pod(2)]);
    assert_eq!(unclear, [true; 3], "that of c is known all the same");
}

#[test]
fn an_address_belongs_to_who_still_runs() {
    let ended = |name| PodRecord { state: PodState::Failed, running: false, ..pod(name, &["10.0.0.1"]) };
    let going = |running| PodRecord { state: PodState::Terminating, running, ..pod("x", &["10.0.0.1"]) };
    let live = || pod("y", &["10.0.0.1"]);
    let place = |pods| place(pods, "mine", "tcp://10.0.0.1:1");
    assert_eq!(place(vec![ended("x"), live()]), Place::Pod(1));
    assert_eq!(place(vec![going(false), live()]), Place::Pod(1));
    assert_eq!(place(vec![going(true), live()]), Place::Nowhere, "it may be of either");
    assert_eq!(place(vec![ended("x")]), Place::Pod(0), "the scheduler has not noticed its end yet");
    assert_eq!(place(vec![ended("x"), ended("y")]), Place::Nowhere);
}

#[test]
fn who_never_ran_or_has_ended_holds_nothing_however_strange_a_worker_is() {
    let states = [
        (false, PodState::Pending),
        (false, PodState::Starting),
        (false, PodState::Failed),
        (false, PodState::Terminating),
        (true, PodState::Starting),
        (true, PodState::Ready),
        (true, PodState::Terminating),
    ];
    let pods = states.map(|(running, state)| PodRecord { running, state, ..pod("w", &[]) });
    let strange = [worker("mine", "tcp://10.96.0.9:1")];
    let unclear = matching(&candidates(pods.into()), &strange).unclear;
    assert_eq!(unclear, [false, false, false, false, true, true, true]);
    let departed = [worker("g-worker-0a1b2c3d4e", "tcp://10.96.0.9:1")];
    assert_eq!(matching(&candidates(vec![pod("w", &[])]), &departed).unclear, [false]);
}

#[test]
fn a_worker_of_the_python_operator_has_the_name_of_its_deployment() {
    let worker_of = |states: &[PodState]| {
        let of = legacy(states);
        let pods =
            of.pods.iter().map(|pod| Candidate { pod: pod.clone(), deployment: Some(of.deployment.clone()) });
        Candidates { pods: pods.collect(), ..Candidates::default() }
    };
    let named = [worker("old-1", "tcp://10.96.0.9:1")];
    assert_eq!(matching(&worker_of(&[PodState::Ready]), &named).places, [Place::Pod(0)]);
    let mut going = worker_of(&[PodState::Terminating, PodState::Ready]);
    assert_eq!(matching(&going, &named).places, [Place::Pod(1)], "the other one has ended");
    Arc::make_mut(&mut going.pods[0].pod).running = true;
    let Matching { places, unclear } = matching(&going, &named);
    assert_eq!((places[0], unclear), (Place::Elsewhere, vec![true, true]), "it may be of either");
    let here = [worker("old-1", "tcp://10.0.0.100:1")];
    assert_eq!(matching(&going, &here).places, [Place::Pod(0)], "unless its address tells");
}

#[test]
fn the_candidates_are_all_pods_of_all_groups() {
    let mut snapshot = made(PodState::Ready);
    let going = PodRecord { state: PodState::Terminating, ..pod("w", &[]) };
    snapshot.groups[0].workers = vec![Arc::new(going)];
    snapshot.groups[0].legacy = vec![legacy(&[PodState::Ready])];
    let all = Candidates::of(&snapshot);
    let names: Vec<_> = all.pods.iter().map(|c| (&*c.pod.name, c.deployment.is_some())).collect();
    assert_eq!(names, [("w", false), ("old-1-hash-100", true)]);
    let departed = worker("simple-default-worker-0a1b2c3d4e", "tcp://10.96.0.9:1");
    assert_eq!(matching(&all, &[departed]).places, [Place::Elsewhere]);
}

#[rstest]
#[case("tcp://10.0.0.7:40123", "10.0.0.7")]
#[case("tls://[fd00::7]:40123", "fd00::7")]
#[case("10.0.0.7:1", "10.0.0.7")]
#[case("inproc://10.0.0.7/1/2", "10.0.0.7/1/2")]
#[case("", "")]
fn hosts(#[case] address: &str, #[case] host: &str) {
    assert_eq!(host_of(address), host);
}
