# More workers, for a cluster that is found by its name.
with KubeCluster.from_name(name, **access()) as cluster, Client(cluster) as client:
    cluster.scale(4)
    report(workers=len(workers(client, 4)))
