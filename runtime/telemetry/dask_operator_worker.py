"""Lets a Dask worker finish its tasks and hand over its results before it obeys SIGTERM.

Dask loads this file by ``--preload`` into workers and by ``--preload-nanny`` into their nannies. Without it, a worker
whose pod is deleted, evicted or preempted drops its results and breaks off its tasks. With it, SIGTERM means:

1. the scheduler gives the worker no more tasks and copies its results to other workers (``retire_workers``);
2. running tasks end, for at most ``DASK_OPERATOR_DRAIN_SECONDS``, by default 20;
3. what they brought forth is copied too, and the worker closes.

A scheduler that refuses (no other worker, or an actor lives here) or does not answer is not waited for: the signal is
given back to Dask, which closes as always. Eight seconds after the time is over all is over.

It also lets a worker that is there before its scheduler wait for it, ends the process of a closed worker at once, and
adds the operation ``dask_operator_executing`` to a worker's RPC: how many tasks run right now.
It works with every Dask since 2022.1 and imports nothing outside of Dask.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import random
import signal
import socket
import sys
import threading
import types

import dask
from distributed import preloading
from distributed.comm import registry
from distributed.comm.addressing import parse_address, parse_host_port, unparse_host_port
from distributed.comm.core import FatalCommClosedError

logger = logging.getLogger("distributed.worker.dask_operator")

VERSION = 1
DRAIN_SECONDS = "DASK_OPERATOR_DRAIN_SECONDS"
#: Seconds after the budget in which the last results are handed over, ...
HAND_OVER = 4.0
#: ... and by when the process is closed at the latest.
CLOSED = 5.0
#: Seconds that a worker without nanny then has to close as always.
LAST_WORDS = 1.0
#: Seconds in which a worker that the scheduler has let go hears of it.
FAREWELL = 0.5
#: Seconds between two looks at the running tasks.
POLL = 0.2
#: Seconds in which a nanny that got the same SIGTERM says so.
SIBLING = 1.0
#: Seconds between two looks for a scheduler, at first and at most; in between, a tenth of the time that has passed.
LOOK, RARE_LOOK = 0.1, 2.0
#: Seconds that a scheduler may take to accept a connection, ...
ACCEPTED = 5.0
#: ... for which the address of its name is believed, ...
RESOLVED = 10.0
#: ... and after which the log says again what is waited for.
TOLD = 30.0
#: Addresses of a name that are tried at a time.
MOST_ADDRESSES = 8

CONFIGURED = "distributed.worker.preload"


async def dask_setup(server):
    if is_nanny(server) or not server.nanny:
        await scheduler_is_there(server)
    if is_nanny(server):
        server.handlers["dask_operator_draining"] = lambda *_, **__: {"version": VERSION, "draining": shared().draining}
        end_with_worker(server)
        drain_on_sigterm(server)
        return
    server.handlers["dask_operator_executing"] = lambda *_, **__: executing(server)
    if server.nanny:
        leave_sigterm_to_nanny(server)
    else:
        drain_on_sigterm(server)
    server._dask_operator_displaced = displaced = displaced_preloads(server)
    for preload in displaced:
        await preload.start()


async def dask_teardown(server):
    for preload in reversed(getattr(server, "_dask_operator_displaced", ())):
        await preload.teardown()


def is_nanny(server) -> bool:
    # Workers have a worker_address, too.
    return hasattr(server, "instantiate")


def budget() -> float:
    """Seconds that running tasks get."""
    try:
        return max(0.0, float(os.environ.get(DRAIN_SECONDS, "") or 20))
    except ValueError:
        logger.warning("%s is not a number of seconds: %r", DRAIN_SECONDS, os.environ[DRAIN_SECONDS])
        return 20.0


# ---- The start ------------------------------------------------------------------------------------------------


async def scheduler_is_there(server):
    """Waits until the scheduler can be reached, however long that takes.

    Dask itself looks at ever rarer, random moments, so that whoever is there first joins late; and its nannies give up
    after ``distributed.comm.timeouts.connect``, 30 s. What waiting cannot mend is left to Dask, which reports it."""
    loop = asyncio.get_running_loop()
    address = server.scheduler.addr
    scheme, place = parse_address(address)
    if scheme not in ("tcp", "tls"):
        return
    begin = believed = loop.time()
    known, tell = [], begin + TOLD
    while True:
        try:
            if loop.time() >= believed:
                known = await resolve(loop, place)
                believed = loop.time() + RESOLVED
            await greet_any(server, scheme, known)
            return
        except FatalCommClosedError:
            return
        except (OSError, asyncio.TimeoutError) as error:
            if loop.time() >= tell:
                tell = loop.time() + TOLD
                logger.info("Waiting for the scheduler at %s: %s", address, error or "it does not answer")
            pause = min(RARE_LOOK, max(LOOK, (loop.time() - begin) / 10))
            # Not all workers at the same moment.
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))
        except Exception:
            logger.exception("Not waiting for the scheduler at %s", address)
            return


async def resolve(loop, place) -> list:
    """All addresses of the scheduler's name: one family of a dual-stack Service may lead nowhere."""
    host, port = parse_host_port(place)
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(unparse_host_port(address[0], port) for *_, address in found))[:MOST_ADDRESSES]


async def greet_any(server, scheme, places):
    """Greets at the first address that answers. One after the other: a greeting that is broken off leaves a trace in the
    scheduler's log."""
    refusal = OSError("its name has no address")
    for place in places:
        try:
            return await greet(server, scheme, place)
        except FatalCommClosedError:
            raise
        except (OSError, asyncio.TimeoutError) as error:
            refusal = error
    raise refusal


async def greet(server, scheme, place):
    """Connects, and goes again after the greetings: a scheduler would log a connection that closes before."""
    connector = registry.get_backend(scheme).get_connector()
    arguments = server.rpc.connection_args
    comm = await asyncio.wait_for(connector.connect(place, deserialize=True, **arguments), ACCEPTED)
    try:
        await comm.write(comm.handshake_info())
        await comm.read()
    finally:
        await comm.close()


# ---- What runs ------------------------------------------------------------------------------------------------


def executing(worker) -> dict:
    """How many tasks run on this worker; those that left the thread pool count in both numbers."""
    state = getattr(worker, "state", worker)
    long_running = len(getattr(state, "long_running", ()))
    tasks = getattr(state, "all_running_tasks", None)
    if tasks is None:
        running = worker.executing_count if state is worker else len(state.executing)
        count = running + long_running
    else:
        # Also those that nobody wants any more but that cannot be stopped.
        count = len(tasks)
    return {"version": VERSION, "executing": count, "long_running": long_running}


async def running_tasks(server) -> int:
    if not is_nanny(server):
        return executing(server)["executing"]
    async with server.rpc(server.worker_address) as worker:
        reply = await worker.dask_operator_executing()
    # None: the worker did not load this file, so nobody can tell.
    return reply["executing"] if reply else 0


# ---- SIGTERM --------------------------------------------------------------------------------------------------


def shared():
    """The state of this process. Several nannies may live in it, and each of them loads this file anew."""
    state = types.ModuleType("_dask_operator_drain")
    state.draining, state.servers, state.previous, state.task = False, [], None, None
    return sys.modules.setdefault("_dask_operator_drain", state)


def drain_on_sigterm(server):
    state = shared()
    state.servers.append(server)
    if state.previous is None:
        loop = asyncio.get_running_loop()
        take_sigterm(loop, state, lambda: sigterm(loop, state))


def take_sigterm(loop, state, handler):
    previous = signal.getsignal(signal.SIGTERM)
    try:
        loop.add_signal_handler(signal.SIGTERM, handler)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        # Not the main thread, so not a program of its own: whoever runs it looks after it.
        logger.info("SIGTERM will not drain: %s", error)
        return
    state.previous = signal.SIG_DFL if previous is None else previous


def give_sigterm_back(loop, state, seconds=None):
    """Lets Dask do what it does at SIGTERM, for at most so many seconds: it may wait for threads of tasks that do not
    end. Without a limit where nannies are, which end their workers themselves."""
    if seconds is not None and not any(is_nanny(server) for server in state.servers):
        end = threading.Timer(seconds, os._exit, (0,))
        end.daemon = True
        end.start()
    loop.remove_signal_handler(signal.SIGTERM)
    signal.signal(signal.SIGTERM, state.previous)
    signal.raise_signal(signal.SIGTERM)


def sigterm(loop, state):
    if state.draining:
        logger.info("Second SIGTERM: closing without waiting")
        give_sigterm_back(loop, state, LAST_WORDS)
        return
    state.draining = True
    state.task = loop.create_task(drain_all(loop, state))


async def drain_all(loop, state):
    begin, seconds = loop.time(), budget()
    logger.info("SIGTERM: draining for at most %g s", seconds)
    outcomes = await asyncio.gather(
        *(drain(loop, server, begin + seconds) for server in state.servers), return_exceptions=True
    )
    for server, outcome in zip(state.servers, outcomes):
        logger.info("Drain of %s after %.1f s: %s", server.address, loop.time() - begin, outcome or "closed")
    if any(outcomes) or not all(is_closed(server) for server in state.servers):
        late = loop.time() > begin + seconds
        nannies = [server for server in state.servers if is_nanny(server)]
        if late and nannies:
            # Dask would wait another 8 s for tasks that do not end.
            closing = asyncio.gather(*(nanny.close(timeout=1) for nanny in nannies), return_exceptions=True)
            await asyncio.wait([closing], timeout=begin + seconds + CLOSED + 1 - loop.time())
        else:
            left = begin + seconds + CLOSED - loop.time()
            give_sigterm_back(loop, state, max(LAST_WORDS, left))


async def drain(loop, server, end):
    """Drains one worker, or what a nanny looks after; returns why not, or None when it is closed."""
    # A worker closes by itself when its scheduler goes, which is what happens when a whole cluster is deleted.
    finished = asyncio.ensure_future(server.finished())
    steps = asyncio.ensure_future(hand_over(loop, server, end))
    await asyncio.wait([finished, steps], return_when=asyncio.FIRST_COMPLETED)
    try:
        if not steps.done():
            steps.cancel()
            return None
        try:
            refusal = steps.result()
        except (Exception, asyncio.CancelledError):
            # A worker that closes cuts off its own questions, and asks no more: its connections are closed first.
            if not is_closing(server):
                raise
            refusal = None
        if refusal is not None and await is_let_go(loop, server):
            refusal = None
        if refusal is None:
            await asyncio.wait([finished], timeout=max(0.0, end + CLOSED - loop.time()))
            return None if finished.done() else "handed over, but still closing"
        return refusal
    finally:
        finished.cancel()


async def is_let_go(loop, server) -> bool:
    """Whether the scheduler refuses because it has let this worker go: it told it to close just before, on another
    connection. Dask must not get the signal then: it would cut off the close, and the process might hang."""
    end = loop.time() + FAREWELL
    while not is_closing(server) and loop.time() < end:
        await asyncio.sleep(FAREWELL / 10)
    return is_closing(server)


async def hand_over(loop, server, end):
    """The two steps; returns why they were not taken, or None when the scheduler confirmed both."""
    address = server.worker_address if is_nanny(server) else server.address
    if not address:
        return "there is no worker"

    async def retire(until, **how):
        reply = await within(loop, until, server.scheduler.retire_workers(workers=[address], **how))
        return address in reply

    try:
        if not await retire(end, close_workers=False, remove=False):
            return "the scheduler refused: nobody can take over what is here"
        while loop.time() < end and await within(loop, end, running_tasks(server)):
            await asyncio.sleep(POLL)
    except asyncio.TimeoutError:
        # Running tasks are given up, so that they run again elsewhere without being blamed.
        pass
    try:
        if await retire(end + HAND_OVER, close_workers=True, remove=True):
            return None
        return "the scheduler refused to take over the last results"
    except asyncio.TimeoutError:
        return "the scheduler did not answer in time"


async def within(loop, until, awaitable):
    return await asyncio.wait_for(awaitable, max(0.1, until - loop.time()))


def is_closed(server) -> bool:
    return status(server) == "closed"


def is_closing(server) -> bool:
    # A nanny whose worker closes is told so before; for a worker, the same word means that it is fenced.
    told = is_nanny(server) and status(server) == "closing_gracefully"
    return told or status(server) in ("closing", "closed")


def status(server) -> str:
    return getattr(server.status, "name", server.status)


def leave_sigterm_to_nanny(worker):
    """Some init programs (``tini -g``) signal all processes of the container. Then the nanny drains, and this process
    must live for that. A SIGTERM for this process alone comes from the nanny, for memory, and is obeyed."""
    loop, state = asyncio.get_running_loop(), shared()

    async def obey_unless_nanny_drains():
        end = loop.time() + SIBLING
        while loop.time() < end:
            try:
                async with worker.rpc(worker.nanny) as nanny:
                    reply = await within(loop, end, nanny.dask_operator_draining())
            except (OSError, asyncio.TimeoutError):
                break
            if reply is None:
                break
            if reply["draining"]:
                logger.info("SIGTERM: the nanny drains")
                return
            await asyncio.sleep(0.05)
        give_sigterm_back(loop, state)

    def sigterm():
        state.task = loop.create_task(obey_unless_nanny_drains())

    take_sigterm(loop, state, sigterm)


# ---- The end of a worker's process ----------------------------------------------------------------------------


def end_with_worker(nanny):
    """Tells the worker's process to stop when the worker closes.

    A thread of that process waits for this word, and the process at its end for the thread, 2 s in vain
    (``WorkerProcess._run``, 2022.12 and since). Nannies say it only to workers that they close themselves.
    """
    closing = nanny.handlers["close_gracefully"]

    @functools.wraps(closing)
    def stop(*arguments, **named):
        queue = getattr(nanny.process, "child_stop_q", None)
        if queue is not None:
            with contextlib.suppress(ValueError, OSError):
                queue.put({"op": "stop"})
        return closing(*arguments, **named)

    nanny.handlers["close_gracefully"] = stop


# ---- Others' preloads -----------------------------------------------------------------------------------------


def displaced_preloads(worker):
    """The preloads of the configuration, if they are not loaded because this one is: Dask reads them only without
    ``--preload``."""
    configured = dask.config.get(CONFIGURED, None) or []
    if len(worker.preloads) != 1 or not configured:
        return []
    logger.info("Loading the configured preloads too: %s", configured)
    names = [configured] if isinstance(configured, str) else list(configured)
    argv = dask.config.get(f"{CONFIGURED}-argv", None) or []
    return preloading.process_preloads(worker, names, argv, file_dir=worker.local_directory)
