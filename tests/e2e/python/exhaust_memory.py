"""Makes one worker of a Dask cluster use more memory than it may, and prints its name as JSON.

Arguments: address of the scheduler, MiB to use.
"""

import json
import sys

from distributed import Client


def exhaust(mebibytes):
    return len(b"x" * (mebibytes << 20))


address, mebibytes = sys.argv[1], int(sys.argv[2])
with Client(address, timeout=30) as client:
    workers = client.scheduler_info(n_workers=-1)["workers"]
    victim = min(workers)
    try:
        # Not a task: those are tried again on the other workers.
        client.run(exhaust, mebibytes, workers=[victim])
    except Exception as error:  # The worker is gone; how the client finds out depends on the version.
        print(json.dumps({"name": workers[victim]["name"], "error": type(error).__name__}))
    else:
        sys.exit(f"worker {workers[victim]['name']} survived {mebibytes} MiB")
