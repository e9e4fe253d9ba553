"""Keeps keys on the workers of a Dask cluster, has them compute all the while, and says what was lost or run twice.

Reads commands from standard input, one JSON object a line, and answers each with one on standard output:

  {"op": "fill"}                        compute the keys of a new round and hold them
  {"op": "excuse", "hosts": [...]}      what is only on these hosts may be computed again
  {"op": "report", "workers": n, "patience": seconds}
                                        wait for n workers and for every key, then look at the workers' own data
  {"op": "changes"}                     when the scheduler took up workers and let them go, in this round
  {"op": "restarted", "patience": s}    the scheduler was replaced: forget everything, connect anew

Arguments: address of the scheduler, number of keys, bytes of each, short and long tasks that are always under way.
"""

import collections
import hashlib
import json
import sys
import threading
import time
import zlib

from distributed import Client, get_worker, wait

RUNS = "audit-runs"
LONG_SECONDS = 5.0


def content(key, size):
    return hashlib.shake_128(key.encode()).digest(size)


def hold(key, size):
    """A held key: its value says which one it is."""
    get_worker().log_event(RUNS, {"key": key})
    return hashlib.shake_128(key.encode()).digest(size)


def work(key, seconds):
    """A task that takes its time."""
    import time

    get_worker().log_event(RUNS, {"key": key})
    time.sleep(seconds)
    return key


def checksums(prefix, dask_worker):
    """What a worker really holds, not what the scheduler believes."""
    data = dask_worker.data
    keys = [key for key in list(data) if isinstance(key, str) and key.startswith(prefix)]
    values = ((key, data.get(key)) for key in keys)
    return {key: zlib.crc32(value) for key, value in values if value is not None}


def suspicions(dask_scheduler):
    return sum(task.suspicious for task in dask_scheduler.tasks.values())


def host(address):
    return address.rsplit(":", 1)[0].rsplit("/", 1)[-1]


class Audit:
    """One connection to one incarnation of the scheduler is a round."""

    def __init__(self, address, keys, size, short, long):
        self.address, self.keys, self.size = address, keys, size
        self.wanted = {"short": short, "long": long}
        self.lock = threading.Lock()
        self.runs = collections.Counter()
        self.allowed = collections.Counter()
        self.removed = {"expected": 0, "unexpected": 0}
        self.lost_computed = {"expected": 0, "unexpected": 0}
        self.joined_and_left = []
        self.stream_done = self.stream_failed = self.killed = 0
        self.round = 0
        self.futures, self.expected = {}, {}
        self.client = self.thread = None
        self.streaming = threading.Event()
        self.connect(60)

    # Connection

    def connect(self, patience):
        deadline = time.monotonic() + patience
        while True:
            try:
                self.client = Client(self.address, timeout=10)
                break
            except (OSError, TimeoutError):
                if time.monotonic() > deadline:
                    raise
        self.round += 1
        self.client.subscribe_topic(RUNS, self.on_run)
        self.client.subscribe_topic("all", self.on_event)
        # Those that were there before; what happens from now on is told.
        now = time.time()
        present = self.client.scheduler_info(n_workers=-1)["workers"]
        with self.lock:
            self.joined_and_left.extend([now, host(address), True] for address in present)

    def on_run(self, event):
        with self.lock:
            self.runs[event[1]["key"]] += 1

    def on_event(self, event):
        at, message = event
        if not isinstance(message, dict):
            return
        if message.get("action") in ("add-worker", "remove-worker"):
            with self.lock:
                joined = message["action"] == "add-worker"
                self.joined_and_left.append([at, host(message["worker"]), joined])
        if message.get("action") == "remove-worker":
            kind = "expected" if message.get("expected") else "unexpected"
            with self.lock:
                self.removed[kind] += 1
                self.lost_computed[kind] += len(message.get("lost-computed-tasks") or ())

    # Tasks that run all the while

    def stream(self, client, number):
        """Keeps so many tasks under way until the round ends."""
        running, count = {}, 0
        while self.streaming.is_set():
            for kind, wanted in self.wanted.items():
                while sum(name == kind for name in running.values()) < wanted:
                    count += 1
                    key = f"{kind}-{number}-{count}"
                    seconds = LONG_SECONDS if kind == "long" else 0.05 + 0.05 * (count % 6)
                    future = client.submit(work, key, seconds, key=key, pure=False)
                    running[future] = kind
            time.sleep(0.1)
            for future in [future for future in running if future.status != "pending"]:
                running.pop(future)
                with self.lock:
                    if future.status == "finished":
                        self.stream_done += 1
                    else:
                        self.stream_failed += 1
                        self.note(future)
                future.release()
        for future in running:
            future.release()

    def note(self, future):
        if future.status == "error" and type(future.exception(timeout=5)).__name__ == "KilledWorker":
            self.killed += 1

    # Commands

    def fill(self):
        names = [f"held-{self.round}-{number:05}" for number in range(self.keys)]
        self.expected = {name: zlib.crc32(content(name, self.size)) for name in names}
        self.futures = {name: self.client.submit(hold, name, self.size, key=name, pure=False) for name in names}
        if names:
            wait(list(self.futures.values()), timeout=120)
        self.streaming.set()
        self.thread = threading.Thread(target=self.stream, args=(self.client, self.round), daemon=True)
        self.thread.start()
        return {"filled": len(names)}

    def excuse(self, hosts):
        """What has no copy elsewhere, and what runs there."""
        hosts = set(hosts)
        holders = self.client.who_has(list(self.futures.values()))
        alone = [key for key, workers in holders.items() if workers and all(host(w) in hosts for w in workers)]
        running = [
            key for worker, keys in self.client.processing().items() if host(worker) in hosts for key in keys
        ]
        with self.lock:
            for key in alone + running:
                self.allowed[key] += 1
        return {"excused": len(alone) + len(running)}

    def await_workers(self, workers, deadline):
        while True:
            present = len(self.client.scheduler_info(n_workers=-1)["workers"])
            if present == workers or time.monotonic() > deadline:
                return present
            time.sleep(0.2)

    def look(self):
        """Keys that are somewhere, and those whose value is wrong."""
        present, wrong = set(), set()
        answers = self.client.run(checksums, f"held-{self.round}-", on_error="ignore")
        for values in answers.values():
            for key, checksum in values.items():
                present.add(key)
                if self.expected.get(key) != checksum:
                    wrong.add(key)
        return present, wrong

    def report(self, workers, patience):
        deadline = time.monotonic() + patience
        present_workers = self.await_workers(workers, deadline)
        futures = list(self.futures.values())
        if futures:
            try:
                wait(futures, timeout=max(5.0, deadline - time.monotonic()))
            except TimeoutError:
                pass
        while True:
            present, wrong = self.look()
            lost = [name for name in self.futures if name not in present]
            if not lost or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        failed = [future for future in futures if future.status not in ("finished", "pending")]
        with self.lock:
            for future in failed:
                self.note(future)
            twice = [key for key, runs in self.runs.items() if runs > 1 + self.allowed[key]]
            executions = sum(self.runs.values())
            answer = {
                "round": self.round,
                "workers": present_workers,
                "keys": len(self.futures),
                "present": len(present),
                "wrong": len(wrong),
                "lost": len(lost),
                "twice_held": sum(key.startswith("held-") for key in twice),
                "twice_stream": sum(not key.startswith("held-") for key in twice),
                "twice": sorted(twice)[:10],
                "executions": executions,
                "stream_done": self.stream_done,
                "stream_failed": self.stream_failed,
                "removed_expected": self.removed["expected"],
                "removed_unexpected": self.removed["unexpected"],
                "lost_computed_expected": self.lost_computed["expected"],
                "lost_computed_unexpected": self.lost_computed["unexpected"],
                "killed": self.killed,
            }
        answer["suspicious"] = self.client.run_on_scheduler(suspicions)
        return answer

    def changes(self):
        with self.lock:
            return sorted(self.joined_and_left)

    def restarted(self, patience):
        self.streaming.clear()
        thread, client = self.thread, self.client
        self.futures, self.expected = {}, {}
        client.close(timeout=5)
        if thread:
            thread.join(timeout=10)
        with self.lock:
            # A loss of state is no worker's: what this round ran does not count for the next.
            self.runs.clear()
            self.allowed.clear()
            # The next scheduler knows only whom it was told of.
            self.joined_and_left.clear()
        self.connect(patience)
        return {"round": self.round}


def main():
    address, keys, size, short, long = sys.argv[1], *map(int, sys.argv[2:6])
    audit = Audit(address, keys, size, short, long)
    print(json.dumps({"ok": {"round": audit.round}}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        operation = command.pop("op")
        try:
            answer = {"ok": getattr(audit, operation)(**command)}
        except Exception as error:  # The other side prints it and fails.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
