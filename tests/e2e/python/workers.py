"""Waits until exactly so many workers are connected to a scheduler, and prints their names as JSON.

Arguments: address of the scheduler, number of workers, seconds to wait.
"""

import json
import sys
import time

from distributed import Client

address, wanted, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with Client(address, timeout=patience) as client:
    deadline = time.monotonic() + patience
    while True:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        names = sorted(worker["name"] for worker in workers.values())
        if len(names) == wanted:
            break
        if time.monotonic() > deadline:
            sys.exit(f"{len(names)} workers instead of {wanted} after {patience:.0f} s: {', '.join(names)}")
        time.sleep(0.1)
print(json.dumps({"names": names}))
