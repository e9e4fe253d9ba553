# Results that are held on the cluster survive its shrinking, and nothing is computed twice.
TASKS = 40

with kube_cluster(n_workers=2) as cluster, Client(cluster) as client:
    counts = [len(workers(client, 2))]
    cluster.scale(4)
    counts.append(len(workers(client, 4)))
    held = client.map(counted, range(TASKS), pure=False)
    wait(held, PATIENCE)
    holders = {worker for workers in client.who_has(held).values() for worker in workers}
    before = executions(client, TASKS)
    cluster.scale(2)
    counts.append(len(workers(client, 2)))
    values = client.gather(held)
    right = values == [bytes([index % 256]) * (1 << 16) for index in range(TASKS)]
    report(
        counts=counts,
        holders=len(holders),
        right=right,
        tasks=TASKS,
        executions=[before, executions(client, TASKS)],
        lost=lost(client),
    )
