"""A scheduler and workers of the installed release in one process, told by lines of JSON what to do.

The first line out is {"address", "release"}; then one line out for each line in.
"""

import asyncio
import json
import os
import sys
import tempfile
import time

import distributed
from distributed import Client, Scheduler, Worker


class Lodger:
    pass


def occupy(gate, log):
    with open(log, "a") as file:
        file.write("x")
    while not os.path.exists(gate):
        time.sleep(0.01)
    return gate


def produce(log):
    with open(log, "a") as file:
        file.write("x")
    return b"x" * 1000


async def main(options):
    folder = tempfile.mkdtemp()
    gate = os.path.join(folder, "gate")
    logs, futures = [], []
    common = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    preload = options.get("preload", [])
    async with Scheduler(port=0, preload=preload, **common) as scheduler:
        workers = [
            Worker(
                scheduler.address,
                name=f"w{number}",
                nthreads=1,
                memory_limit=0,
                local_directory=folder,
                preload=preload,
                **common,
            )
            for number in range(options["workers"])
        ]
        await asyncio.gather(*workers)
        async with Client(scheduler.address, asynchronous=True) as client:
            reply({"address": scheduler.address, "release": distributed.__version__})
            addresses = {worker.name: worker.address for worker in workers}

            async def submit(order, function, *arguments):
                log = os.path.join(folder, str(len(logs)))
                logs.append(log)
                # Not submitted as a strict restriction: it must be able to run elsewhere after a loss.
                future = client.submit(
                    function,
                    *arguments,
                    log,
                    workers=[addresses[order["worker"]]],
                    allow_other_workers=True,
                    pure=False,
                )
                futures.append(future)
                while not os.path.exists(log):
                    await asyncio.sleep(0.01)
                return future

            while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
                order = json.loads(line)
                match order["do"]:
                    case "store":
                        for _ in range(order["keys"]):
                            await (await submit(order, produce))
                        reply({})
                    case "occupy":
                        await submit(order, occupy, gate)
                        reply({})
                    case "free":
                        open(gate, "w").close()
                        reply({})
                    case "settle":
                        future = client.submit(
                            Lodger, actor=True, workers=[addresses[order["worker"]]]
                        )
                        await future
                        futures.append(future)
                        reply({})
                    case "logged":
                        events = await client.scheduler.events(topic=order["topic"])
                        reply({"texts": [text for _, text in events]})
                    case "repeated":
                        await client.gather([f for f in futures if f.status != "error" and f.type is not None], errors="skip")
                        sizes = [os.path.getsize(log) for log in logs]
                        reply({"count": sum(size > 1 for size in sizes)})


def reply(message):
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
