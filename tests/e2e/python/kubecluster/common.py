# What the scripts with a KubeCluster share; it goes before each of them.
# Arguments: namespace, image, name of the cluster, "inside" (a pod) or "outside" (by port-forward).
import json
import os
import sys
import time

from dask_kubernetes.operator import KubeCluster, discover, make_cluster_spec
from distributed import Client, get_worker, wait

namespace, image, name, where = sys.argv[1:5]
PATIENCE = 120
WORKER = ["dask-worker", "--nthreads", "1", "--no-nanny", "--memory-limit", "0"]
RESOURCES = {"requests": {"cpu": "50m", "memory": "128Mi"}}


def kube_cluster(**options):
    """A KubeCluster as its users make one; the namespace, because kr8s knows no pod's own."""
    settings = dict(name=name, image=image, worker_command=WORKER, resources=RESOURCES, quiet=True)
    return KubeCluster(**{**access(), **settings, **options})


def access():
    return {"namespace": namespace, "port_forward_cluster_ip": where == "outside"}


def until(what, holds):
    """Waits for something and returns it; fails with what was seen instead."""
    deadline = time.monotonic() + PATIENCE
    while not (seen := holds()):
        if time.monotonic() > deadline:
            sys.exit(f"{what} did not happen within {PATIENCE} s: {seen!r}")
        time.sleep(0.2)
    return seen


def names(client):
    """The names of the connected workers."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return sorted(worker["name"] for worker in workers.values())


def workers(client, count):
    """Waits until exactly so many workers are connected."""
    seen = []

    def exactly():
        seen[:] = names(client)
        return len(seen) == count

    until(f"{count} workers", exactly)
    return list(seen)


def counted(index, size=1 << 16):
    """A task that leaves a trace of each of its executions on the scheduler."""
    get_worker().log_event("executions", index)
    return bytes([index % 256]) * size


def executions(client, at_least):
    """How often `counted` was executed; the traces arrive a moment after the results."""

    def count():
        return len(client.get_events("executions"))

    until(f"{at_least} executions", lambda: count() >= at_least)
    return count()


def lost(client):
    """How many results went away with workers, as the scheduler tells it."""
    events = [event for _, event in client.get_events("all") or ()]
    gone = [event for event in events if event.get("action") == "remove-worker"]
    return sum(len(event["lost-computed-tasks"]) for event in gone)


def report(**facts):
    print(json.dumps(facts))
