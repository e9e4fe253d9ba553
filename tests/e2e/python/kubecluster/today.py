def today():
    """Two clusters, one after the other: the second starts right at once."""
    totals, modules = [], True
    for number in ("first", "second"):
        with kube_cluster(name=f"{name}-{number}", n_workers=1) as cluster, Client(cluster) as client:
            workers(client, 1)
            totals.append(client.submit(sum, range(100)).result(PATIENCE))
            cluster.scale(2)
            workers(client, 2)
            modules &= client.run_on_scheduler(lambda dask_scheduler: "dask_operator_queue" in dask_scheduler.handlers)
    report(totals=totals, modules=modules)


today()
