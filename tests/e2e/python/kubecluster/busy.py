# A cluster that shrinks while it computes: what runs ends where it runs.
TASKS = 24


def slow(index):
    time.sleep(0.5)
    return counted(index)


with kube_cluster(n_workers=4) as cluster, Client(cluster) as client:
    workers(client, 4)
    futures = client.map(slow, range(TASKS), pure=False)
    until("a first result", lambda: any(future.done() for future in futures))
    cluster.scale(1)
    values = client.gather(futures)
    connected = workers(client, 1)
    report(
        right=[value[0] for value in values] == list(range(TASKS)),
        connected=len(connected),
        tasks=TASKS,
        executions=executions(client, TASKS),
        lost=lost(client),
    )
