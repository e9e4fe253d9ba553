"""SIGTERM at workers and nannies."""

import os
import signal
import time

import pytest
import tasks
from conftest import wait_for
from distributed import wait

#: Seconds that distributed's WorkerProcess waits for a thread.
DASKS_PAUSE = 2
both = pytest.mark.parametrize("nanny", [True, False], ids=["nanny", "no-nanny"])
#: Beyond the budget, by when a process has ended at the latest.
GRACE = 8.0


def suspicious(client) -> int:
    """How often tasks were blamed for the end of a worker."""
    return client.run_on_scheduler(lambda dask_scheduler: sum(t.suspicious for t in dask_scheduler.tasks.values()))


def on_worker(client, name, runs, count):
    """Results that only this worker holds."""
    futures = [
        client.submit(tasks.result, str(runs.path), f"{name}-{i}", 100_000, key=f"{name}-{i}", workers=[name],
                      allow_other_workers=False)
        for i in range(count)
    ]
    wait(futures, timeout=60)
    return futures


@both
@pytest.mark.parametrize("whole_group", [False, True], ids=["process", "group"])
def test_an_idle_worker_hands_over_its_results(dask, runs, nanny, whole_group):
    workers = {name: dask.start_worker(name, nanny=nanny) for name in ["a", "b"]}
    with dask.client() as client:
        futures = [client.submit(tasks.result, str(runs.path), i, 100_000, key=f"r-{i}") for i in range(40)]
        wait(futures, timeout=60)
        held = client.has_what()[dask.names(client)["a"]]
        assert held, "the worker holds something"
        if whole_group:
            os.killpg(workers["a"].popen.pid, signal.SIGTERM)
        else:
            workers["a"].signal(signal.SIGTERM)
        code, seconds = workers["a"].wait()
        assert code == 0, workers["a"].output()
        assert seconds < 15, workers["a"].output()
        assert [len(data) for data in client.gather(futures)] == [100_000] * 40
        assert sorted(runs.all(), key=int) == [str(i) for i in range(40)], "nothing was computed again"
        assert suspicious(client) == 0


@both
def test_running_tasks_end_first_and_run_once(dask, runs, tmp_path, nanny):
    workers = {name: dask.start_worker(name, nanny=nanny, threads=2) for name in ["a", "b"]}
    flag = tmp_path / "flag"
    with dask.client() as client:
        futures = [client.submit(tasks.until, str(runs.path), i, str(flag), key=f"u-{i}") for i in range(4)]
        wait_for("all tasks run", lambda: len(runs.all()) == 4)
        address = dask.names(client)["a"]
        workers["a"].signal(signal.SIGTERM)
        wait_for("the worker is fenced", lambda: status(dask, address) == "closing_gracefully")
        assert dask.ask("dask_operator_executing", address)["executing"] == 2
        assert workers["a"].popen.poll() is None, "it waits"
        flag.touch()
        code, seconds = workers["a"].wait()
        assert (code, seconds < 15) == (0, True), workers["a"].output()
        assert client.gather(futures) == list(range(4))
        assert sorted(runs.all()) == ["0", "1", "2", "3"], "each ran once"
        assert suspicious(client) == 0


def status(dask, address):
    workers = dask.ask("dask_operator_workers")["workers"]
    return next((worker["status"] for worker in workers if worker["address"] == address), None)


@both
def test_a_task_longer_than_the_budget_runs_again_without_blame(dask, runs, tmp_path, nanny):
    budget = 2
    worker = dask.start_worker("a", nanny=nanny, DASK_OPERATOR_DRAIN_SECONDS=budget)
    flag = tmp_path / "flag"
    with dask.client() as client:
        future = client.submit(tasks.until, str(runs.path), "long", str(flag), key="long")
        wait_for("the task runs", lambda: runs.of("long") == 1)
        dask.start_worker("b", nanny=nanny)
        worker.signal(signal.SIGTERM)
        _, seconds = worker.wait()
        assert budget <= seconds < budget + GRACE, worker.output()
        wait_for("the task runs elsewhere", lambda: runs.of("long") == 2)
        flag.touch()
        assert future.result(timeout=60) == "long"
        assert suspicious(client) == 0


@both
def test_the_last_worker_does_not_wait(dask, runs, nanny):
    worker = dask.start_worker("a", nanny=nanny)
    with dask.client() as client:
        held = on_worker(client, "a", runs, 3)
        worker.signal(signal.SIGTERM)
        code, seconds = worker.wait()
        assert (code, seconds < 6) == (0, True), worker.output()
        assert "refused" in worker.output(), f"{len(held)} results had nowhere to go"


async def let_go(dask_scheduler, address, pid):
    """What a drain by the operator does, and Kubernetes right after it."""
    await dask_scheduler.retire_workers(workers=[address], close_workers=False, remove=False)
    await dask_scheduler.retire_workers(workers=[address], close_workers=True, remove=True)
    os.kill(pid, signal.SIGTERM)


@both
def test_a_worker_that_the_scheduler_has_let_go_ends_at_once(dask, nanny):
    worker = dask.start_worker("a", nanny=nanny)
    with dask.client() as client:
        client.run_on_scheduler(let_go, address=dask.names(client)["a"], pid=worker.popen.pid)
        _, seconds = worker.wait()
        # Not the budget of 20 s, as when its close was cut off.
        assert seconds < 10, worker.output()


def test_the_process_of_a_closed_worker_ends_without_a_pause(dask, runs):
    worker = dask.start_worker("a", nanny=True)
    with dask.client() as client:
        client.run(tasks.note_end, path=str(runs.path))
        client.retire_workers(list(dask.names(client).values()))
        code, _ = worker.wait()
    closed, ended = map(float, runs.all())
    assert (code, ended - closed < DASKS_PAUSE) == (0, True), f"{ended - closed:.1f} s: {worker.output()}"


@both
def test_a_worker_that_closes_already_is_not_disturbed(dask, runs, tmp_path, nanny):
    worker = dask.start_worker("a", nanny=nanny)
    flag = tmp_path / "flag"
    with dask.client() as client:
        running = client.submit(tasks.until, str(runs.path), "held", str(flag), workers=["a"])
        wait_for("the task runs", lambda: runs.all() == ["held"])
        client.run_on_scheduler(remove, address=dask.names(client)["a"])
        wait_for("it closes, and waits for the thread", lambda: "Stopping worker" in worker.output())
        time.sleep(0.5)
        worker.signal(signal.SIGTERM)
        wait_for("it has the signal", lambda: "SIGTERM: draining" in worker.output())
        time.sleep(1)
        flag.touch()
        _, seconds = worker.wait()
        assert seconds < 10, worker.output()
        del running


async def remove(dask_scheduler, address):
    result = dask_scheduler.remove_worker(address=address, stimulus_id="test", close=True)
    if hasattr(result, "__await__"):
        await result


@both
def test_an_actor_is_not_waited_for(dask, nanny):
    worker = dask.start_worker("a", nanny=nanny)
    with dask.client() as client:
        counter = client.submit(tasks.Counter, actor=True).result(timeout=60)
        assert counter.increment().result() == 1
        dask.start_worker("b", nanny=nanny)
        worker.signal(signal.SIGTERM)
        code, seconds = worker.wait()
        assert (code, seconds < 6) == (0, True), worker.output()


@both
def test_a_frozen_peer_costs_the_budget_at_most(dask, runs, nanny):
    budget = 3
    worker = dask.start_worker("a", nanny=nanny, DASK_OPERATOR_DRAIN_SECONDS=budget)
    peer = dask.start_worker("b", nanny=nanny)
    with dask.client() as client:
        held = on_worker(client, "a", runs, 5)
        frozen = [peer.popen.pid, *(child.pid for child in peer.children())]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        worker.signal(signal.SIGTERM)
        _, seconds = worker.wait()
        assert seconds < budget + GRACE, worker.output()
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        assert held


@both
def test_without_a_scheduler_there_is_nothing_to_wait_for(dask, nanny):
    worker = dask.start_worker("a", nanny=nanny)
    os.kill(dask.scheduler.popen.pid, signal.SIGSTOP)
    worker.signal(signal.SIGTERM)
    time.sleep(0.5)
    dask.scheduler.kill()
    _, seconds = worker.wait()
    assert seconds < 12, worker.output()


@both
def test_a_second_signal_closes_at_once(dask, runs, tmp_path, nanny):
    worker = dask.start_worker("a", nanny=nanny, DASK_OPERATOR_DRAIN_SECONDS=50)
    dask.start_worker("b", nanny=nanny)
    with dask.client() as client:
        future = client.submit(tasks.until, str(runs.path), "x", str(tmp_path / "flag"), workers=["a"],
                               allow_other_workers=True)
        wait_for("the task runs", lambda: runs.of("x") == 1)
        address = dask.names(client)["a"]
        worker.signal(signal.SIGTERM)
        wait_for("the worker is fenced", lambda: status(dask, address) == "closing_gracefully")
        worker.signal(signal.SIGTERM)
        _, seconds = worker.wait()
        assert seconds < 15, worker.output()
        (tmp_path / "flag").touch()
        assert future.result(timeout=60) == "x"


def test_several_nannies_of_one_process_all_drain(dask, runs):
    dask.start_worker("b", nanny=True)
    option = "--nworkers" if dask_is_at_least(dask, "2021.9") else "--nprocs"
    worker = dask._start(
        "several",
        ["distributed.cli.dask_worker", dask.address, "--nthreads", "1", "--host", "127.0.0.1"],
        [option, "2", "--name", "s", "--dashboard-address", ":0", *preloads()],
        {},
    )
    with dask.client() as client:
        wait_for("three workers", lambda: {"s-0", "s-1", "b"} <= set(dask.names(client)))
        futures = on_worker(client, "s-0", runs, 5) + on_worker(client, "s-1", runs, 5)
        worker.signal(signal.SIGTERM)
        code, _ = worker.wait()
        assert code == 0, worker.output()
        client.gather(futures)
        assert len(runs.all()) == 10


def preloads():
    from conftest import MODULES

    module = str(MODULES / "dask_operator_worker.py")
    return ["--preload", module, "--preload-nanny", module]


def dask_is_at_least(dask, version):
    import distributed
    from packaging.version import Version

    return Version(distributed.__version__) >= Version(version)


def test_a_nanny_can_still_stop_its_worker(dask):
    worker = dask.start_worker("a", nanny=True)
    with dask.client() as client:
        before = dask.names(client)["a"]
        pid = client.run(os.getpid)[before]
        os.kill(pid, signal.SIGTERM)
        wait_for("the nanny starts another", lambda: dask.names(client).get("a", before) != before)
    assert worker.popen.poll() is None


@both
def test_configured_preloads_are_loaded_too(dask, tmp_path, nanny):
    own = tmp_path / "own.py"
    own.write_text("def dask_setup(worker):\n    worker.own_preload = True\n")
    dask.start_worker("a", nanny=nanny, DASK_DISTRIBUTED__WORKER__PRELOAD=str(own))
    with dask.client() as client:
        assert list(client.run(lambda dask_worker: dask_worker.own_preload).values()) == [True]


@both
def test_a_users_flag_goes_first_and_hides_the_configuration_as_ever(dask, tmp_path, nanny):
    own, hidden = tmp_path / "own.py", tmp_path / "hidden.py"
    own.write_text("def dask_setup(worker):\n    worker.own_preload = True\n")
    hidden.write_text("def dask_setup(worker):\n    worker.hidden_preload = True\n")
    dask.start_worker("a", "--preload", str(own), nanny=nanny, DASK_DISTRIBUTED__WORKER__PRELOAD=str(hidden))
    with dask.client() as client:
        seen = client.run(lambda dask_worker: (dask_worker.own_preload, hasattr(dask_worker, "hidden_preload")))
        assert list(seen.values()) == [(True, False)]


def test_executing_counts_tasks_that_left_the_pool_twice(dask, runs, tmp_path):
    def secede(path, flag):
        import os
        import time

        import distributed

        distributed.secede()
        with open(path, "a") as file:
            file.write("seceded\n")
        while not os.path.exists(flag):
            time.sleep(0.02)

    dask.start_worker("a", nanny=False)
    flag = str(tmp_path / "flag")
    with dask.client() as client:
        address = dask.names(client)["a"]
        assert dask.ask("dask_operator_executing", address) == {"version": 1, "executing": 0, "long_running": 0}
        one = client.submit(secede, str(runs.path), flag, key="one")
        wait_for("it seceded", lambda: runs.of("seceded") == 1)
        two = client.submit(tasks.until, str(runs.path), "two", flag, key="two")
        wait_for("both run", lambda: runs.of("two") == 1)
        assert dask.ask("dask_operator_executing", address) == {"version": 1, "executing": 2, "long_running": 1}
        (tmp_path / "flag").touch()
        client.gather([one, two])


def test_a_budget_that_is_no_number_is_the_default(monkeypatch):
    import dask_operator_worker as module

    for text, seconds in [("", 20), ("7.5", 7.5), ("-3", 0), ("soon", 20)]:
        monkeypatch.setenv(module.DRAIN_SECONDS, text)
        assert module.budget() == seconds
    monkeypatch.delenv(module.DRAIN_SECONDS)
    assert module.budget() == 20
