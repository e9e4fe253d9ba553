# The cluster of the demo. It stays when this program ends; a later one finds it.
with kube_cluster(n_workers=2, shutdown_on_close=False) as cluster, Client(cluster) as client:
    cluster.scale(2)
    report(workers=len(workers(client, 2)))
