# Makes a cluster without workers, scales it to 2, and leaves it behind.
with kube_cluster(n_workers=0, shutdown_on_close=False) as cluster, Client(cluster) as client:
    cluster.scale(2)
    report(workers=len(workers(client, 2)))
