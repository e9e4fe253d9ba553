"""Real schedulers, workers and nannies as processes of their own, as in pods."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from distributed import Client
from distributed.core import rpc

MODULES = Path(__file__).parent.parent
#: How long anything may take before a test fails.
PATIENCE = 60.0


def wait_for(what, check):
    """Waits until `check` returns something true, and returns that."""
    end = time.monotonic() + PATIENCE
    while True:
        result = check()
        if result:
            return result
        assert time.monotonic() < end, f"{what}: not in {PATIENCE} s"
        time.sleep(0.05)


def as_lists(value):
    """Dask reads every array as a tuple."""
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


class Process:
    """A Dask server and what it prints."""

    def __init__(self, arguments, log: Path, **environment):
        self.log = log
        with log.open("wb") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                # For tasks.py.
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **{key: str(value) for key, value in environment.items()}},
                # A group of its own, as in a container.
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def find(self, pattern: str) -> str:
        match = wait_for(f"{pattern!r} in {self.log.name}", lambda: self._found(pattern))
        return match.group(1)

    def _found(self, pattern: str):
        assert self.popen.poll() is None, f"{self.log.name} ended:\n{self.output()}"
        return re.search(pattern, self.output())

    def signal(self, number: int):
        self.popen.send_signal(number)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.popen.pid).children(recursive=True)

    def wait(self) -> tuple[int, float]:
        """Waits for the end; returns the exit code and the seconds that it took."""
        begin = time.monotonic()
        try:
            return self.popen.wait(PATIENCE), time.monotonic() - begin
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.log.name} does not end:\n{self.output()}")

    def kill(self):
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()


class Dask:
    """A scheduler and its workers."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes: list[Process] = []
        self.scheduler: Process | None = None
        self.address = ""

    def start_scheduler(self, *arguments, port: int = 0, **environment) -> Process:
        self.scheduler = self._start(
            "scheduler",
            ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--dashboard-address", ":0"],
            ["--preload", str(MODULES / "dask_operator_scheduler.py"), *arguments],
            environment,
        )
        self.address = self.scheduler.find(r"Scheduler at: +(tcp://\S+)")
        return self.scheduler

    def start_worker(self, name: str, *arguments, nanny: bool, threads: int = 1, **environment) -> Process:
        worker = self.launch_worker(name, *arguments, nanny=nanny, threads=threads, **environment)
        self.wait_until_joined(name, worker)
        return worker

    def launch_worker(self, name: str, *arguments, nanny: bool, threads: int = 1, **environment) -> Process:
        """Starts a worker without waiting for it to join."""
        module = str(MODULES / "dask_operator_worker.py")
        return self._start(
            name,
            ["distributed.cli.dask_worker", self.address, "--nthreads", str(threads), "--host", "127.0.0.1"],
            [
                *("--name", name, "--memory-limit", "0", "--local-directory", str(self.folder / f"{name}-files")),
                *("--dashboard-address", ":0", "--nanny" if nanny else "--no-nanny"),
                *("--preload", module, "--preload-nanny", module, *arguments),
            ],
            environment,
        )

    def wait_until_joined(self, name: str, worker: Process):
        with self.client() as client:
            wait_for(f"{name} joins", lambda: name in self.names(client) or worker.popen.poll() is not None)
        assert worker.popen.poll() is None, worker.output()

    def _start(self, name, command, arguments, environment) -> Process:
        process = Process([*command, *arguments], self.folder / f"{name}.log", **environment)
        self.processes.append(process)
        return process

    @contextmanager
    def client(self):
        with Client(self.address, timeout=PATIENCE) as client:
            yield client

    @staticmethod
    def names(client) -> dict[str, str]:
        """Addresses of the workers by name."""
        workers = client.scheduler_info(**FULL)["workers"]
        return {str(worker["name"]): address for address, worker in workers.items()}

    def ask(self, operation: str, address: str | None = None, **arguments):
        async def call():
            async with rpc(address or self.address) as server:
                return await getattr(server, operation)(**arguments)

        return as_lists(asyncio.run(call()))

    def stop(self):
        for process in self.processes:
            process.kill()


#: Newer Dask tells of five workers only, unless asked.
FULL = {"n_workers": -1} if "n_workers" in Client.scheduler_info.__code__.co_varnames else {}


@pytest.fixture
def dask(tmp_path):
    cluster = Dask(tmp_path)
    cluster.start_scheduler()
    yield cluster
    cluster.stop()


@pytest.fixture
def bare(tmp_path):
    """Nothing started yet."""
    cluster = Dask(tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture
def runs(tmp_path):
    """Counts how often tasks ran, wherever they ran."""
    return Runs(tmp_path / "runs")


class Runs:
    def __init__(self, path: Path):
        self.path = path
        path.touch()

    def begin(self, key):
        with self.path.open("a") as file:
            file.write(f"{key}\n")

    def of(self, key) -> int:
        return self.all().count(str(key))

    def all(self) -> list[str]:
        return self.path.read_text().split()
