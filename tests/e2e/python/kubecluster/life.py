# From KubeCluster() to close(): compute, logs, a second handle by name, discovery.
import asyncio

with kube_cluster(n_workers=2) as cluster:
    with Client(cluster) as client:
        connected = workers(client, 2)
        total = client.submit(sum, client.map(lambda x: x * x, range(100))).result(PATIENCE)
    logs = cluster.get_logs()

    async def found():
        return [found async for found, _ in discover()]

    discovered = asyncio.run(found())
    other = KubeCluster.from_name(name, **access(), quiet=True)
    with Client(other) as client:
        again = names(client)
    seen = {"image": other.image, "workers": other.n_workers}
    # Somebody who only looks does not end it.
    other.close()
    with Client(cluster) as client:
        survived = names(client)
try:
    KubeCluster.from_name(name, **access(), quiet=True)
    left = True
except ValueError:
    left = False
report(
    total=total,
    connected=connected,
    logs={pod: len(text) for pod, text in logs.items()},
    discovered=discovered,
    again=again,
    seen=seen,
    survived=survived,
    left=left,
)
