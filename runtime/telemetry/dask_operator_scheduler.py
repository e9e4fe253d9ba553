"""Lets Dask Operator ask a scheduler how it is doing, cheaply and without pickle.

Dask loads this file by ``--preload``. It adds two operations to the scheduler's RPC:

``dask_operator_queue``
    Counts of tasks and workers. It loops over neither, so it can be asked several times a second.
``dask_operator_workers``
    One entry for each worker; asked before workers are removed.

It works with every Dask since 2022.1 and imports nothing outside of Dask.
"""

from __future__ import annotations

import logging
import os

import dask
from distributed import preloading

logger = logging.getLogger("distributed.scheduler.dask_operator")

VERSION = 1
#: A program that gives every task a key of its own has a prefix for each: not all of them are listed.
MOST_PREFIXES = 5_000

CONFIGURED = "distributed.scheduler.preload"
VARIABLE = "DASK_DISTRIBUTED__SCHEDULER__PRELOAD"


async def dask_setup(scheduler):
    scheduler.handlers["dask_operator_queue"] = lambda *_, **__: queue(scheduler)
    scheduler.handlers["dask_operator_workers"] = lambda *_, **__: workers(scheduler)
    scheduler._dask_operator_displaced = displaced = displaced_preloads(scheduler)
    for preload in displaced:
        await preload.start()


async def dask_teardown(scheduler):
    for preload in reversed(getattr(scheduler, "_dask_operator_displaced", ())):
        await preload.teardown()


def queue(scheduler) -> dict:
    """What there is to do and who could do it."""
    processing, prefixes = 0, []
    for number, prefix in enumerate(scheduler.task_prefixes.values()):
        if number == MOST_PREFIXES:
            break
        states = prefix.states
        counts = [states.get(state, 0) for state in ("queued", "processing", "no-worker")]
        processing += counts[1]
        if any(counts):
            mean = prefix.duration_average
            prefixes.append([str(prefix.name), None if mean < 0 else float(mean), *counts])
    return {
        "version": VERSION,
        "id": str(scheduler.id),
        "started": getattr(scheduler, "time_started", None),
        "workers": len(scheduler.workers),
        "running": len(scheduler.running),
        "threads": int(scheduler.total_nthreads),
        # Dask before 2022.9 has no queue: what can run is handed out at once.
        "queued": len(getattr(scheduler, "queued", ())),
        "unrunnable": len(scheduler.unrunnable),
        "processing": processing,
        "saturated": len(scheduler.saturated),
        "idle": len(scheduler.idle),
        "idle_since": idle_since(scheduler),
        "prefixes": prefixes,
    }


def idle_since(scheduler) -> float | None:
    """Since when there has been nothing to do, by this machine's clock; None if there is something or nobody knows."""
    if "check_idle" not in scheduler.handlers:
        # Before 2023.3.2 the attribute exists, but is kept up to date only with an idle timeout.
        return None
    if "idle-timeout" not in scheduler.periodic_callbacks:
        return scheduler.check_idle()
    # Kept up to date four times a second; what happened since then shows in the counter.
    quiet = scheduler.transition_counter == getattr(scheduler, "_idle_transition_counter", None)
    return scheduler.idle_since if quiet else None


def workers(scheduler) -> dict:
    """Every worker, as the scheduler knows it from its last heartbeat."""
    return {"version": VERSION, "workers": [worker(state) for state in scheduler.workers.values()]}


def worker(state) -> dict:
    metrics = state.metrics or {}
    tasks = metrics.get("task_counts") or {}
    long_running = max(len(getattr(state, "long_running", ())), tasks.get("long-running", 0))
    executing = tasks.get("executing", metrics.get("executing", 0))
    return {
        "address": state.address,
        "name": str(state.name),
        "host": str(state.host),
        "status": str(getattr(state.status, "name", state.status)),
        "nthreads": int(state.nthreads),
        "executing": int(executing) + long_running,
        "long_running": long_running,
        # What was given to it and is not done; the scheduler knows at once, unlike what a heartbeat tells.
        "processing": len(state.processing),
        # Results in memory and on disk.
        "stored_bytes": int(state.nbytes),
        "keys": len(state.has_what),
        "actors": len(state.actors),
        "last_seen": float(state.last_seen),
    }


def displaced_preloads(scheduler):
    """The preloads of the configuration, if they are not loaded because this one is.

    Dask reads them only without ``--preload``, and the variable replaces what files configure.
    """
    if len(scheduler.preloads) != 1:
        return []
    configured = dask.config.get(CONFIGURED, None) or []
    if any(os.path.basename(name) == os.path.basename(__file__) for name in listed(configured)):
        environment = {key: value for key, value in os.environ.items() if key.upper() != VARIABLE}
        configuration = dask.config.collect(env=environment)
        configured = dask.config.get(CONFIGURED, None, config=configuration) or []
    if not configured:
        return []
    logger.info("Loading the configured preloads too: %s", configured)
    return preloading.process_preloads(scheduler, listed(configured), dask.config.get(f"{CONFIGURED}-argv", None) or [])


def listed(names) -> list:
    return [names] if isinstance(names, str) else list(names)
