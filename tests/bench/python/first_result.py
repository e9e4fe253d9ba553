"""Makes a cluster as its users do, and times it until the first result. Arguments: namespace, image, name."""

import json
import sys
import time

from dask_kubernetes.operator import KubeCluster
from distributed import Client

namespace, image, name = sys.argv[1:]

begin = time.monotonic()
# The namespace, because kr8s knows only its default; the port-forward, because this is no pod.
cluster = KubeCluster(
    name=name, namespace=namespace, image=image, n_workers=2, port_forward_cluster_ip=True, quiet=True
)
there = time.monotonic()
with Client(cluster) as client:
    assert client.submit(sum, range(100)).result(timeout=120) == 4950
end = time.monotonic()
cluster.close()
print(json.dumps({"constructor": there - begin, "first_result": end - begin}))
