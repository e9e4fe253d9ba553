"""What a scheduler answers."""

import time

import tasks
from conftest import wait_for
from distributed import wait

FIELDS = {
    "version": int, "id": str, "workers": int, "running": int, "threads": int, "queued": int, "unrunnable": int,
    "processing": int, "saturated": int, "idle": int, "prefixes": list,
}


def test_an_empty_scheduler(dask):
    reply = dask.ask("dask_operator_queue")
    assert {key: type(reply[key]) for key in FIELDS} == FIELDS
    assert set(reply) == {*FIELDS, "started", "idle_since"}
    assert reply["version"] == 1
    assert (reply["workers"], reply["threads"], reply["queued"], reply["prefixes"]) == (0, 0, 0, [])
    assert reply["id"] == dask.ask("identity")["id"]
    assert abs(reply["started"] - time.time()) < 60
    assert dask.ask("dask_operator_workers") == {"version": 1, "workers": []}


def test_tasks_that_run_wait_and_cannot_run(dask, runs, tmp_path):
    dask.start_worker("a", nanny=False, threads=2)
    flag = tmp_path / "flag"
    with dask.client() as client:
        quick = client.map(tasks.result, [str(runs.path)] * 3, range(3), [1000] * 3, key="quick")
        wait(quick, timeout=60)
        many = client.map(tasks.until, [str(runs.path)] * 20, range(100, 120), [str(flag)] * 20, key="many")
        nowhere = client.submit(tasks.result, str(runs.path), "gpu", 1, key="gpu-1", resources={"GPU": 1})
        wait_for("two run", lambda: len(runs.all()) == 5)

        def seen():
            reply = dask.ask("dask_operator_queue")
            return reply if reply["unrunnable"] == 1 and reply["queued"] + reply["processing"] == 20 else None

        reply = wait_for("the scheduler has seen all tasks", seen)
        assert (reply["workers"], reply["running"], reply["threads"]) == (1, 1, 2)
        assert reply["idle_since"] is None
        prefixes = {name: (queued, processing, unrunnable) for name, _, queued, processing, unrunnable in reply["prefixes"]}
        assert set(prefixes) == {"many", "gpu"}, "what has nothing to do is left out"
        assert prefixes["many"] == (reply["queued"], reply["processing"], 0)
        assert prefixes["gpu"] == (0, 0, 1)
        worker = wait_for("a heartbeat", lambda: next(w for w in dask.ask("dask_operator_workers")["workers"])
                          if executing(dask) == 2 else None)
        assert (worker["name"], worker["host"], worker["status"]) == ("a", "127.0.0.1", "running")
        assert (worker["nthreads"], worker["long_running"], worker["keys"], worker["actors"]) == (2, 0, 3, 0)
        assert worker["processing"] == reply["processing"]
        assert worker["address"] == dask.names(client)["a"]
        assert worker["stored_bytes"] >= 3000 and abs(worker["last_seen"] - time.time()) < 60
        flag.touch()
        client.gather(many)
        nowhere.cancel()


def executing(dask):
    return dask.ask("dask_operator_workers")["workers"][0]["executing"]


def test_durations_are_told_while_there_is_work(dask, runs):
    dask.start_worker("a", nanny=False)
    with dask.client() as client:
        first = client.submit(tasks.slow, str(runs.path), "one", 0.2, key="slow-1")
        wait(first, timeout=60)
        second = client.submit(tasks.slow, str(runs.path), "two", 1.0, key="slow-2")

        def mean():
            return next((p[1] for p in dask.ask("dask_operator_queue")["prefixes"] if p[0] == "slow"), None)

        assert 0.15 < wait_for("a duration", mean) < 0.9
        second.result(timeout=60)


def test_idleness(dask, runs, tmp_path):
    dask.start_worker("a", nanny=False)
    if dask.ask("check_idle") is None and dask.ask("check_idle") is None:
        # This Dask cannot tell: then neither can the module.
        assert dask.ask("dask_operator_queue")["idle_since"] is None
        return
    flag = tmp_path / "flag"
    with dask.client() as client:
        future = client.submit(tasks.until, str(runs.path), "x", str(flag))
        wait_for("it runs", lambda: runs.of("x") == 1)
        for _ in range(3):
            assert dask.ask("dask_operator_queue")["idle_since"] is None
        flag.touch()
        future.result(timeout=60)
        since = wait_for("it is idle", lambda: dask.ask("dask_operator_queue")["idle_since"])
        assert abs(since - time.time()) < 30
        assert dask.ask("dask_operator_queue")["idle_since"] == since


def test_actors_are_counted(dask):
    dask.start_worker("a", nanny=False)
    with dask.client() as client:
        counter = client.submit(tasks.Counter, actor=True).result(timeout=60)
        assert counter.increment().result() == 1
        assert dask.ask("dask_operator_workers")["workers"][0]["actors"] == 1


def test_prefixes_without_number_do_not_make_it_slow(dask, runs):
    import dask_operator_scheduler as module

    dask.start_worker("a", nanny=False, threads=2)
    with dask.client() as client:
        count = module.MOST_PREFIXES + 100
        client.gather([client.submit(abs, -1, key=f"key{i}", pure=False) for i in range(count)])
        begin = time.monotonic()
        for _ in range(10):
            dask.ask("dask_operator_queue")
        assert (time.monotonic() - begin) / 10 < 0.5


def test_configured_preloads_are_loaded_too(bare, tmp_path):
    own = tmp_path / "own.py"
    own.write_text("def dask_setup(scheduler):\n    scheduler.handlers['own'] = lambda *_, **__: 'mine'\n")
    bare.start_scheduler(DASK_DISTRIBUTED__SCHEDULER__PRELOAD=str(own))
    assert bare.ask("own") == "mine"
    assert bare.ask("dask_operator_queue")["version"] == 1


def test_loaded_by_a_variable_it_does_not_hide_what_files_configure(bare, tmp_path):
    from conftest import MODULES

    own = tmp_path / "own.py"
    own.write_text("def dask_setup(scheduler):\n    scheduler.handlers['own'] = lambda *_, **__: 'mine'\n")
    config = tmp_path / "config"
    config.mkdir()
    (config / "preload.yaml").write_text(f"distributed:\n  scheduler:\n    preload: [{own}]\n")
    bare.scheduler = bare._start(
        "scheduler",
        ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0"],
        [],
        {
            "DASK_CONFIG": config,
            "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": f'["{MODULES / "dask_operator_scheduler.py"}"]',
        },
    )
    bare.address = bare.scheduler.find(r"Scheduler at: +(tcp://\S+)")
    assert bare.ask("dask_operator_queue")["version"] == 1
    assert bare.ask("own") == "mine"
