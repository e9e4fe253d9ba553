"""Computes results, keeps them on the cluster under a name, or takes them from there; counts what was executed.

Arguments: address of the scheduler, "keep", "take" or "drop" (which takes them for the last time), number of results.
"""

import json
import sys
import time

from distributed import Client, get_worker, wait

address, action, tasks = sys.argv[1], sys.argv[2], int(sys.argv[3])


def counted(index):
    get_worker().log_event("executions", index)
    return bytes([index]) * (1 << 16)


with Client(address, timeout=60) as client:
    if action == "keep":
        futures = client.map(counted, range(tasks), pure=False)
        wait(futures, 60)
        # A published dataset outlives its client.
        client.publish_dataset(futures, name="held")
    values = client.gather(client.get_dataset("held"))
    deadline = time.monotonic() + 10
    while (executions := len(client.get_events("executions"))) < tasks and time.monotonic() < deadline:
        time.sleep(0.1)
    if action == "drop":
        client.unpublish_dataset("held")
right = values == [bytes([index]) * (1 << 16) for index in range(tasks)]
print(json.dumps({"right": right, "executions": executions}))
