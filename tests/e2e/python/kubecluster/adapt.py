# adapt(): workers come with the work and go with it; scale() ends it.
with kube_cluster(n_workers=1) as cluster, Client(cluster) as client:
    counts = [len(workers(client, 1))]
    cluster.adapt(minimum=1, maximum=3)
    futures = client.map(lambda index: time.sleep(1) or index, range(90), pure=False)
    counts.append(len(workers(client, 3)))
    right = client.gather(futures) == list(range(90))
    del futures
    counts.append(len(workers(client, 1)))
    cluster.adapt(minimum=2, maximum=3)
    counts.append(len(workers(client, 2)))
    cluster.scale(1)
    counts.append(len(workers(client, 1)))
    report(counts=counts, right=right, lost=lost(client))
