def life(cluster, client):
    """Compute, read logs, find the cluster, connect to it a second time."""
    connected = workers(client, 2)
    total = client.submit(sum, client.map(lambda x: x * x, range(100))).result(PATIENCE)
    logs = {pod: len(text) for pod, text in cluster.get_logs().items()}

    async def found():
        return [found async for found, _ in discover()]

    other = KubeCluster.from_name(name, **access())
    with Client(other) as second:
        again = names(second)
    seen = {"image": other.image, "workers": other.n_workers, "dashboard": other.dashboard_link}
    # Somebody who only looks does not end it.
    other.close()
    return {
        "total": total,
        "connected": connected,
        "logs": logs,
        "discovered": asyncio.run(found()),
        "again": again,
        "seen": seen,
        "survived": names(client),
    }
