# Fewer workers, while all of them hold results and compute.
with KubeCluster.from_name(name, **access()) as cluster, Client(cluster) as client:
    report(**shrink(cluster, client, 2, 40))
