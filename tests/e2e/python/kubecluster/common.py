# What the scripts with a KubeCluster share; it goes before each of them.
# Arguments: namespace, image, name of the cluster, "inside" (a pod) or "outside" (by port-forward).
import asyncio
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
    """A KubeCluster as its users make one."""
    settings = dict(name=name, image=image, worker_command=WORKER, resources=RESOURCES)
    return KubeCluster(**{**access(), **settings, **options})


def access():
    return {"namespace": namespace, "port_forward_cluster_ip": where == "outside", "quiet": True}


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


def play(*scenes):
    """Creates a cluster of two workers, plays scenes with it, closes it, and reports what each of them saw."""
    with kube_cluster(n_workers=2) as cluster, Client(cluster) as client:
        workers(client, 2)
        facts = {scene.__name__: scene(cluster, client) for scene in scenes}
    try:
        KubeCluster.from_name(name, **access())
    except ValueError:
        facts["left"] = False
    else:
        facts["left"] = True
    report(**facts)


def report(**facts):
    print(json.dumps(facts))
