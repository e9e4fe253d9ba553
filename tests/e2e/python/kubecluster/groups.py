# A second group: made, scaled and deleted by name, beside the default one.
with kube_cluster(n_workers=1) as cluster, Client(cluster) as client:
    first = workers(client, 1)
    cluster.add_worker_group("extra", n_workers=1, env={"ROLE": "extra"})
    second = sorted(set(workers(client, 2)) - set(first))
    cluster.scale(2, worker_group="extra")
    third = workers(client, 3)
    roles = sorted(client.run(lambda: os.environ.get("ROLE", "none")).values())
    cluster.delete_worker_group("extra")
    last = workers(client, 1)
    report(first=first, second=second, third=third, roles=roles, last=last)
