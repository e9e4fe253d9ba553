"""What the tests let workers do."""


def note(path, key):
    with open(path, "a") as file:
        file.write(f"{key}\n")


def result(path, key, size):
    note(path, key)
    return bytes(size)


def slow(path, key, seconds):
    import time

    note(path, key)
    time.sleep(seconds)
    return key


def until(path, key, flag):
    """Runs until the file `flag` exists."""
    import os
    import time

    note(path, key)
    while not os.path.exists(flag):
        time.sleep(0.02)
    return key


class Counter:
    def __init__(self):
        self.value = 0

    def increment(self):
        self.value += 1
        return self.value


def note_end(dask_worker, path):
    """Notes when this worker has closed, and when its process ends."""
    import asyncio
    import atexit
    import time

    async def closed():
        await dask_worker.finished()
        note(path, time.monotonic())

    dask_worker.note_end = asyncio.run_coroutine_threadsafe(closed(), dask_worker.loop.asyncio_loop)
    atexit.register(lambda: note(path, time.monotonic()))
