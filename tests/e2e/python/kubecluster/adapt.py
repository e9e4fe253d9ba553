def adapt(cluster, client):
    """Workers come with the work and go with it; scale() ends it."""
    cluster.adapt(minimum=2, maximum=3)
    futures = client.map(lambda index: time.sleep(1) or index, range(45), pure=False)
    counts = [len(workers(client, 3))]
    right = client.gather(futures) == list(range(45))
    del futures
    counts.append(len(workers(client, 2)))
    cluster.scale(1)
    counts.append(len(workers(client, 1)))
    return {"counts": counts, "right": right}
