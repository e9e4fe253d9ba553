def counted(index, seconds=0.0):
    """A task that leaves a trace on the scheduler each time it begins."""
    worker = get_worker()
    worker.log_event("executions", (index, worker.name))
    time.sleep(seconds)
    return bytes([index]) * (1 << 16)


def executions(client):
    """Every execution of `counted`, also one that was cut off, with its worker."""
    return [event for _, event in client.get_events("executions") or ()]


def removals(client):
    """What the scheduler wrote down when it removed workers."""
    events = [event for _, event in client.get_events("all") or ()]
    return [event for event in events if event.get("action") == "remove-worker"]


def shrink(cluster, client, count, tasks):
    """Scales down while every worker holds results and computes, and tells whether anything was done twice."""
    before = names(client)
    # An earlier program may have used the cluster in the same way.
    executed, earlier = len(executions(client)), len(removals(client))
    held = client.map(counted, range(tasks), pure=False)
    wait(held, PATIENCE)
    running = client.map(counted, range(tasks), seconds=0.5, pure=False)
    until("a task on every worker", lambda: all(client.processing().values()))
    cluster.scale(count)
    unfinished = sum(not future.done() for future in running)
    values = client.gather(held + running)
    after = workers(client, count)
    # Traces may arrive after results.
    until("a trace of every task", lambda: len(executions(client)) >= executed + 2 * tasks)
    done = executions(client)[executed:]
    gone = set(before) - set(after)
    removed = removals(client)[earlier:]
    return {
        "workers": [len(before), len(after)],
        "tasks": 2 * tasks,
        "unfinished": unfinished,
        "executions": len(done),
        "on_gone": sum(worker in gone for _, worker in done),
        "removed": len(removed),
        "lost": sum(len(event["lost-computed-tasks"]) for event in removed),
        "right": values == [bytes([index]) * (1 << 16) for index in range(tasks)] * 2,
    }


def scaling(cluster, client):
    cluster.scale(4)
    workers(client, 4)
    return shrink(cluster, client, 2, 40)
