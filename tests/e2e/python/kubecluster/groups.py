def groups(cluster, client):
    """A second group: made, scaled and deleted by name, beside the default one."""
    first = names(client)
    cluster.add_worker_group("extra", n_workers=1, env={"ROLE": "extra"})
    second = sorted(set(workers(client, len(first) + 1)) - set(first))
    cluster.scale(2, worker_group="extra")
    third = workers(client, len(first) + 2)
    roles = sorted(client.run(lambda: os.environ.get("ROLE", "none")).values())
    cluster.delete_worker_group("extra")
    last = workers(client, len(first))
    return {"first": first, "second": second, "third": third, "roles": roles, "last": last}
