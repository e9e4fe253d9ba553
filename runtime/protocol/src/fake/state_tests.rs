use super::*;

fn state(workers: Vec<Worker>) -> State {
    State { workers, ..State::new("Scheduler-1".into(), "tcp://10.0.0.1:8786".into(), 1.0) }
}

fn worker(host: u8, keys: u64) -> Worker {
    Worker { keys, stored_bytes: 10 * keys, ..Worker::new(&format!("tcp://10.1.0.{host}:4000")) }
}

fn address(host: u8) -> String {
    format!("tcp://10.1.0.{host}:4000")
}

#[test]
fn two_step_drain_loses_nothing() {
    let mut state = state(vec![Worker { executing: 1, ..worker(1, 3) }, worker(2, 0)]);
    assert_eq!(state.retire(&[address(1)], false, false).len(), 1);
    assert_eq!(state.worker(&address(1)).unwrap().status, WorkerStatus::ClosingGracefully);
    assert_eq!((state.worker(&address(1)).unwrap().keys, state.worker(&address(2)).unwrap().keys), (0, 3));
    let worker = state.worker_mut(&address(1)).unwrap();
    (worker.executing, worker.keys) = (0, 1);
    assert_eq!(state.retire(&[address(1)], true, true).len(), 1);
    assert_eq!((state.worker(&address(1)), state.rerun), (None, 0));
    assert_eq!((state.worker(&address(2)).unwrap().keys, state.closed), (4, vec![address(1)]));
}

#[test]
fn retirement_does_not_wait_for_tasks() {
    let mut state = state(vec![Worker { executing: 2, ..worker(1, 0) }]);
    state.retire(&[address(1)], true, true);
    assert_eq!((state.workers.len(), state.rerun), (0, 2));
}

#[test]
fn data_without_a_place_and_actors_are_kept() {
    let mut state = state(vec![worker(1, 1), Worker { status: WorkerStatus::Paused, ..worker(2, 0) }]);
    assert!(state.retire(&[address(1)], true, true).is_empty(), "nobody runs but itself");
    assert_eq!(state.worker(&address(1)).unwrap().status, WorkerStatus::Running);
    state.worker_mut(&address(2)).unwrap().actors = 1;
    assert!(state.retire(&[address(2)], true, true).is_empty());
    assert_eq!(state.worker(&address(2)).unwrap().status, WorkerStatus::Paused, "as before");
    assert!(state.closed.is_empty());
}

#[test]
fn workers_that_retire_together_give_each_other_nothing() {
    let mut state = state(vec![worker(1, 1), worker(2, 1)]);
    assert!(state.retire(&[address(1), address(2)], true, true).is_empty());
    assert!(state.retire(&[address(9)], true, true).is_empty(), "unknown");
    state.refuses_to_retire = true;
    state.workers.push(worker(3, 0));
    assert!(state.retire(&[address(1)], true, true).is_empty(), "scripted");
}

#[test]
fn cheapest_workers_come_first_and_protected_ones_never() {
    let state = state(vec![
        Worker { executing: 1, ..worker(1, 0) },
        worker(2, 5),
        worker(3, 1),
        Worker { long_running: 1, ..worker(4, 0) },
        Worker { protected: true, ..worker(5, 0) },
    ]);
    let hosts = |n| state.to_close(n).iter().map(|worker| worker.host()).collect::<Vec<_>>();
    assert_eq!(hosts(Some(9)), ["10.1.0.3", "10.1.0.2", "10.1.0.1"]);
    assert_eq!(hosts(Some(1)), ["10.1.0.3"]);
    assert_eq!(hosts(None), ["10.1.0.3", "10.1.0.2"]);
}
